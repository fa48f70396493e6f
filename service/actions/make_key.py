"""Make an API key."""

import hashlib

from service.actions.once import Once, SentBefore, be_first
from service.actions.parts import Parts
from service.actions.read_keys import get_key, key_object
from service.contract.admin import CreatedKey, CreateKey
from service.contract.callers import Caller, Role
from service.errors import Conflict
from service.store import keys

ROUTE = "/v1/admin/keys"


def make_key(
    parts: Parts, caller: Caller, wanted: CreateKey, *, idempotency_key: str | None = None
) -> CreatedKey:
    """Make a key for a tenant, who is made too if new. Its secret is in this answer and nowhere else."""
    once = Once(ROUTE, idempotency_key, hashlib.sha256(wanted.model_dump_json().encode()).hexdigest())
    try:
        with parts.database.transaction() as db:
            if wanted.role is not Role.ADMIN and not keys.any_exist(db):
                raise _would_lock_out()
            row, secret = keys.create(
                db,
                wanted.tenant_id,
                wanted.name,
                role=wanted.role,
                expires_in_seconds=wanted.expires_in_seconds,
            )
            be_first(db, caller, once, row.id)
    except SentBefore as before:
        return CreatedKey(**dict(get_key(parts, before.object_id)), key=None)
    return CreatedKey(**dict(key_object(row)), key=secret)


def _would_lock_out() -> Conflict:
    return Conflict(
        "From the first key on every request needs one, and with this one nobody could make another here.",
        param="role",
        code="first_key_must_be_admin",
        hint='Make a key with {"role": "admin"} first, or use: sluice keys create',
    )
