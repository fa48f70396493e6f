"""A job that kills its worker is found and stopped, and no other job is blamed for it."""

import random

import pytest
from scenes import (
    MODEL,
    add_batch,
    add_chat,
    begin,
    check_books,
    claim,
    claim_and_begin,
    die,
    job,
    join,
    states,
    succeed,
)
from sqlalchemy import update

from service.contract.lifecycle import JobClass, JobState
from service.store import jobs, recovery, workers
from service.store.database import Database
from service.store.tables import Job


def test_a_job_that_was_merely_claimed_is_never_blamed(database: Database) -> None:
    add_batch(database, lines=3)
    for _ in range(10):
        worker = join(database)
        assert len(claim(database, worker)) == 3
        reaped = die(database, worker)
        assert (reaped.requeued, reaped.models, reaped.workers) == (3, frozenset({MODEL}), (worker,))

    again = claim(database, join(database))
    assert [(one.crashes, one.attempt) for one in again] == [(0, 11)] * 3


def test_suspects_run_in_groups_of_eight_and_then_alone(database: Database) -> None:
    add_batch(database, lines=64)
    first = join(database)
    assert len(claim_and_begin(database, first)) == 64
    die(database, first)

    second = join(database)
    group = claim_and_begin(database, second)
    assert [(one.crashes, one.solo) for one in group] == [(1, False)] * 8
    die(database, second)

    third = join(database)
    (alone,) = claim_and_begin(database, third)
    assert (alone.crashes, alone.solo) == (2, True)


def test_a_solo_suspect_has_no_other_job_beside_it_chats_included(database: Database) -> None:
    _make_solo(database)
    add_chat(database)
    worker = join(database)
    (alone,) = claim(database, worker, 64)
    assert alone.solo

    assert claim(database, worker, 64) == []
    assert claim(database, worker, 64, JobClass.CHAT) == []
    succeed(database, [alone], worker)
    assert [one.job_class for one in claim(database, worker, 64)] == [JobClass.CHAT]


def test_nothing_joins_a_group_of_suspects_either(database: Database) -> None:
    add_batch(database, lines=4)
    die_with = join(database)
    claim_and_begin(database, die_with)
    die(database, die_with)
    add_chat(database)
    worker = join(database)

    assert [one.crashes for one in claim(database, worker, 64)] == [1] * 4
    assert claim(database, worker, 64) == []


def test_the_first_worker_of_a_model_stops_claiming_until_it_can_take_waiting_suspects(
    database: Database,
) -> None:
    add_batch(database, lines=20)
    victim, one, two = join(database), join(database), join(database)
    first, second = sorted((one, two))
    held = claim(database, first, 2), claim(database, second, 2)
    begin(database, claim(database, victim, 1), victim)
    die(database, victim)

    assert claim(database, first, 4) == []
    assert len(claim(database, second, 4)) == 4
    succeed(database, held[0], first)
    (suspect,) = claim(database, first, 4)
    assert suspect.crashes == 1


def test_a_suspect_is_not_left_waiting_for_a_worker_that_is_gone(database: Database) -> None:
    add_batch(database, lines=20)
    victim, one, two = join(database), join(database), join(database)
    first, second = sorted((one, two))
    held = claim(database, second, 2)
    begin(database, claim(database, victim, 1), victim)
    die(database, victim)
    die(database, first)

    assert claim(database, second, 4) == []
    succeed(database, held, second)
    assert [suspect.crashes for suspect in claim(database, second, 4)] == [1]


def test_only_three_crashes_alone_make_a_job_dead(database: Database) -> None:
    batch = _make_solo(database)
    for crash in (1, 2, 3):
        worker = join(database)
        (alone,) = claim_and_begin(database, worker)
        assert alone.solo
        reaped = die(database, worker)
        assert (reaped.dead, reaped.requeued) == ((1, 0) if crash == 3 else (0, 1))

    check_books(database, batch, lines=1)
    with database.reading() as db:
        view = jobs.get(db, "default", alone.id)
    assert view is not None
    assert view.state is JobState.DEAD
    assert view.result is not None
    assert (view.result["code"], view.result["status"]) == ("worker_crashed", 500)
    assert claim(database, join(database)) == []


