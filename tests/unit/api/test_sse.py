"""Server-sent events, and noticing that nobody reads them."""

import socket

import orjson
import pytest

from service.api.sse import client_is_gone, data, event_stream


@pytest.fixture
def connection():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("text", ["one\ntwo", "\r\n\r\n", "東京 🙂", "\u2028", "\x00"])
def test_an_event_is_one_line_whatever_its_text(text):
    event = data({"text": text})
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert b"\n" not in event[:-2]
    assert b"\r" not in event
    assert orjson.loads(event[6:])["text"] == text


def test_a_stream_is_neither_cached_nor_buffered_by_proxies():
    response = event_stream([b"data: 1\n\n"])
    assert response.mimetype == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Accel-Buffering"] == "no"


def test_a_client_that_waits_is_there(connection):
    ours, _ = connection
    assert not client_is_gone({"gunicorn.socket": ours})


def test_a_client_that_sends_the_next_request_early_is_there(connection):
    ours, theirs = connection
    theirs.sendall(b"GET / HTTP/1.1\r\n")
    assert not client_is_gone({"gunicorn.socket": ours})
    assert ours.recv(3) == b"GET"


def test_a_client_that_closed_its_connection_is_gone(connection):
    ours, theirs = connection
    theirs.close()
    assert client_is_gone({"gunicorn.socket": ours})


def test_a_server_that_does_not_show_its_socket_leaves_the_question_open():
    assert not client_is_gone({})
