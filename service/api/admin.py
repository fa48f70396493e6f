"""/v1/admin: keys and tenants, for admin keys; and for this machine while no key is stored."""

from typing import Annotated

from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from service.actions.make_key import make_key
from service.actions.put_tenant import create_tenant, update_tenant
from service.actions.read_keys import get_key, list_keys
from service.actions.read_tenants import get_tenant, list_tenants
from service.actions.revoke_key import revoke_key
from service.api.context import current_caller, current_parts
from service.api.described import Described
from service.api.errors import REFUSALS
from service.api.headers import IdempotencyHeader
from service.contract.admin import (
    CreatedKey,
    CreateKey,
    CreateTenant,
    KeyList,
    KeyObject,
    TenantList,
    TenantObject,
    UpdateTenant,
)
from service.errors import PermissionDenied

api = APIBlueprint("admin", __name__, url_prefix="/v1/admin", abp_responses=REFUSALS)

Limit = Annotated[int, Field(ge=1, le=1000)]


class KeyPath(BaseModel):
    """key_id: `key_…`."""

    key_id: str


class TenantPath(BaseModel):
    """tenant_id: its name."""

    tenant_id: str


class KeysQuery(Described):
    """A page of keys, newest first. tenant: whose; all tenants' by default. after: the last id of the page before."""

    tenant: str | None = None
    after: str | None = None
    limit: Limit = 100


class TenantsQuery(Described):
    """A page of tenants. after: the last id of the page before."""

    after: str | None = None
    limit: Limit = 100


@api.before_request
def _require_admin() -> None:
    # Not 404: these paths are documented, and say nothing about anybody.
    if not current_caller().is_admin:
        raise PermissionDenied(
            "This path is for admin keys.", hint="Make one on the server: sluice keys create --admin"
        )


@api.post("/keys", responses={200: CreatedKey})
def create_key(header: IdempotencyHeader, body: CreateKey) -> CreatedKey:
    """Make a key; its secret is in this answer and nowhere else."""
    return make_key(current_parts(), current_caller(), body, idempotency_key=header.idempotency_key)


@api.get("/keys", responses={200: KeyList})
def keys(query: KeysQuery) -> KeyList:
    """A page of keys, revoked ones included."""
    return list_keys(current_parts(), tenant_id=query.tenant, after=query.after, limit=query.limit)


@api.get("/keys/<key_id>", responses={200: KeyObject})
def key(path: KeyPath) -> KeyObject:
    """One key."""
    return get_key(current_parts(), path.key_id)


@api.delete("/keys/<key_id>", responses={200: KeyObject})
def delete_key(path: KeyPath) -> KeyObject:
    """Revoke a key: within a second nobody accepts it. The last admin key that works is kept."""
    return revoke_key(current_parts(), path.key_id)


@api.post("/tenants", responses={200: TenantObject})
def make_tenant(body: CreateTenant) -> TenantObject:
    """Make a tenant with its share of the workers and its quotas."""
    return create_tenant(current_parts(), body)


@api.get("/tenants", responses={200: TenantList})
def tenants(query: TenantsQuery) -> TenantList:
    """A page of tenants, by id."""
    return list_tenants(current_parts(), after=query.after, limit=query.limit)


@api.get("/tenants/<tenant_id>", responses={200: TenantObject})
def tenant(path: TenantPath) -> TenantObject:
    """One tenant."""
    return get_tenant(current_parts(), path.tenant_id)


@api.post("/tenants/<tenant_id>", responses={200: TenantObject})
def change_tenant(path: TenantPath, body: UpdateTenant) -> TenantObject:
    """Change a tenant's share or its quotas; every process knows it within a second."""
    return update_tenant(current_parts(), path.tenant_id, body)
