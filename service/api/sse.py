"""Server-sent events, and whether anybody still reads them."""

import select
import socket
from collections.abc import Iterable
from typing import Any

import orjson
from flask import Response

from service.errors import SluiceError


class ClientGone(SluiceError):
    """Nobody reads the answer any more."""

    status, type, code = 499, "invalid_request_error", "client_gone"


DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
KEEP_ALIVE_SECONDS = 10.0


def data(value: dict[str, Any]) -> bytes:
    """One event. JSON has no raw newlines, so an event is always one `data:` line."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def named_data(name: str, value: dict[str, Any]) -> bytes:
    """One event that bears a name."""
    return b"event: " + name.encode() + b"\n" + data(value)


def event_stream(events: Iterable[bytes]) -> Response:
    """A response that proxies must neither buffer nor cache."""
    response = Response(iter(events), content_type="text/event-stream; charset=utf-8")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def client_is_gone(environ: dict[str, Any]) -> bool:
    """Whether the client has closed its connection. A server that does not show us the socket: False.

    A write would find out too, but there is nothing to write while a request waits for its first token.
    """
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if not isinstance(connection, socket.socket):
        return False
    poll = select.poll()  # select() cannot watch a descriptor above 1023
    try:
        poll.register(connection, select.POLLIN)
        return bool(poll.poll(0)) and not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except (OSError, ValueError):
        return True
