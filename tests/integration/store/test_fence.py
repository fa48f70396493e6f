"""A worker writes about the jobs that it holds, and about no others."""

from collections.abc import Callable

import pytest
from scenes import (
    add_batch,
    begin,
    check_books,
    claim,
    claim_and_begin,
    come_due,
    die,
    finish,
    job,
    join,
    states,
    succeed,
    succeeded,
    unlucky,
)

from service.contract.jobs import Cancelled, ClaimedJob, Outcome, Recorded
from service.contract.lifecycle import JobState
from service.store import jobs, progress, results, workers
from service.store.database import Database


def test_a_worker_that_lost_its_lease_writes_nothing(database: Database) -> None:
    batch = add_batch(database, lines=3)
    frozen, heir = join(database), join(database)
    stale = claim(database, frozen)
    die(database, frozen)
    claim(database, heir)

    assert succeed(database, stale, frozen) == Recorded(recorded=0, fenced=3)

    assert states(database) == {JobState.RUNNING: 3}
    with database.reading() as db:
        assert results.export_page(db, batch) == []
        assert progress.of(db, batch).ended == 0


def test_neither_does_one_whose_jobs_nobody_has_taken_up_yet(database: Database) -> None:
    add_batch(database, lines=3)
    frozen = join(database)
    stale = claim(database, frozen)
    die(database, frozen)

    assert succeed(database, stale, frozen).fenced == 3
    assert states(database) == {JobState.QUEUED: 3}


@pytest.mark.parametrize("outcome", [succeeded, unlucky, Cancelled])
def test_an_outcome_of_an_earlier_attempt_is_refused_even_from_the_same_worker(
    database: Database, outcome: Callable[[ClaimedJob], Outcome]
) -> None:
    add_batch(database, lines=1)
    worker = join(database)
    first = claim(database, worker)
    finish(database, [unlucky(first[0])], worker)
    come_due(database)
    second = claim(database, worker)
    assert second[0].attempt == 2

    assert finish(database, [outcome(first[0])], worker).fenced == 1
    assert job(database, first[0].id).state is JobState.RUNNING
    assert succeed(database, second, worker).recorded == 1


def test_a_finish_that_is_sent_twice_counts_once(database: Database) -> None:
    batch = add_batch(database, lines=5)
    worker = join(database)
    claimed = claim(database, worker)

    assert succeed(database, claimed, worker).recorded == 5
    assert succeed(database, claimed, worker) == Recorded(recorded=0, fenced=5)
    check_books(database, batch, lines=5)


def test_an_outcome_that_is_sent_twice_in_one_finish_counts_once(database: Database) -> None:
    batch = add_batch(database, lines=2)
    worker = join(database)
    claimed = claim(database, worker)

    assert succeed(database, claimed + claimed[:1], worker) == Recorded(
        recorded=2, fenced=1, batches=frozenset({batch})
    )
    check_books(database, batch, lines=2)


def test_of_a_mixed_flush_only_the_jobs_still_ours_are_written(database: Database) -> None:
    batch = add_batch(database, lines=4)
    worker = join(database)
    claimed = claim(database, worker)
    with database.transaction() as db:
        jobs.release(db, claimed[:2], worker)

    assert succeed(database, claimed, worker) == Recorded(recorded=2, fenced=2, batches=frozenset({batch}))
    check_books(database, batch, lines=4)


def test_a_transaction_that_is_rolled_back_leaves_nothing_of_a_finish(database: Database) -> None:
    batch = add_batch(database, lines=2)
    worker = join(database)
    claimed = claim(database, worker)

    with pytest.raises(KeyError):
        _finish_and_stumble(database, claimed, worker)

    check_books(database, batch, lines=2)
    assert states(database) == {JobState.RUNNING: 2}
    assert succeed(database, claimed, worker).recorded == 2


def test_only_jobs_that_are_still_ours_can_be_begun_or_handed_back(database: Database) -> None:
    add_batch(database, lines=2)
    frozen, heir = join(database), join(database)
    stale = claim(database, frozen)
    die(database, frozen)
    claim(database, heir)

    assert begin(database, stale, frozen) == set()
    with database.transaction() as db:
        assert jobs.release(db, stale, frozen) == 0
    assert states(database) == {JobState.RUNNING: 2}


def test_a_worker_that_handed_a_job_back_cannot_write_about_it_again(database: Database) -> None:
    """Its attempt has the same number as the next one's: the owner tells them apart."""
    add_batch(database, lines=1)
    first, second = join(database), join(database)
    given_back = claim(database, first)
    with database.transaction() as db:
        jobs.release(db, given_back, first)
    taken = claim(database, second)
    assert taken[0].attempt == given_back[0].attempt

    assert succeed(database, given_back, first).fenced == 1
    assert finish(database, [unlucky(given_back[0])], first).fenced == 1
    assert begin(database, given_back, first) == set()
    assert succeed(database, taken, second).recorded == 1


def test_a_job_that_is_handed_back_keeps_its_attempts(database: Database) -> None:
    add_batch(database, lines=1)
    worker = join(database)
    claimed = claim_and_begin(database, worker)
    with database.transaction() as db:
        assert jobs.release(db, claimed, worker) == 1

    released = job(database, claimed[0].id)
    assert (released.state, released.attempt, released.crashes, released.owner) == (
        JobState.QUEUED,
        0,
        0,
        None,
    )
    assert claim(database, worker)[0].attempt == 1


def test_a_worker_that_retires_hands_back_what_it_holds_without_blame(database: Database) -> None:
    add_batch(database, lines=2)
    worker = join(database)
    claim_and_begin(database, worker)
    with database.transaction() as db:
        assert workers.retire(db, worker, "drained") == 2

    again = claim(database, join(database))
    assert [(one.attempt, one.crashes) for one in again] == [(1, 0), (1, 0)]


def test_a_heartbeat_renews_a_live_lease_alone(database: Database) -> None:
    worker = join(database, lease_seconds=60)
    with database.transaction() as db:
        assert workers.heartbeat(db, worker, 60)
    die(database, worker)
    with database.transaction() as db:
        assert not workers.heartbeat(db, worker, 60)
        assert not workers.heartbeat(db, "worker_unknown", 60)


def test_leases_run_by_the_clock_of_the_database(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 0.0)
    worker = join(database, lease_seconds=60)
    add_batch(database, lines=1)
    assert len(claim(database, worker)) == 1
    with database.transaction() as db:
        assert workers.heartbeat(db, worker, 60)


def test_a_worker_without_a_lease_claims_nothing(database: Database) -> None:
    add_batch(database, lines=1)
    worker = join(database)
    die(database, worker)

    assert claim(database, worker) == []
    assert claim(database, "worker_unknown") == []


def _finish_and_stumble(database: Database, claimed: list[ClaimedJob], worker: str) -> None:
    with database.transaction() as db:
        jobs.finish(db, [succeeded(one) for one in claimed], worker)
        raise KeyError
