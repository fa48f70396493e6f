"""The guarded dialer: the one way in which this server calls an address that a stranger named.

A name is looked up once; if any answer is refused, all are; and the connection goes to the very address that was
looked at, while TLS and the Host header keep the name. Proxies and .netrc are not read and redirects are not followed.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from threading import Thread
from typing import Any

import httpcore

from service.channels.addresses import Reach, Target, read_url
from service.errors import SluiceError, TooLarge

USER_AGENT = "sluice"

Resolve = Callable[[str, int], Sequence[str]]


class AddressRefused(SluiceError):
    """A name that leads somewhere this server does not go."""

    status, type, code = 422, "invalid_request_error", "address_not_allowed"


class DialFailed(SluiceError):
    """The other side cannot be reached, or does not answer as it should; `code` says how far we came."""

    status, code, retryable = 502, "connect_failed", True


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side says. headers: names in lower case. chunks: the body as it comes, never decoded."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]

    def read(self, max_bytes: int) -> bytes:
        """The whole body; TooLarge as soon as it is longer than that."""
        body = bytearray()
        for chunk in self.chunks:
            body += chunk
            if len(body) > max_bytes:
                raise TooLarge(f"The answer is larger than {max_bytes} bytes.")
        return bytes(body)


def look_up(host: str, port: int) -> Sequence[str]:
    """The system's answer to a host's name."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Dialer:
    """Sends one request at a time, each on a connection of its own."""

    def __init__(
        self, reach: Reach, *, resolve: Resolve = look_up, tls: ssl.SSLContext | None = None
    ) -> None:
        self.reach = reach
        self._resolve = resolve
        self._tls = tls

    @contextmanager
    def send(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Iterator[Answer]:
        """Call and hand over the answer while it arrives.

        seconds: for everything from the look-up to the last byte that is read, however slowly the other side drips.
        """
        target = read_url(url, self.reach)
        backend = _Guarded(self.reach, self._resolve, time.monotonic() + seconds)
        named = {
            "Host": target.host_header,
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        with (
            _plain_errors(),
            httpcore.ConnectionPool(ssl_context=self._context(), network_backend=backend) as pool,
            pool.stream(
                method,
                _core_url(target),
                headers=[
                    (name.encode(), value.encode()) for name, value in {**named, **(headers or {})}.items()
                ],
                content=body,
            ) as response,
        ):
            told = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
            }
            yield Answer(response.status, told, response.iter_stream())

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


class _Guarded(httpcore.NetworkBackend):
    """Connects to addresses that were looked at, until a deadline."""

    def __init__(self, reach: Reach, resolve: Resolve, deadline: float) -> None:
        self._reach = reach
        self._resolve = resolve
        self._deadline = deadline
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of the host that takes us. The other parameters are the library's."""
        addresses = self._permitted(host, port)
        for number, address in enumerate(addresses, start=1):
            try:
                stream = self._plain.connect_tcp(address, port, timeout=_left(self._deadline))
            except httpcore.ConnectError:
                if number == len(addresses):
                    raise
                continue
            return _Timed(stream, self._deadline)
        raise DialFailed("The host has no address.", code="dns_failed")

    def _permitted(self, host: str, port: int) -> Sequence[str]:
        addresses = self._looked_up(host, port)
        if host not in self._reach.hosts:
            for address in addresses:
                if not self._reach.permits(ip_address(address)):
                    raise AddressRefused("The host's address is not on the public internet.")
        return addresses

    def _looked_up(self, host: str, port: int) -> Sequence[str]:
        """The system's resolver knows no deadline: it runs beside us, and we stop waiting."""
        found: Future[Sequence[str]] = Future()

        def look() -> None:
            try:
                found.set_result(self._resolve(host, port))
            except Exception as error:
                found.set_exception(error)

        Thread(target=look, name="resolver", daemon=True).start()
        try:
            return found.result(_left(self._deadline))
        except TimeoutError:
            raise _too_slow() from None
        except (OSError, UnicodeError):
            raise DialFailed("The host's name cannot be found.", code="dns_failed") from None


class _Timed(httpcore.NetworkStream):
    """A connection each of whose waits ends at the deadline of the whole."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, timeout=_left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout=_left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, timeout=_left(self._deadline))
        return _Timed(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """The library's errors as ours, with nothing of their own text."""
    try:
        yield
    except httpcore.TimeoutException:
        raise _too_slow() from None
    except httpcore.ConnectError as error:
        if isinstance(error.__cause__ or error.__context__, ssl.SSLError):
            raise DialFailed("The host's certificate cannot be trusted.", code="tls_failed") from None
        raise DialFailed("The host cannot be reached.") from None
    except (httpcore.NetworkError, httpcore.ProtocolError):
        raise DialFailed("The host broke off, or did not answer in HTTP.", code="bad_answer") from None


def _left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise _too_slow()
    return seconds


def _too_slow() -> DialFailed:
    return DialFailed("The host took too long.", code="too_slow")


def _core_url(target: Target) -> httpcore.URL:
    return httpcore.URL(
        scheme=target.scheme.encode(),
        host=target.host.encode(),
        port=target.port,
        target=target.path.encode(),
    )
