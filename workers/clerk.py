"""The io worker's own threads: a lease, so that it is seen, and the recovery of lost work."""

import logging
from concurrent.futures import ThreadPoolExecutor

from service.actions.export_results import export_results
from service.actions.forget_answers import forget_answers
from service.actions.ingest_manifest import ingest_manifest
from service.actions.parts import Parts
from service.contract.lifecycle import WorkerRole
from service.contract.tickets import Export, Ingest, Ticket
from workers.courier import Courier
from workers.desk.keeper import Keeper, KeeperCalls
from workers.presence import Presence

log = logging.getLogger(__name__)


class Clerk:
    """Ingests and exports arrive as Celery tasks; what no ticket could announce is done here without one."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._presence = Presence(parts, WorkerRole.IO)
        self._courier = Courier(parts)
        self._hands = ThreadPoolExecutor(1, thread_name_prefix="clerk")
        self._begun: set[Ticket] = set()
        calls = KeeperCalls(
            lease_lost=self._presence.enter, unrung=self._take, tidy=lambda: forget_answers(self._parts)
        )
        self._keeper = Keeper(parts, self._presence, calls)

    def start(self) -> None:
        """Enter and begin the heartbeat."""
        self._presence.enter()
        self._keeper.start()
        self._courier.start()

    def ring(self) -> None:
        """Webhooks have something to hear. Other work comes with its ticket: an io worker holds no rows."""
        self._courier.ring()

    def stop(self) -> None:
        """Leave. A task that still runs is finished by Celery's own warm shutdown."""
        self._courier.stop()
        self._hands.shutdown(wait=False, cancel_futures=True)
        self._keeper.close()
        self._presence.leave("drained")

    def _take(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            if isinstance(ticket, Ingest | Export) and ticket not in self._begun:
                self._begun.add(ticket)
                self._hands.submit(self._do, ticket)

    def _do(self, ticket: Ingest | Export) -> None:
        try:
            if isinstance(ticket, Ingest):
                ingest_manifest(self._parts, ticket.batch_id)
            else:
                export_results(self._parts, ticket.batch_id)
        except Exception:
            log.exception("%s failed; it is tried again", ticket)
        finally:
            self._begun.discard(ticket)
