"""API keys: shown once, kept as a hash."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from sqlalchemy import exists, insert, select, update
from sqlalchemy.orm import Session

from service.store import tenants
from service.store.database import database_now
from service.store.tables import Key

SECRET_START = "sk-sluice-"
# Enough of the secret to find its row, too little to guess the rest.
PREFIX_LENGTH = len(SECRET_START) + 8


def create(db: Session, tenant_id: str, name: str | None = None) -> tuple[Key, str]:
    """Make a key for a tenant, who is made too if new. Returns the row and the secret, which is not kept."""
    tenants.ensure(db, tenant_id)
    secret = SECRET_START + secrets.token_urlsafe(32)
    row = insert(Key).values(
        id=f"key_{secrets.token_hex(12)}",
        tenant_id=tenant_id,
        name=name,
        prefix=secret[:PREFIX_LENGTH],
        sha256=_hash(secret),
        created_at=database_now(),
    )
    return db.scalars(row.returning(Key)).one(), secret


def authenticate(db: Session, secret: str) -> Key | None:
    """The key that a secret belongs to, unless it was revoked."""
    known = select(Key).where(Key.prefix == secret[:PREFIX_LENGTH], Key.revoked_at.is_(None))
    given = _hash(secret)
    for key in db.scalars(known):
        if hmac.compare_digest(key.sha256, given):
            return key
    return None


def any_exist(db: Session) -> bool:
    """Whether a key was ever made: from then on every request needs one, also after all were revoked."""
    return bool(db.scalar(select(exists().where(Key.id.is_not(None)))))


def revoke(db: Session, key_id: str) -> bool:
    """Make a key worthless; False if there is none or it is already."""
    revoked = update(Key).where(Key.id == key_id, Key.revoked_at.is_(None)).values(revoked_at=database_now())
    return db.execute(revoked.returning(Key.id)).first() is not None


def page(db: Session, tenant_id: str) -> Sequence[Key]:
    """A tenant's keys, oldest first."""
    return db.scalars(select(Key).where(Key.tenant_id == tenant_id).order_by(Key.created_at, Key.id)).all()


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
