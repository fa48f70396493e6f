"""Writes outcomes back in bulk: results, usage, progress and state in one fenced transaction."""

import logging
import queue
import threading
import time
from collections import defaultdict

from service.actions.close_batches import close_batches
from service.actions.parts import Parts
from service.contract.jobs import Failed, Outcome, Recorded, WorkerId
from service.contract.lifecycle import JobClass
from service.contract.streams import Ended
from service.store import jobs
from workers.away import DATABASE_AWAY, reason
from workers.desk.approach import Approach
from workers.desk.publisher import Publisher
from workers.desk.seats import Seats

log = logging.getLogger(__name__)

CLOSE_SECONDS = 10.0
# A chat that is on its way has a claim to write; a flush waits for it, in looks of a few milliseconds.
MOST_LOOKS, LOOK_SECONDS = 20, 0.005


class Recorder:
    """Flushes every `flush_jobs` outcomes or `flush_seconds`, and a chat's at once.

    An outcome stays here until the database took it or refused it by fence: a restarting database costs time only.
    """

    def __init__(self, parts: Parts, publisher: Publisher, seats: Seats, approach: Approach) -> None:
        self._parts = parts
        self._publisher = publisher
        self._seats = seats
        self._approach = approach
        self._inbox: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._gave_up = threading.Event()

    def start(self) -> None:
        """Begin recording."""
        self._thread.start()

    def close(self) -> None:
        """Record what waits, as far as the database lets us within a few seconds, and stop."""
        self._inbox.put(None)
        self._thread.join(timeout=CLOSE_SECONDS)
        self._gave_up.set()

    def record(self, outcome: Outcome) -> None:
        """Queue one outcome."""
        self._inbox.put(outcome)

    def _run(self) -> None:
        closing = False
        while not closing:
            outcomes, closing = self._gather()
            if outcomes:
                if not closing and all(outcome.job.job_class is JobClass.BULK for outcome in outcomes):
                    self._let_chats_pass()
                self._write(outcomes)

    def _let_chats_pass(self) -> None:
        for _ in range(MOST_LOOKS):
            if not self._approach.is_chat_near:
                return
            self._gave_up.wait(LOOK_SECONDS)

    def _gather(self) -> tuple[list[Outcome], bool]:
        """The next flush: waits for a first outcome, then for more of them as long as nobody listens."""
        outcomes: list[Outcome] = []
        deadline = None
        while len(outcomes) < self._parts.settings.flush_jobs:
            try:
                timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
                outcome = self._inbox.get(timeout=timeout)
            except queue.Empty:
                break
            if outcome is None:
                return outcomes, True
            outcomes.append(outcome)
            deadline = deadline or time.monotonic() + self._parts.settings.flush_seconds
            if outcome.job.job_class is JobClass.CHAT:
                deadline = 0.0
        return outcomes, False

    def _write(self, outcomes: list[Outcome]) -> None:
        by_owner: dict[WorkerId, list[Outcome]] = defaultdict(list)
        for outcome in outcomes:
            by_owner[outcome.job.owner].append(outcome)
        for owner, ours in by_owner.items():
            recorded = self._finish(ours, owner)
            if recorded is None:
                continue
            if recorded.fenced:
                log.warning("%d outcomes were no longer ours and were not written", recorded.fenced)
            self._announce(ours, recorded)

    def _finish(self, outcomes: list[Outcome], owner: WorkerId) -> Recorded | None:
        """Write, trying again while the database is away; None only when the process ends before it came back."""
        delay = 0.1
        while not self._gave_up.is_set():
            try:
                with self._parts.database.transaction() as db:
                    return jobs.finish(db, outcomes, owner)
            except DATABASE_AWAY as exception:
                log.warning("the database refused a flush (%s); trying again", reason(exception))
                self._gave_up.wait(delay)
                delay = min(5.0, delay * 2)
        return None

    def _announce(self, outcomes: list[Outcome], recorded: Recorded) -> None:
        for outcome in outcomes:
            if outcome.job.job_class is JobClass.CHAT or outcome.job.streams:
                self._publisher.say(outcome.job, Ended())
            if isinstance(outcome, Failed):
                log.info("job %d failed: %s", outcome.job.id, outcome.error.code)
            self._seats.leave(outcome.job)
        if recorded.batches:
            close_batches(self._parts, recorded.batches)
