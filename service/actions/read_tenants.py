"""Look at tenants: one, or a page of them."""

from service.actions.parts import Parts
from service.actions.wire import filled
from service.contract.admin import TenantList, TenantObject, TenantQuotas
from service.contract.ids import is_tenant_id
from service.errors import NotFound
from service.store import tenants
from service.store.quotas import QUOTAS
from service.store.tables import Tenant


def get_tenant(parts: Parts, tenant_id: str) -> TenantObject:
    """One tenant."""
    with parts.database.reading() as db:
        row = tenants.get(db, tenant_id) if is_tenant_id(tenant_id) else None
    if row is None:
        raise unknown_tenant()
    return _tenant_object(row)


def list_tenants(parts: Parts, *, after: str | None, limit: int) -> TenantList:
    """A page of tenants."""
    if after is not None and not is_tenant_id(after):
        raise unknown_tenant("after")
    with parts.database.reading() as db:
        rows = tenants.page(db, after=after, limit=limit + 1)
    return filled(TenantList(data=[_tenant_object(row) for row in rows[:limit]]), has_more=len(rows) > limit)


def unknown_tenant(param: str = "tenant_id") -> NotFound:
    """There is none."""
    return NotFound("There is no tenant of this id.", param=param, code="tenant_not_found")


def _tenant_object(row: Tenant) -> TenantObject:
    stored = {name: getattr(row, name) for name in QUOTAS}
    return TenantObject(
        id=row.id,
        weight=row.weight,
        quotas=TenantQuotas(
            **{name: "unlimited" if value == tenants.UNLIMITED else value for name, value in stored.items()}
        ),
        created_at=int(row.created_at),
    )
