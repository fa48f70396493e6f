"""Look at API keys: one, or a page of them."""

from service.actions.parts import Parts
from service.actions.wire import filled, whole_seconds
from service.contract.admin import KeyList, KeyObject
from service.contract.ids import is_key_id, is_tenant_id
from service.errors import NotFound
from service.store import keys
from service.store.tables import Key


def get_key(parts: Parts, key_id: str) -> KeyObject:
    """One key of any tenant, revoked ones included."""
    with parts.database.reading() as db:
        row = keys.get(db, key_id) if is_key_id(key_id) else None
    if row is None:
        raise unknown_key()
    return key_object(row)


def list_keys(parts: Parts, *, tenant_id: str | None, after: str | None, limit: int) -> KeyList:
    """A page of the keys of one tenant, or of all."""
    if after is not None and not is_key_id(after):
        raise unknown_key("after")
    if tenant_id is not None and not is_tenant_id(tenant_id):
        return KeyList(data=[])
    with parts.database.reading() as db:
        rows = keys.page(db, tenant_id, after=after, limit=limit + 1)
    return filled(KeyList(data=[key_object(row) for row in rows[:limit]]), has_more=len(rows) > limit)


def key_object(row: Key) -> KeyObject:
    """A key as an administrator sees it: all but the secret, which nobody has."""
    return KeyObject(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        role=row.role,
        prefix=row.prefix,
        created_at=int(row.created_at),
        expires_at=whole_seconds(row.expires_at),
        last_used_at=whole_seconds(row.last_used_at),
        revoked_at=whole_seconds(row.revoked_at),
    )


def unknown_key(param: str = "key_id") -> NotFound:
    """There is none."""
    return NotFound("There is no key of this id.", param=param, code="key_not_found")
