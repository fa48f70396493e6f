"""A small pool of decoder children: each decode has a deadline, and a child that dies or hangs is replaced."""

import fcntl
import json
import mmap
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.media.confine import Confinement
from workers.media.fork_server import Child, ChildLost, ForkServer
from workers.media.limits import MediaLimits
from workers.media.refusals import Refusal
from workers.media.wire import DecodeRequest

MAX_DECODES_PER_CHILD = 2000
# After one of these the child is dead, stuck or swollen.
ENDS_CHILD = frozenset(
    {"media_decode_timeout", "media_decode_crashed", "media_decode_memory", "media_decoder_unavailable"}
)
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@dataclass(frozen=True, slots=True)
class Reply:
    """What one decode gave: facts, and the bytes, mapped for us alone and writable."""

    facts: Mapping[str, Any]
    data: mmap.mmap


class DecoderPool:
    """`num_decoders` places for children; the calling threads take turns."""

    def __init__(self, limits: MediaLimits, num_decoders: int) -> None:
        self._limits = limits
        self._num_decoders = num_decoders
        # The child that decoded last comes first: its memory is warm.
        self._places: queue.LifoQueue[Child | None] = queue.LifoQueue()
        self._put([None] * num_decoders)
        self._server: ForkServer | None = None
        self._server_lock = threading.Lock()
        self._open = False
        self.confinement: Confinement | None = None

    def start(self) -> None:
        """Start the server and all children, so that the first request does not wait for them."""
        self._open = True
        children = [self._fork() for _ in range(self._num_decoders)]
        self._take_all()
        self._put(children)

    def close(self) -> None:
        """End all processes; decodes under way are refused as passing, since their files are not to blame."""
        with self._server_lock:
            self._open = False
            if self._server:
                self._server.close()
        for child in self._take_all():
            if child:
                child.kill()
        self._put([None] * self._num_decoders)

    @property
    def server_pid(self) -> int | None:
        """The fork server's process; None where none runs."""
        return self._server.pid if self._server else None

    def idle_pids(self) -> list[int]:
        """The children that wait for work."""
        return [child.pid for child in list(self._places.queue) if child]

    def decode(self, request: DecodeRequest, source: int) -> Reply:
        """Decode the file behind the descriptor `source`. Raises Refusal."""
        child = self._places.get()
        try:
            child = self._keep(child)
            child = child or self._fork()
            return self._ask(child, request, source)
        except Refusal as refusal:
            if child and refusal.code in ENDS_CHILD:
                child.kill()
                child = None
            raise
        finally:
            self._places.put(child)

    def _take_all(self) -> list[Child | None]:
        return [self._places.get() for _ in range(self._num_decoders)]

    def _put(self, children: Sequence[Child | None]) -> None:
        for child in children:
            self._places.put(child)

    def _ask(self, child: Child, request: DecodeRequest, source: int) -> Reply:
        try:
            answer, fd = child.decode(request.as_bytes(), source, self._limits.decode_seconds)
        except TimeoutError:
            raise Refusal("media_decode_timeout", limit_seconds=self._limits.decode_seconds) from None
        except ChildLost:
            # The server's children die an instant before its own end shows.
            server_died = self._server is None or self._server.is_dead(within_seconds=0.05)
            raise Refusal("media_decoder_unavailable" if server_died else "media_decode_crashed") from None
        try:
            return read_answer(answer, fd, self._limits)
        finally:
            os.close(fd)

    def _keep(self, child: Child | None) -> Child | None:
        """The child, unless it is gone or has worked long enough to have grown."""
        if child and child.is_alive() and child.num_decodes < MAX_DECODES_PER_CHILD:
            return child
        if child:
            child.kill()
        return None

    def _fork(self) -> Child:
        with self._server_lock:
            if not self._open:
                raise Refusal("media_decoder_unavailable")
            if self._server and self._server.is_dead():
                self._server.close()
                self._server = None
            if self._server is None:
                self._server = ForkServer(self._limits)
            try:
                child, self.confinement = self._server.fork()
            except ChildLost:
                # The next caller starts another server.
                self._server.close()
                self._server = None
                raise Refusal("media_decoder_unavailable") from None
            return child


def read_answer(answer: bytes, fd: int, limits: MediaLimits) -> Reply:
    """What the child says and has written. It has read a stranger's bytes, so nothing of it is taken on trust."""
    try:
        facts = json.loads(answer)
        if "refused" in facts:
            raise _refusal(facts["refused"], facts["facts"])
        # Sealed, the file can neither shrink under our mapping nor change after the checks.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        size = os.fstat(fd).st_size
        if not 0 < size <= limits.max_decoded_bytes:
            raise Refusal("media_decode_crashed")
        return Reply(facts, mmap.mmap(fd, size, access=mmap.ACCESS_COPY))
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise Refusal("media_decode_crashed") from None


def _refusal(code: str, facts: Mapping[str, Any]) -> Refusal:
    refusal = Refusal(code, **{name: fact for name, fact in facts.items() if isinstance(fact, int | float)})
    refusal.sentence()
    return refusal
