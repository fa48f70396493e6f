"""Make an API key worthless."""

from service.actions.parts import Parts
from service.actions.read_keys import get_key, unknown_key
from service.contract.admin import KeyObject
from service.contract.ids import is_key_id
from service.store import keys


def revoke_key(parts: Parts, key_id: str) -> KeyObject:
    """Revoke a key; every process refuses it within a second. The last admin key is kept: Conflict."""
    if not is_key_id(key_id):
        raise unknown_key()
    with parts.database.transaction() as db:
        keys.revoke(db, key_id, keep_an_admin=True)
    parts.door.callers.forget()
    return get_key(parts, key_id)
