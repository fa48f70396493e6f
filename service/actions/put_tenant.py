"""Make a tenant, or change its share of the workers and its quotas."""

from typing import Any

from service.actions.parts import Parts
from service.actions.read_tenants import get_tenant, unknown_tenant
from service.contract.admin import CreateTenant, TenantObject, UpdateTenant
from service.contract.ids import is_tenant_id
from service.errors import Conflict
from service.store import tenants


def create_tenant(parts: Parts, wanted: CreateTenant) -> TenantObject:
    """Make a tenant; Conflict if there is one of this id."""
    with parts.database.transaction() as db:
        if tenants.get(db, wanted.id) is not None:
            raise Conflict(
                "There is a tenant of this id.",
                param="id",
                code="tenant_exists",
                hint=f"Change it with POST /v1/admin/tenants/{wanted.id}.",
            )
        tenants.put(db, wanted.id, _columns(wanted))
    return get_tenant(parts, wanted.id)


def update_tenant(parts: Parts, tenant_id: str, wanted: UpdateTenant) -> TenantObject:
    """Change what `wanted` names; every process knows it within a second."""
    with parts.database.transaction() as db:
        if not is_tenant_id(tenant_id) or tenants.get(db, tenant_id) is None:
            raise unknown_tenant()
        tenants.put(db, tenant_id, _columns(wanted))
    parts.meters.forget()
    return get_tenant(parts, tenant_id)


def _columns(wanted: UpdateTenant) -> dict[str, Any]:
    named = wanted.model_dump(exclude_unset=True)
    columns = {"weight": named["weight"]} if "weight" in named else {}
    for name, value in named.get("quotas", {}).items():
        columns[name] = tenants.UNLIMITED if value == "unlimited" else value
    return columns
