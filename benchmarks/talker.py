"""A worker without a model: it answers chats at a steady pace, so that what is measured is the web process."""

import threading
import time
from collections.abc import Iterator

from service.actions.parts import Parts
from service.contract.jobs import ClaimedJob, Succeeded, Usage
from service.contract.lifecycle import WorkerRole
from service.contract.replies import choice_body, completion_body
from service.contract.streams import Delta, Ended
from service.store import jobs, workers

CLAIM = 64
LEASE_SECONDS = 3600


class Talker:
    """Every chat gets `num_tokens` words, one each `pace_seconds`; all that talk at once get theirs in one round trip.

    A word is the clock (`time.perf_counter_ns`) as it is sent, so that who hears it knows how long it was on its way.
    """

    def __init__(self, parts: Parts, model: str, *, num_tokens: int, pace_seconds: float) -> None:
        self._parts, self._model = parts, model
        self._num_tokens, self._pace = num_tokens, pace_seconds
        self._said: dict[int, tuple[ClaimedJob, list[str]]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        with parts.database.transaction() as db:
            self._id = workers.register(
                db, WorkerRole.ENGINE, "bench", [model], "cpu", lease_seconds=LEASE_SECONDS
            )
            workers.set_model_state(db, self._id, model, "ready", "r1")

    def __enter__(self) -> "Talker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        with self._parts.database.transaction() as db:
            workers.retire(db, self._id, "stopped")

    def _run(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due += self._pace
            self._claim()
            self._parts.streams.publish_many(self._words())
            self._finish([job for job, words in self._said.values() if len(words) == self._num_tokens])

    def _claim(self) -> None:
        with self._parts.database.transaction() as db:
            claimed = jobs.claim(db, models=[self._model], owner=self._id, limit=CLAIM)
            begun = jobs.begin(db, claimed, self._id) if claimed else set()
        for job in claimed:
            if job.id in begun:
                self._said[job.id] = (job, [])

    def _words(self) -> Iterator[tuple[int, int, Delta]]:
        for job, words in self._said.values():
            words.append(f"{time.perf_counter_ns()} ")
            yield job.id, job.attempt, Delta(words[-1])

    def _finish(self, done: list[ClaimedJob]) -> None:
        if not done:
            return
        with self._parts.database.transaction() as db:
            jobs.finish(db, [self._reply(job) for job in done], self._id)
        self._parts.streams.publish_many([(job.id, job.attempt, Ended()) for job in done])

    def _reply(self, job: ClaimedJob) -> Succeeded:
        _, words = self._said.pop(job.id)
        usage = Usage(prompt_tokens=8, text_tokens=8, completion_tokens=len(words))
        choice = choice_body(index=0, text="".join(words), finish_reason="stop")
        body = completion_body(
            job_id=job.id, created=int(time.time()), model=job.model, choices=[choice], usage=usage
        )
        return Succeeded(job, body, usage)
