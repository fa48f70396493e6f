"""A small pool of forked children, each with one task at a time; one that dies is replaced when it is next needed."""

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from workers.media.fork_server import Child, ChildLost, ForkServer

# The engine, the web process and chats go before what is prepared ahead.
NICE = 19


class ServerLost(ChildLost):
    """The server that children are forked from is gone, or we are closed: no task is to blame."""


class Children:
    """`num_children` places for whatever comes, and one more for chats alone, so that none waits behind bulk.

    The calling threads take turns. max_tasks: after so many a child has grown, and another one takes its place.
    """

    def __init__(self, start_server: Callable[[], ForkServer], num_children: int, max_tasks: int) -> None:
        self._start_server = start_server
        self._max_tasks = max_tasks
        self._any = _Places(num_children, nice=NICE)
        self._chats = _Places(1, nice=0)
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
        """Start the server and all children, so that the first task does not wait for them. Raises ServerLost."""
        self.begin()
        for places in (self._any, self._chats):
            places.replace_all([self._fork(places.nice) for _ in range(places.num)])

    def close(self) -> None:
        """End all processes."""
        with self._server_lock:
            self._open = False
            if self._server:
                self._server.close()
        for places in (self._any, self._chats):
            places.replace_all([None] * places.num)

    @property
    def server_pid(self) -> int | None:
        """The fork server's process; None where none runs."""
        return self._server.pid if self._server else None

    def server_died(self) -> bool:
        """Whether the server is gone. Its children die an instant before its own end shows."""
        return self._server is None or self._server.is_dead(within_seconds=0.05)

    def idle_pids(self) -> list[int]:
        """The children that wait for work, but for the one of the chats."""
        return [child.pid for child in list(self._any.children.queue) if child]

    @contextmanager
    def borrowed(self, *, is_chat: bool = False) -> Iterator[Child]:
        """A child for one task; who finds it broken kills it. Raises ServerLost."""
        places, child = self._take(is_chat)
        try:
            child = self._fit(child) or self._fork(places.nice)
            yield child
        finally:
            places.children.put(None if child is None or child.is_killed else child)

    def _take(self, is_chat: bool) -> "tuple[_Places, Child | None]":
        """A place that is free; a second chat takes what bulk leaves, or waits for the first one."""
        if is_chat:
            for places in (self._chats, self._any):
                with suppress(queue.Empty):
                    return places, places.children.get_nowait()
        places = self._chats if is_chat else self._any
        return places, places.children.get()

    def _fit(self, child: Child | None) -> Child | None:
        """The child, unless it is gone or has worked long enough to have grown."""
        if child and child.is_alive() and child.num_tasks < self._max_tasks:
            return child
        if child:
            child.kill()
        return None

    def _fork(self, nice: int) -> Child:
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
            if nice:
                with suppress(ProcessLookupError):
                    os.setpriority(os.PRIO_PROCESS, child.pid, nice)
            return child


class _Places:
    """So many places, each with a child or none yet."""

    def __init__(self, num: int, nice: int) -> None:
        self.num, self.nice = num, nice
        # The child that worked last comes first: its memory is warm.
        self.children: queue.LifoQueue[Child | None] = queue.LifoQueue()
        for _ in range(num):
            self.children.put(None)

    def replace_all(self, children: Sequence[Child | None]) -> None:
        """Wait for every place, end who is there, and put these in."""
        for _ in range(self.num):
            if child := self.children.get():
                child.kill()
        for new in children:
            self.children.put(new)
