"""One child process: started with its log, stopped politely, and never left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sluice.launcher import logs, tether

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 30.0
# A child that lived this long had started well: its next death is a new story.
SETTLED_SECONDS = 60.0
LOG_BYTES_KEPT = 16 << 20


@dataclass(frozen=True)
class Program:
    """What to run. pass_fds: open sockets that the child inherits."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    pass_fds: tuple[int, ...] = ()


@dataclass
class Child:
    """A program that should be running. Times are of the monotonic clock."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    exit_code: int | None = None
    num_deaths: int = 0
    started_at: float = 0.0
    restart_at: float = 0.0
    log_offset: int = field(default=0, repr=False)

    def start(self) -> None:
        """Start the program in a process group of its own, so that a Ctrl-C in the terminal reaches us alone."""
        # The kernel ties a child to the thread that forked it.
        assert threading.current_thread() is threading.main_thread()
        program = self.program
        logs.rotate(program.log, LOG_BYTES_KEPT)
        with program.log.open("ab") as log:
            self.log_offset = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *program.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=program.directory,
                env=dict(program.environment),
                pass_fds=program.pass_fds,
                start_new_session=True,
            )
        self.exit_code = None
        self.started_at = time.monotonic()

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None

    def reap(self) -> bool:
        """Notice a death, and say whether there was one; sets the time of the next start."""
        if self.process is None or (code := self.process.poll()) is None:
            return False
        self._kill_group(self.process.pid)
        lived = time.monotonic() - self.started_at
        self.num_deaths = 1 if lived > SETTLED_SECONDS else self.num_deaths + 1
        delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** (self.num_deaths - 1))
        self.process, self.exit_code, self.restart_at = None, code, time.monotonic() + delay
        return True

    @property
    def is_due(self) -> bool:
        """Whether the program died and has waited long enough."""
        return self.process is None and time.monotonic() >= self.restart_at

    def last_words(self) -> str:
        """The last line of the log since the last start that says something, or an empty string."""
        return logs.last_words(self.program.log, self.log_offset)

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the process itself; what it started is its own to stop."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; False if the process is still there."""
        if self.process is None:
            return True
        try:
            self.process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            return False
        self.kill()
        return True

    def kill(self) -> None:
        """End the process and everything in its group, now."""
        if self.process is not None:
            self._kill_group(self.process.pid)
            self.exit_code = self.process.wait()
            self.process = None

    @staticmethod
    def _kill_group(group: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
