"""Sends what a chat's listener wants to hear, from a thread of its own and in batches."""

import threading
import time

from service.channels.streams import Streams
from service.contract.jobs import ClaimedJob
from service.contract.streams import Delta, Ended, Restarted, StreamEvent

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
        while not self._closed or self._waiting:
            if not self._ready.wait(timeout=1.0):
                continue
            if not self._closed:
                time.sleep(COALESCE_SECONDS)
            self._flush()

    def _flush(self) -> None:
        self._ready.clear()
        with self._lock:
            waiting, self._waiting = self._waiting, []
        if waiting:
            self._streams.publish_many(
                [(job.id, job.attempt, event) for job, event in _joined(waiting)],
            )


def _joined(waiting: list[tuple[ClaimedJob, StreamEvent]]) -> list[tuple[ClaimedJob, StreamEvent]]:
    """Adjacent deltas of one job as one; other jobs' events in between do not matter."""
    joined: list[tuple[ClaimedJob, StreamEvent]] = []
    open_deltas: dict[int, int] = {}
    for job, event in waiting:
        match event:
            case Delta(text) if job.id in open_deltas:
                index = open_deltas[job.id]
                earlier = joined[index][1]
                assert isinstance(earlier, Delta)
                joined[index] = (job, Delta(earlier.text + text))
            case Delta():
                open_deltas[job.id] = len(joined)
                joined.append((job, event))
            case Ended() | Restarted():
                open_deltas.pop(job.id, None)
                joined.append((job, event))
    return joined
