"""Real processes, killed and frozen where it hurts: nothing is lost, nothing counts twice, no innocent dies."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Collection
from multiprocessing.process import BaseProcess

import pytest
from scenes import BODY, MODEL, add_batch, check_books, join, states, succeed, succeeded
from sqlalchemy import select

from service.contract.lifecycle import JobState, WorkerRole
from service.store import batches, jobs, recovery, workers
from service.store.batches import NewBatch
from service.store.database import Database
from service.store.jobs import NewLine
from service.store.tables import Batch, Job, Worker

POINTS = ["after claim", "after begin", "inside finish", "after finish"]
CLAIM = 16
fork = multiprocessing.get_context("fork")

# Called where a process may come to harm, with the name of the place.
Maybe = Callable[[str], None]


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_at_any_point_leaves_the_books_in_order(database: Database, point: str) -> None:
    batch = add_batch(database, lines=40)
    victim = _start(database, lambda here: _die() if here == point else None)
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    check_books(database, batch, 40)

    _bury(database, victim)
    heir = _start(database, lambda here: None)
    heir.join()

    assert heir.exitcode == 0
    assert states(database) == {JobState.SUCCEEDED: 40}
    check_books(database, batch, 40)
    with database.reading() as db:
        attempts = set(db.scalars(select(Job.attempt)))
    assert attempts == ({1} if point == "after finish" else {1, 2})


def test_workers_that_die_at_random_lose_nothing_and_blame_nobody(database: Database) -> None:
    lines, poison = 80, {9, 57}
    batch = add_batch(database, lines)
    chance = random.Random(1)
    num_deaths, crew = 0, [_start_mortal(database, chance.random(), poison) for _ in range(2)]
    deadline = time.monotonic() + 100
    while crew and time.monotonic() < deadline:
        for process in [process for process in crew if not process.is_alive()]:
            crew.remove(process)
            if process.exitcode != 0:
                num_deaths += 1
                _bury(database, process)
                crew.append(_start_mortal(database, chance.random(), poison))
        check_books(database, batch, lines)
        time.sleep(0.05)

    assert crew == []
    assert num_deaths >= 5
    assert states(database) == {JobState.SUCCEEDED: lines - len(poison), JobState.DEAD: len(poison)}
    with database.reading() as db:
        dead = jobs.page(db, "default", batch_id=batch, states={JobState.DEAD})
    assert {view.line_no for view in dead} == poison
    check_books(database, batch, lines)


def test_a_worker_frozen_beyond_its_lease_is_fenced_when_it_wakes(database: Database) -> None:
    batch = add_batch(database, lines=5)

    def freeze(here: str) -> None:
        if here == "after begin":
            os.kill(os.getpid(), signal.SIGSTOP)

    frozen = _start(database, freeze, lease_seconds=1.0)
    _wait_until(lambda: states(database)[JobState.RUNNING] == 5)
    _wait_until(lambda: _reap(database) == 5)
    heir = join(database)
    with database.transaction() as db:
        taken = jobs.claim(db, models=[MODEL], owner=heir, limit=8)

    assert frozen.pid is not None
    os.kill(frozen.pid, signal.SIGCONT)
    frozen.join()

    assert frozen.exitcode == 5  # as many outcomes as were refused
    assert len(taken) == 5
    assert succeed(database, taken, heir).recorded == 5
    check_books(database, batch, 5)


def test_ingesters_that_race_and_die_insert_every_line_once(database: Database) -> None:
    total = 600
    with database.transaction() as db:
        batch = batches.create(db, NewBatch("default", "m.jsonl")).id
    chance = random.Random(3)
    num_deaths, crew = 0, [_start_ingester(database, batch, total, chance.random()) for _ in range(2)]
    while crew:
        for process in [process for process in crew if not process.is_alive()]:
            crew.remove(process)
            if process.exitcode != 0:
                num_deaths += 1
                crew.append(_start_ingester(database, batch, total, chance.random()))
        time.sleep(0.02)

    assert num_deaths >= 3
    check_books(database, batch, total)
    with database.reading() as db:
        assert list(db.scalars(select(Job.line_no).order_by(Job.line_no))) == list(range(1, total + 1))


def _start(
    database: Database, maybe: Maybe, poison: Collection[int] = (), lease_seconds: float = 60
) -> BaseProcess:
    process = fork.Process(target=_live, args=(database, maybe, poison, lease_seconds))
    process.start()
    return process


def _start_mortal(database: Database, seed: float, poison: Collection[int]) -> BaseProcess:
    chance = random.Random(seed)
    return _start(database, lambda here: _die() if chance.random() < 0.05 else None, poison)


def _live(database: Database, maybe: Maybe, poison: Collection[int], lease_seconds: float) -> None:
    """A worker's life until every job has ended. Exits with the number of outcomes that were refused."""
    with database.transaction() as db:
        worker = workers.register(db, WorkerRole.ENGINE, f"pid {os.getpid()}", [MODEL], None, lease_seconds)
        workers.set_model_state(db, worker, MODEL, "ready")
    fenced = 0
    while not fenced and _is_work_left(database):
        with database.transaction() as db:
            claimed = jobs.claim(db, models=[MODEL], owner=worker, limit=CLAIM)
        if not claimed:
            time.sleep(0.02)
            continue
        maybe("after claim")
        with database.transaction() as db:
            jobs.begin(db, claimed, worker)
        maybe("after begin")
        if any(job.line_no in poison for job in claimed):
            _die()
        with database.transaction() as db:
            fenced = jobs.finish(db, [succeeded(job) for job in claimed], worker).fenced
            maybe("inside finish")
        maybe("after finish")
    os._exit(fenced)


def _is_work_left(database: Database) -> bool:
    now = states(database)
    return any(not state.is_terminal for state in now)


def _start_ingester(database: Database, batch_id: str, total: int, seed: float) -> BaseProcess:
    process = fork.Process(target=_ingest, args=(database, batch_id, total, random.Random(seed)))
    process.start()
    return process


def _ingest(database: Database, batch_id: str, total: int, chance: random.Random) -> None:
    while True:
        with database.reading() as db:
            offset = db.get_one(Batch, batch_id).ingest_offset
        if offset == total:
            os._exit(0)
        end = min(total, offset + 50)
        with database.transaction() as db:
            batch = batches.find(db, batch_id)
            assert batch is not None
            lines = [NewLine(n, f"line-{n}", MODEL, BODY) for n in range(offset + 1, end + 1)]
            if batches.advance_ingest(db, batch_id, offset, end, num_lines=len(lines), done=end == total):
                jobs.insert_lines(db, batch, lines)
            if chance.random() < 0.15:
                _die()
        if chance.random() < 0.15:
            _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _bury(database: Database, process: BaseProcess) -> None:
    """What the launcher does when a worker's process has ended."""
    with database.transaction() as db:
        dead = db.scalar(select(Worker.id).where(Worker.node == f"pid {process.pid}", ~Worker.dead))
        if dead is not None:
            workers.lose(db, dead, f"exit {process.exitcode}")
        recovery.reap_workers(db)


def _reap(database: Database) -> int:
    with database.transaction() as db:
        return recovery.reap_workers(db).requeued


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
