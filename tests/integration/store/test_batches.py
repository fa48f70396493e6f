"""A batch after its ingest: cancelling, expiry, closing, and reading along."""

from scenes import (
    add_batch,
    add_chat,
    check_books,
    claim,
    come_due,
    die,
    finish,
    good_lines,
    ingest,
    job,
    join,
    new_batch,
    refused,
    states,
    succeed,
    unlucky,
)
from sqlalchemy import update

from service.contract.lifecycle import BatchState, JobState
from service.store import batches, jobs, progress, recovery, results
from service.store.database import Database
from service.store.tables import Batch, Job


def state_of(database: Database, batch_id: str) -> BatchState:
    with database.reading() as db:
        return db.get_one(Batch, batch_id).state


def test_a_batch_closes_once_with_its_last_job(database: Database) -> None:
    batch_id = add_batch(database, lines=3)
    worker = join(database)
    claimed = claim(database, worker)
    succeed(database, claimed[:2], worker)
    with database.transaction() as db:
        assert not batches.close_if_done(db, batch_id)
        assert recovery.batches_to_close(db) == []
    finish(database, [refused(claimed[2])], worker)
    with database.transaction() as db:
        assert recovery.batches_to_close(db) == [batch_id]
        assert batches.close_if_done(db, batch_id)
        assert not batches.close_if_done(db, batch_id)
        assert recovery.batches_to_export(db, quiet_seconds=-1) == [batch_id]
        assert batches.complete(db, batch_id, output_file_id="file-1")
        assert not batches.complete(db, batch_id, output_file_id="file-2")
        batch = batches.get(db, "default", batch_id)
    assert batch is not None
    assert (batch.state, batch.output_file_id) == (BatchState.COMPLETED, "file-1")
    assert batch.completed_at is not None


def test_a_batch_whose_ingest_goes_on_does_not_close(database: Database) -> None:
    batch_id = new_batch(database)
    ingest(database, batch_id, good_lines(1, 2), done=False)
    worker = join(database)
    succeed(database, claim(database, worker), worker)
    with database.transaction() as db:
        assert not batches.close_if_done(db, batch_id)
    ingest(database, batch_id, [], done=True)
    with database.transaction() as db:
        assert batches.close_if_done(db, batch_id)


def test_cancelling_ends_waiting_jobs_in_chunks_and_asks_running_ones_to_stop(database: Database) -> None:
    batch_id = add_batch(database, lines=25)
    other = add_batch(database, lines=3)
    worker = join(database)
    running = claim(database, worker, 5)
    finish(database, [unlucky(running[0])], worker)
    with database.transaction() as db:
        assert batches.request_cancel(db, "default", batch_id)
        assert not batches.request_cancel(db, "default", batch_id)

    swept = [_sweep(database, limit=10) for _ in range(4)]

    assert swept == [6, 10, 5, 0]
    with database.reading() as db:
        assert jobs.cancel_requested(db, worker) == {one.id for one in running[1:]}
    succeed(database, running[1:], worker)
    check_books(database, batch_id, 25)
    check_books(database, other, 3, alone=False)
    with database.transaction() as db:
        assert batches.close_if_done(db, batch_id)
        assert batches.complete(db, batch_id)
        assert not batches.close_if_done(db, other)
    assert state_of(database, batch_id) is BatchState.CANCELLED


def test_a_cancelled_batch_takes_no_more_lines(database: Database) -> None:
    batch_id = new_batch(database)
    ingest(database, batch_id, good_lines(1, 2), done=False)
    with database.transaction() as db:
        assert batches.request_cancel(db, "default", batch_id)
    assert ingest(database, batch_id, good_lines(3, 4)) is None
    _sweep(database)
    with database.transaction() as db:
        assert batches.close_if_done(db, batch_id)
    check_books(database, batch_id, 2)


def test_lost_jobs_of_a_cancelled_batch_are_not_queued_again(database: Database) -> None:
    batch_id = add_batch(database, lines=4)
    worker = join(database)
    claim(database, worker, 2)
    with database.transaction() as db:
        batches.request_cancel(db, "default", batch_id)
    _sweep(database)
    die(database, worker)

    assert states(database) == {JobState.CANCELLED: 4}
    check_books(database, batch_id, 4)


def test_a_job_that_comes_back_behind_the_sweep_is_found_on_its_next_round(database: Database) -> None:
    batch_id = add_batch(database, lines=4)
    worker = join(database)
    claim(database, worker, 2)
    with database.transaction() as db:
        batches.request_cancel(db, "default", batch_id)
    assert _sweep(database) == 2
    with database.transaction() as db:
        # As if they had been claimed while the sweep went past.
        db.execute(update(Job).values(cancel_requested=False))
    die(database, worker)
    assert states(database)[JobState.QUEUED] == 2

    assert sum(_sweep(database) for _ in range(2)) == 2
    check_books(database, batch_id, 4)


