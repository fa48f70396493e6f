"""Keys and tenants on the wire, for those who administer. Ours; OpenAI's paths for this are elsewhere."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.contract.callers import DEFAULT_TENANT, Role
from service.contract.ids import TENANT_ID

MAX_EXPIRY_SECONDS = 10 * 366 * 24 * 3600
MAX_WEIGHT = 1000.0
MAX_QUOTA = 2**53

# A number; no limit, whatever the server's settings say; or null: what the server's settings say.
Quota = Annotated[int, Field(ge=0, le=MAX_QUOTA)] | Literal["unlimited"] | None


class CreateKey(BaseModel):
    """A key to be made. expires_in_seconds: from now; a key without it works until it is revoked."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: str = Field(default=DEFAULT_TENANT, pattern=TENANT_ID)
    name: str | None = Field(default=None, min_length=1, max_length=100)
    role: Role = Role.USER
    expires_in_seconds: int | None = Field(default=None, ge=1, le=MAX_EXPIRY_SECONDS)


class KeyObject(BaseModel):
    """An API key. prefix: the start of its secret. Times are Unix seconds; last_used_at is right to the minute."""

    id: str
    object: Literal["key"] = "key"
    tenant_id: str
    name: str | None
    role: Role
    prefix: str
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    revoked_at: int | None


class CreatedKey(KeyObject):
    """A new key. key: its secret, shown only now; null where the same Idempotency-Key made it before."""

    key: str | None


class KeyList(BaseModel):
    """A page of keys, newest first."""

    object: Literal["list"] = "list"
    data: list[KeyObject]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class TenantQuotas(BaseModel):
    """How much a tenant may ask for; `service/actions/check_quotas.py` says what each counts."""

    model_config = ConfigDict(extra="forbid")

    requests_per_minute: Quota = None
    tokens_per_day: Quota = None
    queued_jobs: Quota = None
    stored_bytes: Quota = None


class UpdateTenant(BaseModel):
    """What to change of a tenant: fields that are not given stay as they are.

    weight: its share of the workers against other tenants', each of whom has 1.
    """

    model_config = ConfigDict(extra="forbid")

    weight: float = Field(default=1.0, gt=0, le=MAX_WEIGHT, allow_inf_nan=False)
    quotas: TenantQuotas = Field(default_factory=TenantQuotas)


class CreateTenant(UpdateTenant):
    """A tenant to be made."""

    id: str = Field(pattern=TENANT_ID)


class TenantObject(BaseModel):
    """A tenant, its share of the workers and its own quotas."""

    id: str
    object: Literal["tenant"] = "tenant"
    weight: float
    quotas: TenantQuotas
    created_at: int


class TenantList(BaseModel):
    """A page of tenants, by id."""

    object: Literal["list"] = "list"
    data: list[TenantObject]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False
