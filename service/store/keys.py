"""API keys: shown once, kept as a hash."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, and_, exists, insert, or_, select, update
from sqlalchemy.orm import Session

from service.contract.callers import Role
from service.errors import Conflict
from service.store import tenants
from service.store.database import database_now
from service.store.paging import newest_first
from service.store.tables import Key

SECRET_START = "sk-sluice-"
# Enough of the secret to find its row, too little to guess the rest.
PREFIX_LENGTH = len(SECRET_START) + 8
_SECRET = re.compile(rf"{SECRET_START}[A-Za-z0-9_-]{{43}}")


def create(
    db: Session,
    tenant_id: str,
    name: str | None = None,
    *,
    role: Role = Role.USER,
    expires_in_seconds: float | None = None,
) -> tuple[Key, str]:
    """Make a key for a tenant, who is made too if new. Returns the row and the secret, which is not kept."""
    tenants.ensure(db, tenant_id)
    secret = SECRET_START + secrets.token_urlsafe(32)
    now = database_now()
    row = insert(Key).values(
        id=f"key_{secrets.token_hex(12)}",
        tenant_id=tenant_id,
        name=name,
        prefix=secret[:PREFIX_LENGTH],
        sha256=_hash(secret),
        role=role,
        created_at=now,
        expires_at=None if expires_in_seconds is None else now + expires_in_seconds,
    )
    return db.scalars(row.returning(Key)).one(), secret


def authenticate(db: Session, secret: str) -> Key | None:
    """The key that a secret belongs to, unless it was revoked or has expired."""
    if not is_secret(secret):
        return None
    known = select(Key).where(Key.prefix == secret[:PREFIX_LENGTH], _is_valid())
    given = _hash(secret)
    for key in db.scalars(known):
        if hmac.compare_digest(key.sha256, given):
            return key
    return None


def is_secret(text: str) -> bool:
    """Whether this has the form of our secrets: anything else need not be looked for."""
    return _SECRET.fullmatch(text) is not None


def shown(secret: str) -> str:
    """As much of what was sent as a log may know: the start of a key of ours, nothing of another's."""
    return f"{secret[:PREFIX_LENGTH]}…" if is_secret(secret) else "of another form"


def any_exist(db: Session) -> bool:
    """Whether a key was ever made: from then on every request needs one, also after all were revoked."""
    return bool(db.scalar(select(exists().where(Key.id.is_not(None)))))


def any_valid(db: Session) -> bool:
    """Whether some key still lets its holder in."""
    return bool(db.scalar(select(exists().where(_is_valid()))))


def get(db: Session, key_id: str) -> Key | None:
    """A key of any tenant, revoked ones included."""
    return db.scalar(select(Key).where(Key.id == key_id).execution_options(populate_existing=True))


def revoke(db: Session, key_id: str, *, keep_an_admin: bool = False) -> bool:
    """Make a key worthless; False if there is none or it is already.

    keep_an_admin: Conflict if nobody but this key's holder may administer, who would lock everybody out.
    """
    if keep_an_admin and _valid_admins(db) == [key_id]:
        raise Conflict(
            "This is the last admin key that still works.",
            param="key_id",
            code="last_admin_key",
            hint='Make another one first ({"role": "admin"}), or revoke it on the server: sluice keys revoke ID',
        )
    revoked = update(Key).where(Key.id == key_id, Key.revoked_at.is_(None)).values(revoked_at=database_now())
    return db.execute(revoked.returning(Key.id)).first() is not None


def mark_used(db: Session, key_ids: Collection[str]) -> None:
    """Say that these keys are in use now."""
    used = update(Key).where(Key.id.in_(key_ids)).values(last_used_at=database_now())
    db.execute(used.execution_options(synchronize_session=False))


def page(
    db: Session, tenant_id: str | None = None, *, after: str | None = None, limit: int = 1000
) -> Sequence[Key]:
    """Keys of one tenant or of all, newest first, revoked ones included. after: the last id seen."""
    keys = select(Key)
    if tenant_id is not None:
        keys = keys.where(Key.tenant_id == tenant_id)
    return db.scalars(newest_first(keys, Key, after).limit(limit)).all()


def _is_valid() -> ColumnElement[bool]:
    return and_(Key.revoked_at.is_(None), or_(Key.expires_at.is_(None), Key.expires_at > database_now()))


def _valid_admins(db: Session) -> list[str]:
    """Ids of the admin keys that still work, locked, so that two admins cannot revoke each other at once."""
    admins = select(Key.id).where(Key.role == Role.ADMIN, _is_valid()).order_by(Key.id)
    return list(db.scalars(admins.with_for_update()))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
