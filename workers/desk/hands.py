"""The threads that prepare jobs: chat before bulk, and one of them for chat alone."""

import logging
import threading
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

Task = Callable[[], None]


class Hands:
    """`num_hands` threads for whatever waits, and one more that never takes bulk, so that no chat waits behind it.

    may_begin_bulk: asked before bulk is begun; `nudge` says that the answer may have changed.
    """

    def __init__(self, num_hands: int, may_begin_bulk: Callable[[], bool] = lambda: True) -> None:
        self._may_begin_bulk = may_begin_bulk
        self._chat: deque[Task] = deque()
        self._bulk: deque[Task] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, args=(number > 0,), name=f"hand-{number}", daemon=True)
            for number in range(num_hands + 1)
        ]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def submit(self, task: Task, *, is_chat: bool) -> None:
        """Queue a task."""
        with self._changed:
            (self._chat if is_chat else self._bulk).append(task)
            # All of them: the one that wakes first may not be one that takes bulk.
            self._changed.notify_all()

    def nudge(self) -> None:
        """Bulk that was held back may begin now."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Begin nothing more; what has begun goes on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self, takes_bulk: bool) -> None:
        while (task := self._next(takes_bulk)) is not None:
            try:
                task()
            except Exception:
                log.exception("a task was not expected to raise")

    def _next(self, takes_bulk: bool) -> Task | None:
        with self._changed:
            while not self._closed:
                if self._chat:
                    return self._chat.popleft()
                if takes_bulk and self._bulk and self._may_begin_bulk():
                    return self._bulk.popleft()
                self._changed.wait()
        return None
