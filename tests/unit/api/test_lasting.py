"""Answers that last: what keeps them alive, and what ends them."""

import socket
from collections.abc import Generator, Iterator
from itertools import islice

import pytest
from flask import Flask, Response

from service import gunicorn_config
from service.api import lasting as room
from service.api.lasting import CLOSING, lasting
from service.errors import Unavailable

KEEP_ALIVE = b"\n"


class Source:
    """Pieces of an answer, and whether somebody has let go of them."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.is_closed = False

    def told(self) -> Generator[bytes, None, None]:
        try:
            yield from self.pieces
            while True:
                yield b""
        finally:
            self.is_closed = True


@pytest.fixture
def app() -> Flask:
    return Flask("test")


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def answer(app: Flask, source: Source, **environ: object) -> Iterator[bytes]:
    with app.test_request_context(environ_overrides=environ):
        return lasting(source.told(), keep_alive=KEEP_ALIVE)


def test_something_is_said_at_once_so_that_the_headers_leave(app: Flask) -> None:
    assert next(answer(app, Source())) == KEEP_ALIVE
    assert next(answer(app, Source(b"first"))) == b"first"


def test_a_quiet_answer_is_kept_alive_now_and_then(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = answer(app, Source(b"a", b"", b"", b"b"))
    assert list(islice(pieces, 2)) == [b"a", b"b"]
    monkeypatch.setattr(room, "KEEP_ALIVE_SECONDS", 0.01)
    assert list(islice(pieces, 2)) == [KEEP_ALIVE, KEEP_ALIVE]


def test_a_client_that_has_left_ends_it(app: Flask, connection: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = connection
    source = Source(b"a")
    pieces = answer(app, source, **{"gunicorn.socket": ours})
    assert next(pieces) == b"a"

    theirs.close()

    assert list(pieces) == []
    assert source.is_closed


def test_a_server_that_stops_ends_it_even_in_the_middle(app: Flask) -> None:
    source = Source(b"a", b"b", b"c")
    is_closing = False
    app.extensions[CLOSING] = lambda: is_closing
    pieces = answer(app, source)
    assert next(pieces) == b"a"

    is_closing = True

    assert list(pieces) == []
    assert source.is_closed


def test_some_threads_of_the_server_are_left_for_everybody_else(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gunicorn_config.threads > room.MAX_AT_ONCE
    monkeypatch.setattr(room, "MAX_AT_ONCE", 2)
    first, _ = (Response(answer(app, Source())) for _ in range(2))
    with pytest.raises(Unavailable) as refusal:
        answer(app, Source())
    assert refusal.value.code == "too_many_followers"

    first.close()  # before it was read at all, and twice
    first.close()

    answer(app, Source())
    with pytest.raises(Unavailable):
        answer(app, Source())
