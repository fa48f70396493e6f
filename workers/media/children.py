"""A small pool of forked children, each with one task at a time; one that dies is replaced when it is next needed."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from workers.media.fork_server import Child, ChildLost, ForkServer


class ServerLost(ChildLost):
    """The server that children are forked from is gone, or we are closed: no task is to blame."""


class Children:
    """`num_children` places for whatever comes, and one more that bulk never takes, so that no chat waits behind it.

    The calling threads take turns. max_tasks: after so many a child has grown, and another one takes its place.
    """

    def __init__(self, start_server: Callable[[], ForkServer], num_children: int, max_tasks: int) -> None:
        self._start_server = start_server
        self._num_children = num_children
        self._num_places = num_children + 1
        self._max_tasks = max_tasks
        self._bulk = threading.Semaphore(num_children)
        # The child that worked last comes first: its memory is warm.
        self._places: queue.LifoQueue[Child | None] = queue.LifoQueue()
        self._put([None] * self._num_places)
        self._server: ForkServer | None = None
        self._server_lock = threading.Lock()
        self._open = False
        self.greeting = b""

    def begin(self) -> None:
        """Start the server and do not wait for it."""
        with self._server_lock:
            self._open = True
            self._server = self._server or self._start_server()

    def start(self) -> None:
        """Start the server and all children but the last, so that the first task does not wait for them."""
        self.begin()
        children: list[Child | None] = [self._fork() for _ in range(self._num_children)]
        self._take_all()
        self._put([None, *children])

    def close(self) -> None:
        """End all processes."""
        with self._server_lock:
            self._open = False
            if self._server:
                self._server.close()
        for child in self._take_all():
            if child:
                child.kill()
        self._put([None] * self._num_places)

    @property
    def server_pid(self) -> int | None:
        """The fork server's process; None where none runs."""
        return self._server.pid if self._server else None

    def server_died(self) -> bool:
        """Whether the server is gone. Its children die an instant before its own end shows."""
        return self._server is None or self._server.is_dead(within_seconds=0.05)

    def idle_pids(self) -> list[int]:
        """The children that wait for work."""
        return [child.pid for child in list(self._places.queue) if child]

    @contextmanager
    def borrowed(self, *, is_chat: bool = False) -> Iterator[Child]:
        """A child for one task; who finds it broken kills it. Raises ServerLost."""
        with nullcontext() if is_chat else self._bulk:
            child = self._places.get()
            try:
                child = self._fit(child) or self._fork()
                yield child
            finally:
                self._places.put(None if child is None or child.is_killed else child)

    def _take_all(self) -> list[Child | None]:
        return [self._places.get() for _ in range(self._num_places)]

    def _put(self, children: list[Child | None]) -> None:
        for child in children:
            self._places.put(child)

    def _fit(self, child: Child | None) -> Child | None:
        """The child, unless it is gone or has worked long enough to have grown."""
        if child and child.is_alive() and child.num_tasks < self._max_tasks:
            return child
        if child:
            child.kill()
        return None

    def _fork(self) -> Child:
        with self._server_lock:
            if not self._open:
                raise ServerLost
            if self._server and self._server.is_dead():
                self._server.close()
                self._server = None
            if self._server is None:
                self._server = self._start_server()
            try:
                child, self.greeting = self._server.fork()
            except ChildLost:
                # The next caller starts another server.
                self._server.close()
                self._server = None
                raise ServerLost from None
            return child
