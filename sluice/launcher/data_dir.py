"""The folder in which one stack keeps its database, blobs and logs, and which it does not share."""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from service.errors import ConfigurationError

LONGEST_SOCKET_PATH = 100
SOCKET_DIR_PREFIX = "sluice-"
LOCK_SECONDS = 0.5


@dataclass(frozen=True)
class Running:
    """What a running stack says of itself in `stack.json`."""

    pid: int
    url: str
    socket_dir: str


class DataDir:
    """A data directory, held by at most one stack at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock: IO[str] | None = None
        self._socket_dir: Path | None = None

    @property
    def logs(self) -> Path:
        """Where the children's logs are."""
        return self.path / "logs"

    def hold(self) -> None:
        """Make the folder ours until we die; ConfigurationError if another stack has it."""
        try:
            # What people caption is their own business.
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            lock = (self.path / "stack.lock").open("a")
        except OSError as error:
            raise ConfigurationError(
                f"The data directory {self.path} cannot be written ({error.strerror}).",
                hint="Name another one with --data-dir.",
            ) from None
        if not _try_lock(lock):
            lock.close()
            raise self._held_by_another()
        self._lock = lock
        self._sweep()

    def socket_dir(self) -> Path:
        """A private folder whose path is short enough for a unix socket."""
        if self._socket_dir is None:
            base = tempfile.gettempdir()
            if len(base) > LONGEST_SOCKET_PATH - 40:
                base = "/tmp"
            self._socket_dir = Path(tempfile.mkdtemp(prefix=SOCKET_DIR_PREFIX, dir=base))
        return self._socket_dir

    def announce(self, url: str) -> None:
        """Let other commands find us."""
        running = Running(os.getpid(), url, str(self.socket_dir()))
        scratch = self.path / "stack.json.new"
        scratch.write_text(json.dumps(asdict(running)))
        scratch.replace(self.path / "stack.json")

    def running(self) -> Running | None:
        """The stack that holds this folder, if one does and has said so."""
        if not self._is_held():
            return None
        return self._announced()

    def release(self) -> None:
        """Give the folder back and forget the sockets."""
        if self._lock is None:
            return
        (self.path / "stack.json").unlink(missing_ok=True)
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            self._socket_dir = None
        self._lock.close()
        self._lock = None

    def _is_held(self) -> bool:
        try:
            with (self.path / "stack.lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def _announced(self) -> Running | None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Running(**json.loads((self.path / "stack.json").read_text()))
        return None

    def _sweep(self) -> None:
        """Remove the socket folder of a stack that was killed here."""
        left = self._announced()
        if left is None:
            return
        folder = Path(left.socket_dir)
        if (
            folder.name.startswith(SOCKET_DIR_PREFIX)
            and folder.is_dir()
            and folder.stat().st_uid == os.getuid()
        ):
            shutil.rmtree(folder, ignore_errors=True)
        (self.path / "stack.json").unlink(missing_ok=True)

    def _held_by_another(self) -> ConfigurationError:
        other = self._announced()
        who = f" (process {other.pid}, {other.url})" if other else ""
        return ConfigurationError(
            f"The data directory {self.path} is in use by another sluice{who}.",
            hint="Wait for it or stop it, or name another folder with --data-dir.",
        )


def _try_lock(lock: IO[str]) -> bool:
    """Take the lock that the kernel drops with our process, however it ends.

    A command that only asks whether a stack runs here holds it for a moment, so that one refusal means nothing.
    """
    give_up = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > give_up:
                return False
            time.sleep(0.02)
