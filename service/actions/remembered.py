"""What one process remembers of the database for a moment, so that a poll costs no second question."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

MOST = 4096

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """Answers that were asked for less than `seconds` ago. That there is nothing is never remembered."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._entries: OrderedDict[Key, tuple[float, Value]] = OrderedDict()
        self._lock = threading.Lock()

    def recall(self, key: Key, ask: Callable[[], Value | None]) -> Value | None:
        """The remembered answer, or what `ask` says now."""
        now = time.monotonic()
        entry = self._entries.get(key)
        if entry is not None and entry[0] > now:
            return entry[1]
        value = ask()
        # By the time before we asked: what changed since then is seen in time all the same.
        if value is not None:
            self._keep(key, now + self._seconds, value)
        return value

    def forget(self) -> None:
        """Ask again from now on."""
        with self._lock:
            self._entries.clear()

    def _keep(self, key: Key, until: float, value: Value) -> None:
        with self._lock:
            self._entries[key] = (until, value)
            self._entries.move_to_end(key)
            if len(self._entries) > MOST:
                self._entries.popitem(last=False)
