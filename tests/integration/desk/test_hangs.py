"""A model that hangs: the process says where, ends, and another one goes on with its jobs."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from sqlalchemy import select

from service.actions.ingest_manifest import ingest_manifest
from service.actions.parts import Parts
from service.actions.submit_jobs import submit_jobs
from service.contract.batches import BatchOptions
from service.contract.callers import Caller
from service.contract.lifecycle import JobState
from service.store.tables import Job, Result, Worker

Eventually = Callable[[Callable[[], bool]], None]
WORKER = Path(__file__).with_name("hanging_worker.py")
ROOT = Path(__file__).parents[3]
START_SECONDS, WATCHDOG_SECONDS = 60, 1.5
EXIT_CRASHED, EXIT_BY_FAULTHANDLER = 70, 1


@contextmanager
def working(parts: Parts, how: str, marker: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process of its own on the same database."""
    settings = parts.settings
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": settings.database_url,
        "SLUICE_DATA_DIR": str(settings.data_dir),
        "SLUICE_QUANT_BITS": "none",
        "SLUICE_MAX_SLOTS": "4",
        "SLUICE_NUM_PREPARERS": "0",
        "SLUICE_POLL_SECONDS": "0.2",
        "SLUICE_REAP_SECONDS": "0.3",
        "SLUICE_WATCHDOG_SECONDS": str(WATCHDOG_SECONDS),
    }
    with log.open("ab") as output:
        command = [sys.executable, str(WORKER), how, str(marker)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def accepted(parts: Parts, num_lines: int) -> None:
    lines = (orjson.dumps({"id": f"{i}", "prompt": "Hello"}) + b"\n" for i in range(num_lines))
    ingest_manifest(parts, submit_jobs(parts, Caller(), lines, BatchOptions()).id)


def num_ended(parts: Parts) -> int:
    with parts.database.reading() as db:
        return sum(state.is_terminal for state in db.scalars(select(Job.state)))


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["sqlite"])
def test_a_model_that_hangs_ends_its_process_and_the_next_one_finishes_every_job(
    parts: Parts, tmp_path: Path, eventually: Eventually
) -> None:
    marker, log = tmp_path / "hang", tmp_path / "worker.log"
    marker.touch()
    accepted(parts, 12)

    with working(parts, "waiting", marker, log) as stuck:
        assert stuck.wait(START_SECONDS) == EXIT_CRASHED
    with working(parts, "waiting", marker, log):
        eventually(lambda: num_ended(parts) == 12)

    told = log.read_text()
    assert "tiny-gemma4 made no progress for" in told
    assert "takes in" in told
    assert "in hang_once" in told, "the log must say where"
    with parts.database.reading() as db:
        assert set(db.scalars(select(Job.state))) == {JobState.SUCCEEDED}
        assert len(db.scalars(select(Result.job_id)).all()) == 12
        blamed = db.scalars(select(Job.crashes)).all()
        first = db.scalars(select(Worker).order_by(Worker.started_at)).first()
    assert max(blamed) == 1, "a hang is a crash: its jobs are suspects"
    assert first is not None
    assert "no progress" in (first.exit_cause or "")


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["sqlite"])
def test_native_code_that_keeps_the_interpreter_to_itself_is_ended_too(parts: Parts, tmp_path: Path) -> None:
    marker, log = tmp_path / "hang", tmp_path / "worker.log"
    marker.touch()
    accepted(parts, 1)

    with working(parts, "holding", marker, log) as stuck:
        assert stuck.wait(START_SECONDS) == EXIT_BY_FAULTHANDLER

    assert "in hang_once" in log.read_text()
