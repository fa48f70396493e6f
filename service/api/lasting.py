"""Answers that last until what they follow is over: they end when the client leaves, and when this process does."""

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

from flask import current_app, request

from service.api.sse import KEEP_ALIVE_SECONDS, client_is_gone

# Where the server says whether it is about to stop; see `gunicorn_config`.
CLOSING = "sluice.closing"


def lasting(pieces: Generator[bytes, None, None], *, keep_alive: bytes) -> Iterator[bytes]:
    """The pieces of an answer. An empty one is a quiet moment: the time to look whether anybody still listens."""
    is_closing: Callable[[], bool] = current_app.extensions.get(CLOSING, bool)
    return _told(pieces, keep_alive, request.environ, is_closing)


def _told(
    pieces: Generator[bytes, None, None],
    keep_alive: bytes,
    environ: dict[str, Any],
    is_closing: Callable[[], bool],
) -> Iterator[bytes]:
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
