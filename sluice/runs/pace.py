"""How fast a batch moves: rates over the last seconds, and the time that is left."""

import time
from collections import deque
from dataclasses import dataclass

from sluice.client import Batch

WINDOW_SECONDS = 15.0


@dataclass(frozen=True)
class Speed:
    """jobs_per_second and tokens_per_second over the last seconds; seconds_left: None while nothing moves."""

    jobs_per_second: float = 0.0
    tokens_per_second: float = 0.0
    seconds_left: float | None = None


class Pace:
    """Remembers how far a batch was a few seconds ago."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def see(self, batch: Batch, num_lines: int, now: float | None = None) -> Speed:
        """Take a new look at the batch. num_lines: how many it will have."""
        now = time.monotonic() if now is None else now
        self._seen.append((now, batch.done, batch.completion_tokens))
        while now - self._seen[0][0] > WINDOW_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        then, done_then, tokens_then = self._seen[0]
        if (seconds := now - then) <= 0 or batch.done <= done_then:
            return Speed()
        jobs = (batch.done - done_then) / seconds
        tokens = max(0, batch.completion_tokens - tokens_then) / seconds
        return Speed(jobs, tokens, max(0, num_lines - batch.done) / jobs)


def clock_face(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
