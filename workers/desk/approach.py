"""Chats on their way to the engine. The stepping thread rests for them: they need the interpreter and a processor."""

import threading
import time
from collections.abc import Callable

# From a ring to the claim, and from the claim to the engine: for what takes longer nobody rests.
RING_SECONDS, PREPARE_SECONDS = 0.05, 0.1
# A rest is followed by at least as much work, however many chats come.
LONGEST_REST_SECONDS = 0.1


class Approach:
    """Who is on the way. The stepping thread alone calls `rests`, any thread the others. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rung_until = 0.0
        self._due: dict[int, float] = {}
        self._rest_began: float | None = None
        self._work_until = 0.0

    def ring(self) -> None:
        """There is news, which may be a chat."""
        self._rung_until = self._clock() + RING_SECONDS

    def look(self) -> None:
        """Whoever rang has been claimed, or was no chat."""
        self._rung_until = 0.0

    def enter(self, job_id: int) -> None:
        """A chat is being prepared now."""
        with self._lock:
            self._due[job_id] = self._clock() + PREPARE_SECONDS

    def leave(self, job_id: int) -> None:
        """It is in the engine, or will never be."""
        with self._lock:
            self._due.pop(job_id, None)

    @property
    def is_chat_near(self) -> bool:
        """Whether a chat may come in a moment."""
        now = self._clock()
        if now < self._rung_until:
            return True
        with self._lock:
            return any(now < due for due in self._due.values())

    def rests(self) -> bool:
        """Whether the next step should wait a little."""
        now, is_near = self._clock(), self.is_chat_near
        if self._rest_began is None:
            if is_near and now >= self._work_until:
                self._rest_began = now
            return self._rest_began is not None
        seconds = now - self._rest_began
        if is_near and seconds < LONGEST_REST_SECONDS:
            return True
        self._rest_began, self._work_until = None, now + seconds
        return False
