"""Idempotency keys: the same key on the same route makes one object, however often it is sent."""

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.orm import Session

from service.errors import KeyReused
from service.store.database import database_now, insert_into
from service.store.tables import Idempotency


def remember(db: Session, tenant_id: str, *, route: str, key: str, body_sha256: str, object_id: str) -> str:
    """The id of the object that this key made: `object_id` if we are the first, else the first one's.

    In the transaction that inserts the object: a second sender waits until the first has committed.
    """
    row = insert_into(db, Idempotency).values(
        tenant_id=tenant_id,
        route=route,
        key=key,
        body_sha256=body_sha256,
        object_id=object_id,
        created_at=database_now(),
    )
    db.execute(row.on_conflict_do_nothing(index_elements=["tenant_id", "route", "key"]))
    known = find(db, tenant_id, route=route, key=key, body_sha256=body_sha256)
    assert known is not None
    return known


def find(db: Session, tenant_id: str, *, route: str, key: str, body_sha256: str) -> str | None:
    """What this key made before, if anything; KeyReused if it was another request."""
    known = db.execute(
        select(Idempotency.object_id, Idempotency.body_sha256).where(
            Idempotency.tenant_id == tenant_id, Idempotency.route == route, Idempotency.key == key
        )
    ).first()
    if known is None:
        return None
    if known.body_sha256 != body_sha256:
        raise KeyReused(
            "This Idempotency-Key was used with another request.",
            param="Idempotency-Key",
            hint="Use a new key for a new request.",
        )
    return str(known.object_id)


def replace(db: Session, tenant_id: str, *, route: str, key: str, gone_id: str, object_id: str) -> str:
    """Let the key stand for `object_id`, since what it made is gone; returns what it stands for now.

    Of several who replace at once one does, and the others get its object.
    """
    mine = (Idempotency.tenant_id == tenant_id, Idempotency.route == route, Idempotency.key == key)
    replaced = update(Idempotency).where(*mine, Idempotency.object_id == gone_id).values(object_id=object_id)
    db.execute(replaced.execution_options(synchronize_session=False))
    return str(db.scalar(select(Idempotency.object_id).where(*mine)))


def any_old(db: Session, older_than_seconds: float) -> bool:
    """Whether there is something to forget."""
    old = select(Idempotency.key).where(Idempotency.created_at < database_now() - older_than_seconds)
    return db.scalar(old.limit(1)) is not None


def forget_old(db: Session, older_than_seconds: float, limit: int) -> int:
    """Forget up to `limit` keys of that age; returns how many."""
    columns = (Idempotency.tenant_id, Idempotency.route, Idempotency.key)
    old = (
        select(*columns)
        .where(Idempotency.created_at < database_now() - older_than_seconds)
        .order_by(Idempotency.created_at)
        .limit(limit)
    )
    forgotten = delete(Idempotency).where(tuple_(*columns).in_(old)).returning(Idempotency.key)
    return len(db.execute(forgotten.execution_options(synchronize_session=False)).all())
