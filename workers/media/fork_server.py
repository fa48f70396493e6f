"""The worker's side of forked processes: the fork server, and one child of it."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress

from workers.media.limits import MIB
from workers.media.wire import MAX_MESSAGE_BYTES

START_SECONDS = 30.0


def _environment() -> dict[str, str]:
    """What a child knows of its surroundings: where modules are, and no secret of ours."""
    return {
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
        "LC_ALL": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
        # Giving each picture's memory back to the kernel and taking it again doubled the cost of a small JPEG.
        "MALLOC_MMAP_THRESHOLD_": str(32 * MIB),
        "MALLOC_TRIM_THRESHOLD_": str(64 * MIB),
    }


class ChildLost(Exception):
    """The child is gone, or talks nonsense; it is of no more use."""


class Child:
    """Our end of one process."""

    def __init__(self, sock: socket.socket, pidfd: int, pid: int) -> None:
        self.pid = pid
        self.num_tasks = 0
        self.is_killed = False
        self._socket = sock
        self._pidfd = pidfd

    def greet(self, seconds: float) -> bytes:
        """Wait until the child can work; gives what it says of itself."""
        self._socket.settimeout(seconds)
        return self._socket.recv(MAX_MESSAGE_BYTES)

    def ask(self, request: bytes, source: int, seconds: float) -> tuple[bytes, int]:
        """Give the file to the child; wait for its answer and its memory file, which the caller closes.

        Raises TimeoutError past the deadline, and ChildLost.
        """
        self.num_tasks += 1
        self._socket.settimeout(seconds)
        try:
            socket.send_fds(self._socket, [request], [source])
            answer, fds, _, _ = socket.recv_fds(self._socket, MAX_MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError as error:
            raise ChildLost from error
        if not fds:
            raise ChildLost
        return answer, fds[0]

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        # The descriptor turns readable at the end, also of a zombie, which would still take signals.
        ended = select.poll()
        ended.register(self._pidfd, select.POLLIN)
        return not ended.poll(0)

    def kill(self) -> None:
        """End the process, whatever it does, and let go of it."""
        if self.is_killed:
            return
        self.is_killed = True
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        os.close(self._pidfd)
        self._socket.close()


class ForkServer:
    """The process, started afresh and so free of our threads, that children are copies of.

    module: run with a socket's descriptor and `argument`. environment: what it needs besides the bare surroundings.
    """

    def __init__(
        self,
        module: str,
        argument: str,
        environment: Mapping[str, str] | None = None,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._start_seconds = start_seconds
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(start_seconds)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno()), argument],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment() | dict(environment or {}),
                # A Ctrl-C at the terminal is for the worker, which closes us when it is done.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def is_dead(self, *, within_seconds: float = 0.0) -> bool:
        """Whether the server has ended, or ends in this time."""
        try:
            self._process.wait(timeout=within_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def fork(self) -> tuple[Child, bytes]:
        """One more child, ready to work, and its greeting. Raises ChildLost."""
        try:
            self._control.send(b"fork")
            pid, fds, _, _ = socket.recv_fds(self._control, 16, 2, socket.MSG_CMSG_CLOEXEC)
            child = Child(socket.socket(fileno=fds[0]), fds[1], int(pid))
        except (OSError, IndexError) as error:
            raise ChildLost from error
        try:
            return child, child.greet(self._start_seconds)
        except (OSError, ValueError) as error:
            child.kill()
            raise ChildLost from error

    def close(self) -> None:
        """End the server and, through it, every child."""
        self._control.close()
        try:
            self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
