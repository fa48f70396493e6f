"""Sends what a chat's listener wants to hear, from a thread of its own and in batches."""

import threading
import time

from service.channels.streams import Streams
from service.contract.jobs import ClaimedJob
from service.contract.streams import Delta, StreamEvent

COALESCE_SECONDS = 0.03


class Publisher:
    """Collects deltas for a few milliseconds, joins those of one job, and publishes them in one round trip."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._lock = threading.Lock()
        self._waiting: list[tuple[ClaimedJob, StreamEvent]] = []
        self._ready = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        """Begin publishing."""
        self._thread.start()

    def close(self) -> None:
        """Publish what waits and stop."""
        self._closed = True
        self._ready.set()
        self._thread.join(timeout=5)

    def say(self, job: ClaimedJob, event: StreamEvent) -> None:
        """Queue one event. Events of one job keep their order."""
        with self._lock:
            self._waiting.append((job, event))
        self._ready.set()

    def _run(self) -> None:
        flushed_at = 0.0
        while not self._closed or self._waiting:
            if not self._ready.wait(timeout=1.0):
                continue
            if not self._closed:
                # What follows a silence goes at once; what comes soon after it is collected.
                time.sleep(max(0.0, flushed_at + COALESCE_SECONDS - time.monotonic()))
            self._flush()
            flushed_at = time.monotonic()

    def _flush(self) -> None:
        self._ready.clear()
        with self._lock:
            waiting, self._waiting = self._waiting, []
        if waiting:
            self._streams.publish_many(
                [(job.id, job.attempt, event) for job, event in _joined(waiting)],
            )


def _joined(waiting: list[tuple[ClaimedJob, StreamEvent]]) -> list[tuple[ClaimedJob, StreamEvent]]:
    """The deltas of one answer as one; what other answers and jobs say in between does not matter."""
    joined: list[tuple[ClaimedJob, StreamEvent]] = []
    places: dict[tuple[int, int, int], int] = {}
    for job, event in waiting:
        if not isinstance(event, Delta):
            joined.append((job, event))
            continue
        place = places.setdefault((job.id, job.attempt, event.index), len(joined))
        if place == len(joined):
            joined.append((job, event))
        else:
            earlier = joined[place][1]
            assert isinstance(earlier, Delta)
            joined[place] = (job, _one_after_the_other(earlier, event))
    return joined


def _one_after_the_other(earlier: Delta, later: Delta) -> Delta:
    return Delta(
        earlier.text + later.text,
        later.index,
        (*earlier.logprobs, *later.logprobs),
        (*earlier.tool_calls, *later.tool_calls),
    )
