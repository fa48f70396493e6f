"""What one process knows of its tenants' quotas and of what is used of them, a second old at most."""

from dataclasses import dataclass
from functools import partial

from service.actions.remembered import Remembered
from service.settings import Settings
from service.store import quotas
from service.store.database import Database
from service.store.quotas import QUOTAS, Quotas
from service.store.tenants import UNLIMITED

KNOWN_SECONDS = 1.0


@dataclass(slots=True)
class _Waiting:
    num_jobs: int


class Meters:
    """Quotas as they are in force, None where there is no limit, and how much of them is used."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._defaults = Quotas(**{name: getattr(settings, f"quota_{name}") for name in QUOTAS})
        self._database = database
        self._quotas: Remembered[str, Quotas] = Remembered(KNOWN_SECONDS)
        self._tokens: Remembered[str, int] = Remembered(KNOWN_SECONDS)
        self._waiting: Remembered[str, _Waiting] = Remembered(KNOWN_SECONDS)

    def quotas(self, tenant_id: str) -> Quotas:
        """What a tenant may use."""
        return self._quotas.recall(tenant_id, partial(self._in_force, tenant_id)) or Quotas()

    def tokens_today(self, tenant_id: str) -> int:
        """Tokens of the tenant's answers since midnight (UTC)."""
        return self._tokens.recall(tenant_id, partial(self._count_tokens, tenant_id)) or 0

    def add_waiting_job(self, tenant_id: str, at_most: int) -> bool:
        """Count one more waiting job unless there are `at_most` already."""
        waiting = self._waiting.recall(tenant_id, partial(self._count_waiting, tenant_id, at_most))
        assert waiting is not None
        if waiting.num_jobs >= at_most:
            return False
        waiting.num_jobs += 1
        return True

    def bytes_stored(self, tenant_id: str) -> int:
        """The size of the tenant's files, as it is now."""
        with self._database.reading() as db:
            return quotas.bytes_stored(db, tenant_id)

    def forget(self) -> None:
        """Look again: somebody changed a tenant."""
        self._quotas.forget()
        self._waiting.forget()

    def _in_force(self, tenant_id: str) -> Quotas:
        with self._database.reading() as db:
            own = quotas.of(db, tenant_id)
        said = {name: getattr(own, name) for name in QUOTAS}
        chosen = {
            name: getattr(self._defaults, name) if said[name] is None else said[name] for name in QUOTAS
        }
        return Quotas(**{name: None if chosen[name] == UNLIMITED else chosen[name] for name in QUOTAS})

    def _count_tokens(self, tenant_id: str) -> int:
        with self._database.reading() as db:
            return quotas.tokens_today(db, tenant_id)

    def _count_waiting(self, tenant_id: str, at_most: int) -> _Waiting:
        with self._database.reading() as db:
            return _Waiting(quotas.jobs_waiting(db, tenant_id, at_most))
