"""Who asks."""

from dataclasses import dataclass

DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant that a request acts for, and the key that it came with, if keys are in use."""

    tenant_id: str = DEFAULT_TENANT
    key_id: str | None = None
