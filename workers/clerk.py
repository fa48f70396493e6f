"""The io worker's own threads: a lease, so that it is seen, and the recovery of lost work."""

from service.actions.parts import Parts
from service.contract.lifecycle import WorkerRole
from workers.desk.keeper import Keeper, KeeperCalls
from workers.presence import Presence


class Clerk:
    """Ingests and exports arrive as Celery tasks; what no ticket announced is found by the keeper."""

    def __init__(self, parts: Parts) -> None:
        self._presence = Presence(parts, WorkerRole.IO)
        calls = KeeperCalls(lease_lost=self._presence.enter, cancel=lambda _: None, listeners=lambda: None)
        self._keeper = Keeper(parts, self._presence, calls)

    def start(self) -> None:
        """Enter and begin the heartbeat."""
        self._presence.enter()
        self._keeper.start()

    def ring(self) -> None:
        """An io worker holds no rows: its work comes with the ticket."""

    def stop(self) -> None:
        """Leave. A task that still runs is finished by Celery's own warm shutdown."""
        self._keeper.close()
        self._presence.leave("drained")
