"""Keeps the lease, hears of cancellations, and recovers what other workers lost."""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from service.actions.parts import Parts
from service.actions.recover_lost_work import recover_lost_work
from service.contract.tickets import Ticket
from service.store import jobs
from workers.away import DATABASE_AWAY, reason
from workers.presence import Presence

log = logging.getLogger(__name__)

LISTENER_SECONDS = 2.0
TIDY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class KeeperCalls:
    """What the keeper tells the rest of the process.

    lease_lost: others may hold our jobs now. cancel: these of our jobs shall end. listeners: look whether the
    clients of our chats are still there. unrung: work that no ticket could be sent for, the broker being away.
    tidy: clear away what has grown old.
    """

    lease_lost: Callable[[], None]
    cancel: Callable[[set[int]], None] = lambda job_ids: None
    listeners: Callable[[], None] = lambda: None
    unrung: Callable[[list[Ticket]], None] = lambda tickets: None
    tidy: Callable[[], object] = lambda: None


class Keeper:
    """One thread for everything that happens by the clock. The lease itself is measured by the database's clock."""

    def __init__(self, parts: Parts, presence: Presence, calls: KeeperCalls) -> None:
        self._parts = parts
        self._presence = presence
        self._calls = calls
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Begin the heartbeat."""
        self._thread.start()

    def close(self) -> None:
        """Stop; the lease then runs out unless the worker is retired."""
        self._closed.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        settings = self._parts.settings
        next_beat = next_reap = next_listen = next_tidy = 0.0
        while not self._closed.is_set():
            now = time.monotonic()
            if now >= next_beat:
                self._guarded(self._beat)
                next_beat = now + settings.heartbeat_seconds
            if now >= next_reap:
                self._guarded(self._recover)
                next_reap = now + settings.reap_seconds * random.uniform(0.8, 1.2)
            if now >= next_listen:
                self._guarded(self._listen)
                next_listen = now + LISTENER_SECONDS
            if now >= next_tidy:
                self._guarded(self._calls.tidy)
                next_tidy = now + TIDY_SECONDS * random.uniform(0.8, 1.2)
            self._closed.wait(max(0.05, min(next_beat, next_reap, next_listen) - time.monotonic()))

    def _guarded(self, duty: Callable[[], object]) -> None:
        try:
            duty()
        except DATABASE_AWAY as exception:
            log.warning("the database is away (%s); trying again", reason(exception))
        except Exception:
            log.exception("a duty of the keeper failed; trying again")

    def _beat(self) -> None:
        if not self._presence.beat():
            self._calls.lease_lost()

    def _recover(self) -> None:
        if unrung := recover_lost_work(self._parts):
            self._calls.unrung(unrung)

    def _listen(self) -> None:
        with self._parts.database.reading() as db:
            wanted = jobs.cancel_requested(db, self._presence.worker_id)
        if wanted:
            self._calls.cancel(wanted)
        self._calls.listeners()
