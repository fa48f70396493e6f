"""Tenants: whom work, files and keys belong to."""

from sqlalchemy.orm import Session

from service.store.database import database_now, insert_into
from service.store.tables import Tenant


def ensure(db: Session, tenant_id: str) -> None:
    """Make a tenant if there is none of this id."""
    row = insert_into(db, Tenant).values(id=tenant_id, weight=1.0, created_at=database_now())
    db.execute(row.on_conflict_do_nothing(index_elements=["id"]))


def set_weight(db: Session, tenant_id: str, weight: float) -> None:
    """Give a tenant a larger or smaller share of the workers; 1 is everybody's."""
    row = insert_into(db, Tenant).values(id=tenant_id, weight=weight, created_at=database_now())
    db.execute(row.on_conflict_do_update(index_elements=["id"], set_={"weight": row.excluded.weight}))