def test_crashes_in_company_never_add_up_to_death(database: Database) -> None:
    add_batch(database, lines=40)
    worker, num_deaths = join(database), 0
    while claimed := claim_and_begin(database, worker):
        if claimed[0].solo:
            succeed(database, claimed, worker)
        else:
            die(database, worker)
            worker, num_deaths = join(database), num_deaths + 1

    assert num_deaths == 6
    assert states(database) == {JobState.SUCCEEDED: 40}


def test_a_crash_in_company_is_not_counted_whatever_came_before(database: Database) -> None:
    _make_solo(database)
    worker = join(database)
    (suspect,) = claim_and_begin(database, worker)
    with database.transaction() as db:
        db.execute(update(Job).values(solo=False, crashes=4))
    die(database, worker)

    lost = job(database, suspect.id)
    assert (lost.state, lost.crashes) == (JobState.QUEUED, 4)


def test_a_claimed_solo_suspect_that_was_not_begun_is_not_counted(database: Database) -> None:
    _make_solo(database)
    for _ in range(4):
        worker = join(database)
        (alone,) = claim(database, worker)
        die(database, worker)
    assert job(database, alone.id).crashes == 2


@pytest.mark.parametrize("seed", [1, 2])
def test_the_dead_are_the_poison_and_no_innocents(database: Database, seed: int) -> None:
    """Workers die of poison, and one time in twenty for no reason at all."""
    lines, poison = 150, {17, 18, 120}
    batch = add_batch(database, lines=lines)
    chance = random.Random(seed)
    worker, num_deaths = join(database), 0
    while claimed := claim_and_begin(database, worker, 32):
        if any(one.line_no in poison for one in claimed) or chance.random() < 0.05:
            die(database, worker)
            worker, num_deaths = join(database), num_deaths + 1
        else:
            succeed(database, claimed, worker)

    assert num_deaths >= 9
    assert states(database) == {JobState.SUCCEEDED: lines - len(poison), JobState.DEAD: len(poison)}
    check_books(database, batch, lines)
    with database.reading() as db:
        dead = jobs.page(db, "default", batch_id=batch, states={JobState.DEAD})
    assert {view.line_no for view in dead} == poison


def test_a_lost_job_that_was_to_be_cancelled_ends_there(database: Database) -> None:
    batch = add_batch(database, lines=1)
    worker = join(database)
    (claimed,) = claim_and_begin(database, worker)
    with database.transaction() as db:
        jobs.cancel(db, "default", claimed.id)
    reaped = die(database, worker)

    assert (reaped.cancelled, reaped.batches) == (1, frozenset({batch}))
    check_books(database, batch, lines=1)


def test_a_worker_whose_process_was_seen_to_die_is_reaped_at_once(database: Database) -> None:
    add_batch(database, lines=1)
    worker = join(database, lease_seconds=600)
    claim(database, worker)
    with database.transaction() as db:
        assert workers.lose(db, worker, "signal 9")
        assert recovery.reap_workers(db).requeued == 1
        assert recovery.reap_workers(db).workers == ()


def test_live_workers_are_not_reaped(database: Database) -> None:
    worker = join(database)
    add_batch(database, lines=1)
    claim(database, worker)
    with database.transaction() as db:
        assert recovery.reap_workers(db) == recovery.Reaped()
    assert states(database) == {JobState.RUNNING: 1}


def _make_solo(database: Database) -> str:
    """A batch of one job that has crashed once in each kind of company."""
    batch = add_batch(database, lines=1)
    for _ in range(2):
        worker = join(database)
        claim_and_begin(database, worker)
        die(database, worker)
    return batch
