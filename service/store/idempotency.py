"""Idempotency keys: the same key on the same route makes one object, however often it is sent."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.errors import Conflict
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
    """What this key made before, if anything; Conflict if it was another request."""
    known = db.execute(
        select(Idempotency.object_id, Idempotency.body_sha256).where(
            Idempotency.tenant_id == tenant_id, Idempotency.route == route, Idempotency.key == key
        )
    ).first()
    if known is None:
        return None
    if known.body_sha256 != body_sha256:
        raise Conflict(
            "This Idempotency-Key was used with another request.",
            param="Idempotency-Key",
            code="idempotency_key_reused",
            hint="Use a new key for a new request.",
        )
    return str(known.object_id)
