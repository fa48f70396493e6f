"""The guarded dialer against hosts that mean harm: real sockets, real TLS."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import trustme

from service.channels.addresses import Reach
from service.channels.dialer import AddressRefused, Dialer, DialFailed
from service.errors import TooLarge

NAME = "hooks.example.com"
LOOPBACK = Reach.parse("127.0.0.1", http=True)
GREETING = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"

Behaviour = Callable[[socket.socket], None]


def greet(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(GREETING)


@contextmanager
def host(behave: Behaviour, tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[str]]]:
    """A host on loopback: its port, and the names by which TLS clients asked for it."""
    asked: list[str] = []
    if tls is not None:
        tls.sni_callback = lambda _connection, name, _context: asked.append(name)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), connection:
                if tls is None:
                    behave(connection)
                    continue
                with tls.wrap_socket(connection, server_side=True) as secured:
                    behave(secured)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], asked
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def named(*answers: str) -> Dialer:
    """A dialer in whose world a name leads to these addresses."""
    return Dialer(LOOPBACK, resolve=lambda _host, _port: answers)


def body(dialer: Dialer, url: str, seconds: float = 5, max_bytes: int = 100) -> bytes:
    with dialer.send("GET", url, seconds=seconds) as answer:
        return answer.read(max_bytes)


def test_a_name_is_looked_up_once_and_the_connection_goes_to_what_was_looked_at() -> None:
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["10.0.0.1"]])
    with host(greet) as (port, _):
        dialer = Dialer(LOOPBACK, resolve=lambda _host, _port: next(answers))
        assert body(dialer, f"http://{NAME}:{port}/") == b"hello"
    assert next(answers) == ["127.0.0.2"]  # nobody asked a second time


@pytest.mark.parametrize(
    "answers",
    [["10.0.0.1"], ["127.0.0.1", "10.0.0.1"], ["127.0.0.1", "fd00::1"], ["::ffff:169.254.169.254"]],
)
def test_one_bad_answer_refuses_a_name(answers: list[str]) -> None:
    with host(greet) as (port, _), pytest.raises(AddressRefused):
        body(named(*answers), f"http://{NAME}:{port}/")


def test_a_name_that_the_operator_trusts_may_lead_inside() -> None:
    with host(greet) as (port, _):
        dialer = Dialer(Reach.parse(NAME, http=True), resolve=lambda _host, _port: ["127.0.0.1"])
        assert body(dialer, f"http://{NAME}:{port}/") == b"hello"


def test_an_address_that_takes_nobody_is_passed_over_for_the_next() -> None:
    with host(greet) as (port, _):
        reach = Reach.parse("127.0.0.0/8", http=True)
        dialer = Dialer(reach, resolve=lambda _host, _port: ["127.0.0.9", "127.0.0.1"])
        assert body(dialer, f"http://{NAME}:{port}/") == b"hello"


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    with host(greet) as (port, _):
        assert body(named("127.0.0.1"), f"http://{NAME}:{port}/") == b"hello"


def test_a_redirect_is_an_answer_like_any_other() -> None:
    def redirect(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n")

    with (
        host(redirect) as (port, _),
        named("127.0.0.1").send("GET", f"http://{NAME}:{port}/", seconds=5) as answer,
    ):
        assert (answer.status, answer.headers["location"]) == (302, "http://10.0.0.1/")


def keep_silent(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    while connection.recv(65536):
        pass


def drip(start: bytes, more: bytes) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        connection.sendall(start)
        for _ in range(200):
            time.sleep(0.05)
            connection.sendall(more)

    return behave


@pytest.mark.parametrize(
    "behave",
    [
        drip(b"", b"H"),
        drip(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
        drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        keep_silent,
        drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    ],
    ids=["status", "headers", "body", "silence", "informational"],
)
def test_a_host_that_drips_is_cut_off_at_the_deadline(behave: Behaviour) -> None:
    with host(behave) as (port, _):
        began = time.monotonic()
        with pytest.raises(DialFailed) as failure:
            body(named("127.0.0.1"), f"http://{NAME}:{port}/", seconds=0.4)
        assert time.monotonic() - began < 1.5
    assert failure.value.code == "too_slow"


def test_a_resolver_that_hangs_is_not_waited_for() -> None:
    woken = threading.Event()
    dialer = Dialer(LOOPBACK, resolve=lambda _host, _port: [str(woken.wait(10))])
    with pytest.raises(DialFailed) as failure:
        body(dialer, f"http://{NAME}/", seconds=0.2)
    assert failure.value.code == "too_slow"
    woken.set()


def test_a_body_without_an_end_is_cut_off_at_the_limit() -> None:
    def pour(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    with host(pour) as (port, _), pytest.raises(TooLarge):
        body(named("127.0.0.1"), f"http://{NAME}:{port}/", max_bytes=1 << 20)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"x" * 300_000])
def test_a_host_that_speaks_no_http_is_a_failure_that_names_nothing_inside(answer: bytes) -> None:
    def babble(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    with host(babble) as (port, _), pytest.raises(DialFailed) as failure:
        body(named("127.0.0.1"), f"http://{NAME}:{port}/")
    assert failure.value.code == "bad_answer"
    assert "127.0.0.1" not in failure.value.message


def test_nobody_at_the_address_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(DialFailed) as failure:
        body(named("127.0.0.1"), f"http://{NAME}:{port}/")
    assert failure.value.code == "connect_failed"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls_of(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> Dialer:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return Dialer(Reach.parse("127.0.0.1"), resolve=lambda _host, _port: ["127.0.0.1"], tls=context)


def test_the_certificate_is_the_names_though_the_address_is_dialled(authority: trustme.CA) -> None:
    with host(greet, tls_of(authority, NAME)) as (port, asked):
        assert body(trusting(authority), f"https://{NAME}:{port}/") == b"hello"
    assert asked == [NAME]


def test_the_certificate_of_another_name_is_refused(authority: trustme.CA) -> None:
    with (
        host(greet, tls_of(authority, "other.example.com")) as (port, _),
        pytest.raises(DialFailed) as failure,
    ):
        body(trusting(authority), f"https://{NAME}:{port}/")
    assert failure.value.code == "tls_failed"


def test_a_certificate_that_nobody_vouches_for_is_refused(authority: trustme.CA) -> None:
    dialer = Dialer(Reach.parse("127.0.0.1"), resolve=lambda _host, _port: ["127.0.0.1"])
    with host(greet, tls_of(authority, NAME)) as (port, _), pytest.raises(DialFailed) as failure:
        body(dialer, f"https://{NAME}:{port}/")
    assert failure.value.code == "tls_failed"
