"""Answers that last until what they follow is over: they end when the client leaves, and when this process does."""

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, Self

from flask import current_app, request

from service.api.sse import KEEP_ALIVE_SECONDS, client_is_gone
from service.errors import Unavailable

# Where the server says whether it is about to stop; see `gunicorn_config`.
CLOSING = "sluice.closing"
# Each has a thread of the process to itself, and others want to be answered too.
MAX_AT_ONCE = 200
_ROOM = "sluice.lasting_room"


class Lasting:
    """The pieces of an answer that has one of the places; whoever sends it closes it, and frees the place."""

    def __init__(self, pieces: Generator[bytes, None, None], room: threading.Semaphore) -> None:
        if not room.acquire(blocking=False):
            raise Unavailable(
                "Too many follow a batch here already.",
                code="too_many_followers",
                retry_after=5,
                hint="Follow fewer batches at a time, or ask for pages.",
            )
        self._pieces = pieces
        self._places = [room]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """End it; more than once does no harm."""
        self._pieces.close()
        while self._places:
            self._places.pop().release()


def lasting(pieces: Generator[bytes, None, None], *, keep_alive: bytes) -> Iterator[bytes]:
    """The pieces of an answer. An empty one is a quiet moment: the time to look whether anybody still listens.

    Unavailable if too many such answers are under way.
    """
    is_closing: Callable[[], bool] = current_app.extensions.get(CLOSING, bool)
    room = current_app.extensions.setdefault(_ROOM, threading.Semaphore(MAX_AT_ONCE))
    return Lasting(_told(pieces, keep_alive, request.environ, is_closing), room)


def _told(
    pieces: Generator[bytes, None, None],
    keep_alive: bytes,
    environ: dict[str, Any],
    is_closing: Callable[[], bool],
) -> Generator[bytes, None, None]:
    # At the first quiet moment something is said: the headers of an answer leave with its first bytes.
    written_at = -math.inf
    with closing(pieces):
        for piece in pieces:
            if is_closing() or (not piece and client_is_gone(environ)):
                return
            if not piece and time.monotonic() - written_at <= KEEP_ALIVE_SECONDS:
                continue
            written_at = time.monotonic()
            yield piece or keep_alive
