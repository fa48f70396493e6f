"""What a decoder child could do if a file took it over: next to nothing."""

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from workers.media.limits import MediaLimits

MALLOC = (b"MALLOC_MMAP_THRESHOLD_", b"MALLOC_TRIM_THRESHOLD_")

PRELUDE = """
import os, resource, signal, socket, sys
from workers.media.confine import confine_child, leave_network
from workers.media.limits import MediaLimits
network = leave_network()
walls = confine_child(MediaLimits(), network=network)
def denied(action):
    try:
        action()
    except OSError:
        return True
    return False
"""


def confined(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program behind the walls of a decoder child."""
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + program],
        env={"PYTHONPATH": path, "SECRET": "x"},
        capture_output=True,
        text=True,
        timeout=30,
    )


PROBE = """
import ctypes
libc = ctypes.CDLL(None)
landlock = libc.syscall(444, None, 0, 1)
print(landlock >= 1, landlock >= 6, libc.unshare(0x5000_0000) == 0)
"""


@pytest.fixture(scope="module")
def possible() -> dict[str, bool]:
    """The walls that this machine lets us put up, asked without the code under test."""
    answer = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    return dict(zip(("files", "signals", "network"), map("True".__eq__, answer.stdout.split()), strict=True))


def skip_without(wall: bool) -> None:
    if not wall:
        pytest.skip("this machine lets an ordinary user put up no such wall")


def test_a_confined_child_opens_no_path(tmp_path, possible):
    skip_without(possible["files"])
    (tmp_path / "secret").write_text("x")

    answer = confined(
        f"old, new = {str(tmp_path / 'secret')!r}, {str(tmp_path / 'new')!r}\n"
        "print(denied(lambda: open(old)), denied(lambda: open(new, 'w')),"
        "denied(lambda: os.listdir('/')), denied(lambda: open('/proc/self/environ')))"
    )

    assert answer.stdout.split() == ["True"] * 4


def test_a_confined_child_reaches_no_network(possible):
    skip_without(possible["network"])

    answer = confined(
        "listener = socket.socket()\n"
        "print(denied(lambda: socket.create_connection(('127.0.0.1', 9), 1)),"
        "denied(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))),"
        "socket.if_nameindex() == [(1, 'lo')])"
    )

    assert answer.stdout.split() == ["True", "True", "True"], answer.stderr


def test_a_confined_child_signals_no_other_process(possible):
    skip_without(possible["signals"])

    assert confined("print(denied(lambda: os.kill(os.getppid(), 0)))").stdout.strip() == "True"


def test_a_confined_child_writes_no_core_and_has_bounded_memory_and_output():
    answer = confined(
        "limits = MediaLimits()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE) == (0, 0),"
        "resource.getrlimit(resource.RLIMIT_AS)[1] == limits.max_memory_bytes,"
        "resource.getrlimit(resource.RLIMIT_FSIZE)[1] == limits.max_decoded_bytes)"
    )

    assert answer.stdout.split() == ["True"] * 3


def test_the_running_children_hold_no_secret_and_no_torch(media):
    pids = [media.server_pid, *media.decoder_pids()]

    for pid in pids:
        # A child that cannot be looked into even by its owner is as good.
        try:
            entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            maps = Path(f"/proc/{pid}/maps").read_text()
        except PermissionError:
            continue
        names = {entry.partition(b"=")[0] for entry in entries if entry}
        assert names <= {b"PYTHONPATH", b"LC_ALL", b"OPENBLAS_NUM_THREADS", *MALLOC}
        assert "torch" not in maps


def test_the_running_children_stand_behind_all_walls_that_this_machine_has(media, possible):
    assert asdict(media.confinement) == possible
    for pid in media.decoder_pids():
        status = Path(f"/proc/{pid}/status").read_text()
        assert possible["files"] == ("NoNewPrivs:\t1" in status)
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert str(MediaLimits().max_memory_bytes) in limits
