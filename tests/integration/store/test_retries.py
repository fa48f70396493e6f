"""What a batch did not answer becomes another batch, each line once, whoever races or is killed."""

import threading
from typing import Any

import pytest
from scenes import (
    BODY,
    MODEL,
    check_books,
    claim,
    finish,
    good_lines,
    ingest,
    join,
    new_batch,
    refused,
    states,
    succeed,
)
from sqlalchemy import select, update

from service.contract.jobs import ClaimedJob, Failed, PayloadRef
from service.contract.lifecycle import JobState
from service.errors import BadRequest, Unavailable
from service.store import batches, recovery, retries, wishes
from service.store.batches import NewBatch
from service.store.database import Database
from service.store.jobs import NewLine
from service.store.retries import Retries
from service.store.tables import Batch, Job, JobPayload

ALL = Retries()
WHERE = PayloadRef("m.jsonl", 5_000_000_000, 70_000)


def exhausted(job: ClaimedJob) -> Failed:
    """Its last attempt has failed, though another might not."""
    return Failed(job, Unavailable('It said "retryable":false, and it was not true.'))


@pytest.fixture
def parent(database: Database) -> str:
    """Eight lines: answered, refused, unlucky, unreadable, long and cancelled, answered, cancelled, expired."""
    batch_id = new_batch(database)
    unreadable = NewLine(4, "line-4", error=BadRequest("This line is not JSON.", code="invalid_json"))
    long = NewLine(5, "line-5", MODEL, payload=WHERE)
    ingest(database, batch_id, [*good_lines(1, 3), unreadable, long, *good_lines(6, 8)])
    worker = join(database)
    with database.transaction() as db:
        db.execute(update(Job).where(Job.line_no == 3).values(failures=99))
        db.execute(update(Job).where(Job.line_no.in_((5, 7, 8))).values(priority=99))
    answered, refusal, unlucky, more = claim(database, worker, 4)
    finish(database, [refused(refusal), exhausted(unlucky)], worker)
    succeed(database, [answered, more], worker)
    with database.transaction() as db:
        batches.request_cancel(db, "default", batch_id)
        recovery.apply_cancels(db)
        assert batches.close_if_done(db, batch_id)
        assert batches.complete(db, batch_id)
        db.execute(update(Job).where(Job.line_no == 8).values(state=JobState.EXPIRED))
    return batch_id


def child_of(database: Database, parent_id: str, wanted: Retries = ALL, **options: Any) -> str:
    new = NewBatch("default", "m.jsonl", retry_of=parent_id, retries=wanted.as_dict(), **options)
    with database.transaction() as db:
        return batches.create(db, new).id


def copy_chunk(database: Database, child_id: str, limit: int) -> bool:
    """One chunk, as `ingest_retry` takes it; False if there is no more to do."""
    with database.reading() as db:
        child = batches.find(db, child_id)
        assert child is not None
        if child.ingested_at is not None:
            return False
        assert child.retry_of is not None
        assert child.retries is not None
        offset = child.ingest_offset
        again = Retries.from_dict(child.retries)
        lines = retries.next_lines(db, child.retry_of, again, offset, limit)
    end = lines[-1].line_no if lines else offset
    with database.transaction() as db:
        done = len(lines) < limit
        if not batches.advance_ingest(db, child_id, offset, end, num_lines=len(lines), done=done):
            return False
        retries.copy_lines(db, child, lines)
    return True


def copy_all(database: Database, child_id: str, limit: int = 2) -> None:
    while copy_chunk(database, child_id, limit):
        pass


def lines_of(database: Database, batch_id: str) -> list[int | None]:
    with database.reading() as db:
        return list(db.scalars(select(Job.line_no).where(Job.batch_id == batch_id).order_by(Job.line_no)))


def test_what_failed_or_never_ran_is_tried_again_as_it_was(database: Database, parent: str) -> None:
    child = child_of(database, parent, priority=4)
    copy_all(database, child)

    assert lines_of(database, child) == [2, 3, 5, 7, 8]
    check_books(database, child, 5, alone=False)
    worker = join(database)
    claimed = claim(database, worker)
    assert [(job.batch_id, job.custom_id, job.priority) for job in claimed] == [
        (child, f"line-{n}", 4) for n in (2, 3, 5, 7, 8)
    ]
    assert [(job.body, job.payload) for job in claimed if job.line_no == 5] == [(None, WHERE)]
    assert {job.body for job in claimed if job.line_no != 5} == {BODY}
    assert {(job.model, job.endpoint, job.attempt) for job in claimed} == {(MODEL, "/v1/chat/completions", 1)}
    succeed(database, claimed, worker)
    check_books(database, child, 5, alone=False)
    with database.transaction() as db:
        assert batches.close_if_done(db, child)
        assert batches.complete(db, child)


