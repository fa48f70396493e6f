"""What a decoder child gives up before it sees a byte: network, files, memory, signals to others."""

import ctypes
import os
import resource
import signal
import struct
from dataclasses import dataclass

from workers.media.limits import MediaLimits

CLONE_NEWUSER, CLONE_NEWNET = 0x1000_0000, 0x4000_0000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
# Landlock's system calls have the same numbers on every architecture.
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
LANDLOCK_VERSION = 1
# By Landlock version: the rights over files, over TCP and over other processes that may be taken away.
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
TCP_RIGHTS = 0b11
SCOPES = 0b11
MAX_OPEN_FILES = 32

libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Confinement:
    """Which walls hold on this machine for an ordinary user, beside the limits on memory, time and output.

    network: no network interface at all. files: no path can be opened. signals: no other process can be signalled.
    """

    network: bool
    files: bool
    signals: bool


def leave_network() -> bool:
    """Move this process and its children to a network of their own, with nothing in it. False: not permitted."""
    return any(libc.unshare(flags) == 0 for flags in (CLONE_NEWUSER | CLONE_NEWNET, CLONE_NEWNET))


def die_with(server: int) -> None:
    """Have the kernel kill this child when its server ends, or end it now if that has happened already."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)


def confine_child(limits: MediaLimits, *, network: bool) -> Confinement:
    """Set this child's limits and walls; `network` says what its server reached."""
    libc.prctl(PR_SET_DUMPABLE, 0)
    for limit, value in (
        (resource.RLIMIT_AS, limits.max_memory_bytes),
        # A memory file counts as a file: this is the most that one decode may give back.
        (resource.RLIMIT_FSIZE, limits.max_decoded_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
    ):
        resource.setrlimit(limit, (value, value))
    version = _leave_files()
    return Confinement(network=network, files=version >= 1, signals=version >= 6)


def allow_cpu(seconds: float) -> None:
    """Let this process use at most so much more processor time; past it the kernel ends it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 2, hard))


def _leave_files() -> int:
    """Give up every path, TCP port and foreign process by Landlock; gives its version, 0 where there is none."""
    version = libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_VERSION)
    if version < 1:
        return 0
    files = (1 << FILE_RIGHTS.get(version, FILE_RIGHTS[5])) - 1
    ruleset = struct.pack("=QQQ", files, TCP_RIGHTS if version >= 4 else 0, SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    fd = libc.syscall(LANDLOCK_CREATE_RULESET, ruleset, size, 0)
    if fd < 0:
        return 0
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    failed = libc.syscall(LANDLOCK_RESTRICT_SELF, fd, 0)
    os.close(fd)
    return 0 if failed else int(version)
