"""The web process's address: bound here, so that a taken port is known at once and outlives a restart."""

import socket
import time
from dataclasses import dataclass

from service.errors import ConfigurationError

BACKLOG = 1024
# A stack that was killed leaves its port to the kernel for a moment.
PATIENCE_SECONDS = 2.0


@dataclass(frozen=True)
class Listener:
    """A listening socket that a child inherits. Clients that come before the child is up wait in the queue."""

    socket: socket.socket
    host: str
    port: int

    @property
    def fileno(self) -> int:
        """The descriptor to hand to the child."""
        return self.socket.fileno()

    @property
    def url(self) -> str:
        """Where a client on this machine finds it."""
        wildcards = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
        host = wildcards.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def close(self) -> None:
        """Stop listening."""
        self.socket.close()


def listen(host: str, port: int) -> Listener:
    """Listen on host:port, or on a free port for 0; ConfigurationError where that is not possible."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            bound = socket.create_server((host, port), family=_family(host), backlog=BACKLOG)
            return Listener(bound, host, bound.getsockname()[1])
        except OSError as error:
            if not isinstance(error, socket.gaierror) and port and time.monotonic() < give_up:
                time.sleep(0.1)
                continue
            raise ConfigurationError(
                f"Cannot listen on {host}:{port}: {_reason(error)}.",
                hint="Choose another one with --port or --host.",
            ) from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).split("] ")[-1].split(" (while")[0].lower()