@pytest.mark.parametrize(
    ("wanted", "lines"),
    [
        (Retries(only_retryable=True), [3, 5, 7, 8]),
        (Retries((JobState.FAILED,)), [2, 3]),
        (Retries((JobState.FAILED,), only_retryable=True), [3]),
        (Retries((JobState.CANCELLED,)), [5, 7]),
        (Retries((JobState.EXPIRED,)), [8]),
        (Retries((JobState.DEAD,)), []),
    ],
)
def test_only_what_was_asked_for_is_tried_again(
    database: Database, parent: str, wanted: Retries, lines: list[int]
) -> None:
    with database.reading() as db:
        assert retries.any_lines(db, parent, wanted) == bool(lines)
    child = child_of(database, parent, wanted)
    copy_all(database, child, limit=1)
    assert lines_of(database, child) == lines


def test_a_child_can_be_retried_again(database: Database, parent: str) -> None:
    child = child_of(database, parent)
    copy_all(database, child)
    worker = join(database)
    claimed = claim(database, worker)
    succeed(database, claimed[1:], worker)
    finish(database, [refused(claimed[0])], worker)

    grandchild = child_of(database, child)
    copy_all(database, grandchild)

    assert lines_of(database, grandchild) == [2]
    assert [job.body for job in claim(database, worker)] == [BODY]


def test_a_child_that_is_paused_while_it_is_filled_holds_its_lines(database: Database, parent: str) -> None:
    child = child_of(database, parent)
    copy_chunk(database, child, 2)
    with database.transaction() as db:
        assert wishes.pause(db, "default", child)
        wishes.spread(db, child)
    copy_all(database, child)
    assert states(database)[JobState.HELD] == 5
    assert claim(database, join(database)) == []


def test_a_copy_that_was_rolled_back_is_done_again(database: Database, parent: str) -> None:
    child = child_of(database, parent)
    copy_chunk(database, child, 2)
    with pytest.raises(KeyError):
        _copy_and_stumble(database, parent, child)
    assert lines_of(database, child) == [2, 3]
    copy_all(database, child)
    assert lines_of(database, child) == [2, 3, 5, 7, 8]
    with database.reading() as db:
        payloads = select(JobPayload.job_id).join(Job, Job.id == JobPayload.job_id)
        assert len(db.scalars(payloads.where(Job.batch_id == child)).all()) == 5


def test_those_who_race_copy_every_line_once(database: Database) -> None:
    total = 200
    parent = new_batch(database)
    ingest(database, parent, good_lines(1, total))
    with database.transaction() as db:
        batches.request_cancel(db, "default", parent)
        recovery.apply_cancels(db)
    child = child_of(database, parent)
    errors: list[BaseException] = []

    def race() -> None:
        try:
            while not _is_filled(database, child):
                copy_chunk(database, child, 7)
        except BaseException as error:
            errors.append(error)

    racers = [threading.Thread(target=race) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert errors == []
    assert lines_of(database, child) == list(range(1, total + 1))
    check_books(database, child, total)


def test_a_cancelled_child_takes_no_more_lines(database: Database, parent: str) -> None:
    child = child_of(database, parent)
    copy_chunk(database, child, 2)
    with database.transaction() as db:
        batches.request_cancel(db, "default", child)
        recovery.apply_cancels(db)
    copy_all(database, child)
    check_books(database, child, 2, alone=False)


def _is_filled(database: Database, batch_id: str) -> bool:
    with database.reading() as db:
        return db.get_one(Batch, batch_id).ingested_at is not None


def _copy_and_stumble(database: Database, parent: str, child_id: str) -> None:
    with database.transaction() as db:
        child = batches.find(db, child_id)
        assert child is not None
        lines = retries.next_lines(db, parent, ALL, child.ingest_offset, 2)
        assert batches.advance_ingest(
            db, child_id, child.ingest_offset, lines[-1].line_no, num_lines=2, done=False
        )
        retries.copy_lines(db, child, lines)
        raise KeyError
