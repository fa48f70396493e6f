"""Tenants: whom work, files and keys belong to, their share of the workers and their quotas."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store.database import database_now, insert_into
from service.store.tables import Tenant

# What a quota says that knows no limit, whatever the settings say.
UNLIMITED = -1


def ensure(db: Session, tenant_id: str) -> None:
    """Make a tenant if there is none of this id."""
    row = insert_into(db, Tenant).values(id=tenant_id, weight=1.0, created_at=database_now())
    db.execute(row.on_conflict_do_nothing(index_elements=["id"]))


def get(db: Session, tenant_id: str) -> Tenant | None:
    """One tenant."""
    return db.scalar(select(Tenant).where(Tenant.id == tenant_id).execution_options(populate_existing=True))


def page(db: Session, *, after: str | None = None, limit: int = 100) -> Sequence[Tenant]:
    """Tenants by id. after: the last id seen."""
    tenants = select(Tenant).order_by(Tenant.id).limit(limit)
    if after is not None:
        tenants = tenants.where(Tenant.id > after)
    return db.scalars(tenants).all()


def set_weight(db: Session, tenant_id: str, weight: float) -> None:
    """Give a tenant a larger or smaller share of the workers; 1 is everybody's."""
    put(db, tenant_id, {"weight": weight})


def put(db: Session, tenant_id: str, wanted: Mapping[str, Any]) -> None:
    """Make a tenant or change it. wanted: `weight` and quotas by their columns' names; others stay as they are."""
    row = insert_into(db, Tenant).values(**{"weight": 1.0, **wanted}, id=tenant_id, created_at=database_now())
    changed = {name: row.excluded[name] for name in wanted}
    if changed:
        db.execute(row.on_conflict_do_update(index_elements=["id"], set_=changed))
    else:
        db.execute(row.on_conflict_do_nothing(index_elements=["id"]))
