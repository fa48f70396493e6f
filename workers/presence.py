"""A worker's row in SQL: a new id each time it enters, a lease while it stays."""

import contextlib
import platform
import threading
from collections.abc import Callable

from sqlalchemy.orm import Session

from service.actions.parts import Parts
from service.contract.jobs import WorkerId
from service.contract.lifecycle import WorkerRole
from service.contract.models import ModelFacts
from service.store import workers
from workers.away import DATABASE_AWAY


class Presence:
    """Who we are to the store. An id is never used twice: it is half of the fence."""

    def __init__(self, parts: Parts, role: WorkerRole) -> None:
        self._parts = parts
        self._role = role
        self._lock = threading.Lock()
        self._worker_id: WorkerId = ""

    @property
    def worker_id(self) -> WorkerId:
        """Our present id; empty before `enter`."""
        return self._worker_id

    def enter(self) -> None:
        """Register under a new id."""
        settings = self._parts.settings
        with self._lock, self._parts.database.transaction() as db:
            self._worker_id = workers.register(
                db,
                role=self._role,
                node=platform.node(),
                models=settings.model_names if self._role is WorkerRole.ENGINE else [],
                device=settings.device,
                lease_seconds=settings.lease_seconds,
            )

    def beat(self) -> bool:
        """Renew the lease; False if it was lost."""
        with self._lock, self._parts.database.transaction() as db:
            return workers.heartbeat(db, self._worker_id, self._parts.settings.lease_seconds)

    def set_model_state(
        self, model: str, state: str, revision: str | None = None, facts: ModelFacts | None = None
    ) -> None:
        """Say how far a model is: loading, ready or failed."""
        if not self._worker_id:
            return
        with self._lock, self._parts.database.transaction() as db:
            workers.set_model_state(
                db, self._worker_id, model, state, revision, facts.model_dump() if facts else None
            )

    def leave(self, cause: str) -> None:
        """Go of our own accord, as far as the database can be reached: nothing that we held is blamed."""
        self._end(workers.retire, cause)

    def crash(self, cause: str) -> None:
        """Say that this process dies of what it was doing, so that the reaper need not wait for the lease."""
        self._end(workers.lose, cause)

    def _end(self, how: Callable[[Session, WorkerId, str], object], cause: str) -> None:
        if self._worker_id:
            with contextlib.suppress(*DATABASE_AWAY), self._lock, self._parts.database.transaction() as db:
                how(db, self._worker_id, cause)
