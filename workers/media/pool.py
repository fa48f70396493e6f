"""A small pool of decoder children: each decode has a deadline, and a child that dies or hangs is replaced."""

import fcntl
import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from workers.media.children import Children, ServerLost
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
    """Decoder children; the calling threads take turns."""

    def __init__(self, limits: MediaLimits, num_decoders: int) -> None:
        self._limits = limits
        argument = json.dumps(asdict(limits))
        self._children = Children(
            lambda: ForkServer("workers.media.server", argument), num_decoders, MAX_DECODES_PER_CHILD
        )

    def start(self) -> None:
        """Start the server and its children, so that the first request does not wait for them. Raises Refusal."""
        try:
            self._children.start()
        except ServerLost:
            raise Refusal("media_decoder_unavailable") from None

    def close(self) -> None:
        """End all processes; decodes under way are refused as passing, since their files are not to blame."""
        self._children.close()

    @property
    def confinement(self) -> Confinement | None:
        """The walls that the children stand behind; None before the start."""
        greeting = self._children.greeting
        return Confinement(**json.loads(greeting)) if greeting else None

    @property
    def server_pid(self) -> int | None:
        """The fork server's process; None where none runs."""
        return self._children.server_pid

    def idle_pids(self) -> list[int]:
        """The children that wait for work."""
        return self._children.idle_pids()

    def decode(self, request: DecodeRequest, source: int, *, is_chat: bool = False) -> Reply:
        """Decode the file behind the descriptor `source`. Raises Refusal."""
        try:
            with self._children.borrowed(is_chat=is_chat) as child:
                try:
                    return self._ask(child, request, source)
                except Refusal as refusal:
                    if refusal.code in ENDS_CHILD:
                        child.kill()
                    raise
        except ServerLost:
            raise Refusal("media_decoder_unavailable") from None

    def _ask(self, child: Child, request: DecodeRequest, source: int) -> Reply:
        try:
            answer, fd = child.ask(request.as_bytes(), source, self._limits.decode_seconds)
        except TimeoutError:
            raise Refusal("media_decode_timeout", limit_seconds=self._limits.decode_seconds) from None
        except ChildLost:
            lost_all = self._children.server_died()
            raise Refusal("media_decoder_unavailable" if lost_all else "media_decode_crashed") from None
        try:
            return read_answer(answer, fd, self._limits)
        finally:
            os.close(fd)


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
