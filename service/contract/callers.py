"""Who asks, and what they may."""

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_TENANT = "default"


class Role(StrEnum):
    """What a key opens: its tenant's own work, or the paths under /v1/admin as well."""

    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant that a request acts for, and the key that it came with, if keys are in use."""

    tenant_id: str = DEFAULT_TENANT
    key_id: str | None = None
    role: Role = Role.USER

    @property
    def is_admin(self) -> bool:
        """Whether the paths under /v1/admin are open to it."""
        return self.role is Role.ADMIN
