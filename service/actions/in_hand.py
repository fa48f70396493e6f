"""What one process has in hand, so that a bell that rings again does not start it twice."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class InHand:
    """Names of running work. It saves effort; that nothing is written twice is the store's promise."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def only_one(self, name: str) -> Iterator[bool]:
        """Whether the caller is the only one here that does this work, until it leaves."""
        with self._lock:
            is_first = name not in self._names
            self._names.add(name)
        try:
            yield is_first
        finally:
            if is_first:
                with self._lock:
                    self._names.discard(name)
