"""Child processes, their logs and their ends, with real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice.launcher import logs
from sluice.launcher.child import Child, Program


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def a_child(tmp_path: Path, code: str) -> Child:
    return Child(
        Program("test", (sys.executable, "-c", code), dict(os.environ), tmp_path, log=tmp_path / "test.log")
    )


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys, time\n"
            "from pathlib import Path\n"
            "from sluice.launcher.child import Child, Program\n"
            "sleeper = (sys.executable, '-c', 'import time; time.sleep(60)')\n"
            f"child = Child(Program('x', sleeper, os.environ, Path('/'), Path({str(tmp_path / 'x.log')!r})))\n"
            "child.start()\n"
            "print(child.process.pid, flush=True)\n"
            "time.sleep(60)\n",
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        # Until it has become the sleeper, a parent's death is seen by the tether itself.
        assert is_alive(pid)
        parent.send_signal(signal.SIGKILL)
    wait_for(lambda: not is_alive(pid))


def test_killing_a_child_kills_what_it_started(tmp_path: Path) -> None:
    child = a_child(
        tmp_path,
        "import subprocess, sys, time\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)\n"
        "time.sleep(60)",
    )
    child.start()
    wait_for(lambda: child.program.log.read_text().endswith("\n"))
    grandchild = int(child.program.log.read_text())

    child.kill()

    wait_for(lambda: not is_alive(grandchild))
    assert not child.is_running


def test_a_child_that_dies_is_due_again_after_a_growing_pause(tmp_path: Path) -> None:
    child = a_child(tmp_path, "raise SystemExit(3)")
    pauses = []
    for _ in range(3):
        child.start()
        wait_for(child.reap)
        pauses.append(child.restart_at - time.monotonic())

    assert child.exit_code == 3
    assert child.num_deaths == 3
    assert 0 < pauses[0] < pauses[1] < pauses[2]
    assert not child.is_due


def test_a_child_that_stops_when_asked_is_gone(tmp_path: Path) -> None:
    child = a_child(tmp_path, "import time; time.sleep(60)")
    child.start()

    child.ask_to_stop()

    assert child.wait(10)
    assert not child.is_running


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (
            "[2026-01-02 03:04:05,678: INFO/MainProcess] Connected\n"
            "[2026-01-02 03:04:06,000: CRITICAL/MainProcess] There is no model nowhere.\n"
            "[2026-01-02 03:04:07,000: INFO/MainProcess] bye\n",
            "There is no model nowhere.",
        ),
        (
            "Traceback (most recent call last):\n"
            '  File "x.py", line 1, in <module>\n'
            "service.errors.ConfigurationError: The database was written by a newer version.\n",
            "The database was written by a newer version.",
        ),
        ("[2026-01-02 03:04:05 +0000] [12] [ERROR] Worker failed to boot.\n", "Worker failed to boot."),
        ("zsh: command not found: valkey\n\n", "zsh: command not found: valkey"),
        ("", ""),
    ],
)
def test_the_last_words_of_a_log_are_what_went_wrong(tmp_path: Path, written: str, told: str) -> None:
    log = tmp_path / "x.log"
    log.write_text("ValueError: of an earlier start\n")
    offset = log.stat().st_size
    with log.open("a") as file:
        file.write(written)

    assert logs.last_words(log, offset) == told


def test_the_last_words_look_past_a_line_that_only_points_at_the_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text(
        "OSError: The weights are cut off.\n"
        "[2026-01-02 03:04:06,000: CRITICAL/MainProcess] It stopped; its log says why.\n"
    )

    assert logs.last_words(log) == "The weights are cut off."


def test_a_log_that_grew_too_long_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("long")

    logs.rotate(log, max_bytes=3)

    assert not log.exists()
    assert (tmp_path / "x.log.1").read_text() == "long"