def test_waiting_jobs_of_an_overdue_batch_expire_and_running_ones_may_finish(database: Database) -> None:
    batch_id = new_batch(database, window_seconds=-1.0)
    ingest(database, batch_id, good_lines(1, 6), done=False)
    worker = join(database)
    running = claim(database, worker, 2)
    with database.transaction() as db:
        swept = recovery.expire_due(db)
        assert (swept.jobs, swept.batches) == (4, frozenset({batch_id}))
    assert ingest(database, batch_id, good_lines(7, 8)) is None
    succeed(database, running, worker)

    check_books(database, batch_id, 6)
    assert states(database) == {JobState.SUCCEEDED: 2, JobState.EXPIRED: 4}
    with database.transaction() as db:
        assert batches.close_if_done(db, batch_id)
        assert batches.complete(db, batch_id)
    assert state_of(database, batch_id) is BatchState.EXPIRED


def test_a_chat_that_waited_too_long_expires(database: Database) -> None:
    late, patient = add_chat(database, expires_in_seconds=-1), add_chat(database, expires_in_seconds=60)
    with database.transaction() as db:
        assert recovery.expire_due(db).jobs == 1
    assert job(database, late).state is JobState.EXPIRED
    assert job(database, patient).state is JobState.QUEUED


def test_one_job_of_a_batch_can_be_cancelled(database: Database) -> None:
    batch_id = add_batch(database, lines=2)
    with database.transaction() as db:
        assert jobs.cancel(db, "default", 1)
        assert not jobs.cancel(db, "default", 1)
        assert not jobs.cancel(db, "default", 999)
    check_books(database, batch_id, 2)
    assert states(database) == {JobState.CANCELLED: 1, JobState.QUEUED: 1}


def test_every_line_is_exported_once_and_in_order(database: Database) -> None:
    batch_id = add_batch(database, lines=7)
    worker = join(database)
    claimed = claim(database, worker, 4)
    succeed(database, [claimed[3], claimed[1]], worker)
    finish(database, [refused(claimed[0])], worker)
    with database.transaction() as db:
        batches.request_cancel(db, "default", batch_id)
    _sweep(database)
    succeed(database, [claimed[2]], worker)

    exported, after = [], None
    with database.reading() as db:
        while page := results.export_page(db, batch_id, after, limit=3):
            exported.extend(page)
            after = page[-1].job_id
    assert [one.line_no for one in exported] == [1, 2, 3, 4, 5, 6, 7]
    assert [one.state.value for one in exported] == ["failed", *["succeeded"] * 3, *["cancelled"] * 3]
    assert [one.body is None for one in exported] == [False] * 4 + [True] * 3


def test_progress_reads_the_counters_and_not_the_jobs(database: Database) -> None:
    batch_id = add_batch(database, lines=3)
    worker = join(database)
    succeed(database, claim(database, worker), worker)
    with database.transaction() as db:
        db.execute(Job.__table__.delete())
    with database.reading() as db:
        assert progress.of(db, batch_id).succeeded == 3


def test_batches_are_listed_newest_first_page_by_page(database: Database) -> None:
    made = [new_batch(database) for _ in range(5)]
    with database.transaction() as db:
        for age, batch_id in enumerate(made):
            db.execute(update(Batch).where(Batch.id == batch_id).values(created_at=100.0 + age // 2))
    with database.reading() as db:
        listed, after = [], None
        while page := batches.page(db, "default", after=after, limit=2):
            listed.extend(batch.id for batch in page)
            after = listed[-1]
    assert sorted(listed) == sorted(made)
    assert listed[0] == made[4]


def test_a_batch_read_again_in_the_same_transaction_is_read_afresh(database: Database) -> None:
    batch_id = new_batch(database)
    with database.transaction() as db:
        assert batches.get(db, "default", batch_id) is not None
        batches.request_cancel(db, "default", batch_id)
        again = batches.get(db, "default", batch_id)
    assert again is not None
    assert again.state is BatchState.CANCELLING


def test_a_job_in_backoff_is_cancelled_with_its_batch(database: Database) -> None:
    batch_id = add_batch(database, lines=1)
    worker = join(database)
    finish(database, [unlucky(claim(database, worker)[0])], worker)
    with database.transaction() as db:
        batches.request_cancel(db, "default", batch_id)
    assert _sweep(database) == 1
    come_due(database)
    assert states(database) == {JobState.CANCELLED: 1}


def _sweep(database: Database, limit: int = 5000) -> int:
    with database.transaction() as db:
        return recovery.apply_cancels(db, limit).jobs
