"""A batch from its first line to its last: ingest, cancelling, expiry, closing, and reading along."""

import threading

import pytest
from scenes import (
    BODY,
    MODEL,
    add_batch,
    add_chat,
    check_books,
    claim,
    come_due,
    die,
    finish,
    job,
    join,
    refused,
    states,
    succeed,
    unlucky,
)
from sqlalchemy import func, select, update

from service.contract.jobs import PayloadRef
from service.contract.lifecycle import BatchState, JobState
from service.errors import BadRequest
from service.store import batches, jobs, progress, recovery, results
from service.store.batches import NewBatch
from service.store.database import Database
from service.store.jobs import Inserted, NewLine
from service.store.tables import Batch, Job


def lines(first: int, last: int) -> list[NewLine]:
    return [NewLine(number, f"line-{number}", MODEL, BODY) for number in range(first, last + 1)]


def new_batch(database: Database, **wanted: object) -> str:
    with database.transaction() as db:
        return batches.create(db, NewBatch("default", "m.jsonl", **wanted)).id  # type: ignore[arg-type]


def ingest(database: Database, batch_id: str, chunk: list[NewLine], done: bool = True) -> Inserted | None:
    """One chunk of an ingest, counted in lines instead of bytes."""
    with database.transaction() as db:
        batch = batches.find(db, batch_id)
        assert batch is not None
        start = batch.ingest_offset
        if not batches.advance_ingest(
            db, batch_id, start, start + len(chunk), num_lines=len(chunk), done=done
        ):
            return None
        return jobs.insert_lines(db, batch, chunk)


def state_of(database: Database, batch_id: str) -> BatchState:
    with database.reading() as db:
        return db.get_one(Batch, batch_id).state


def test_racing_ingesters_insert_every_line_once(database: Database) -> None:
    total, chunk = 1000, 100
    batch_id = new_batch(database)
    won: list[int] = []

    def ingester() -> None:
        while True:
            with database.reading() as db:
                offset = db.get_one(Batch, batch_id).ingest_offset
            if offset >= total:
                return
            with database.transaction() as db:
                batch = batches.find(db, batch_id)
                assert batch is not None
                if batches.advance_ingest(
                    db, batch_id, offset, offset + chunk, num_lines=chunk, done=offset + chunk == total
                ):
                    jobs.insert_lines(db, batch, lines(offset + 1, offset + chunk))
                    won.append(offset)

    threads = [threading.Thread(target=ingester) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(won) == list(range(0, total, chunk))
    check_books(database, batch_id, total)
    with database.reading() as db:
        assert db.scalar(select(func.count(func.distinct(Job.line_no)))) == total


def test_an_ingest_that_was_rolled_back_can_be_done_again(database: Database) -> None:
    batch_id = new_batch(database)
    with pytest.raises(ZeroDivisionError), database.transaction() as db:
        batch = batches.find(db, batch_id)
        assert batch is not None
        batches.advance_ingest(db, batch_id, 0, 5, num_lines=5, done=True)
        jobs.insert_lines(db, batch, lines(1, 5))
        raise ZeroDivisionError
    assert states(database) == {}
    assert ingest(database, batch_id, lines(1, 5)) == Inserted(queued=5, failed=0)
    check_books(database, batch_id, 5)


def test_a_bad_line_fails_alone_and_at_once(database: Database) -> None:
    batch_id = new_batch(database)
    bad = NewLine(2, "line-2", error=BadRequest("This line is not JSON.", code="invalid_json"))
    inserted = ingest(database, batch_id, [*lines(1, 1), bad, *lines(3, 3)])

    assert inserted == Inserted(queued=2, failed=1)
    check_books(database, batch_id, 3)
    with database.reading() as db:
        (failed,) = jobs.page(db, "default", batch_id=batch_id, states={JobState.FAILED})
    assert failed.result is not None
    assert (failed.line_no, failed.custom_id, failed.result["line"]) == (2, "line-2", 2)
    assert failed.result["code"] == "invalid_json"


def test_a_custom_id_that_is_taken_makes_a_failed_line_without_one(database: Database) -> None:
    batch_id = new_batch(database)
    ingest(database, batch_id, [NewLine(1, "a", MODEL, BODY), NewLine(2, "a", MODEL, BODY)], done=False)
    inserted = ingest(database, batch_id, [NewLine(3, "b", MODEL, BODY), NewLine(4, "a", MODEL, BODY)])

    assert inserted == Inserted(queued=1, failed=1)
    check_books(database, batch_id, 4)
    with database.reading() as db:
        views = jobs.page(db, "default", batch_id=batch_id)
    assert [(view.custom_id, view.state.value) for view in views] == [
        ("a", "queued"),
        (None, "failed"),
        ("b", "queued"),
        (None, "failed"),
    ]
    assert all("'a'" in view.result["message"] for view in views if view.result)
    assert len(claim(database, join(database))) == 2


def test_lines_without_a_custom_id_do_not_clash(database: Database) -> None:
    batch_id = new_batch(database)
    bodies = [NewLine(number, None, MODEL, BODY) for number in (1, 2, 3)]
    assert ingest(database, batch_id, bodies) == Inserted(queued=3, failed=0)


def test_the_same_custom_id_may_be_used_in_another_batch(database: Database) -> None:
    assert ingest(database, new_batch(database), lines(1, 3)) == Inserted(3, 0)
    assert ingest(database, new_batch(database), lines(1, 3)) == Inserted(3, 0)


def test_a_long_request_stays_in_its_blob(database: Database) -> None:
    batch_id = new_batch(database)
    where = PayloadRef("manifests/m.jsonl", 5_000_000_000, 70_000)
    ingest(database, batch_id, [NewLine(1, "a", MODEL, payload=where)])
    (claimed,) = claim(database, join(database))

    assert (claimed.body, claimed.payload) == (None, where)


def test_strange_text_survives_the_ingest(database: Database) -> None:
    batch_id = new_batch(database)
    strange = 'tab\t "quotes" \\N back\\slash Grüße 🦊'
    body = b'{"x":"\\u0000\\n"}\x00\xff'
    ingest(database, batch_id, [NewLine(1, strange, MODEL, body)])
    (claimed,) = claim(database, join(database))

    assert (claimed.custom_id, claimed.body) == (strange, body)


def test_a_finished_ingest_takes_no_more_lines(database: Database) -> None:
    batch_id = new_batch(database)
    ingest(database, batch_id, lines(1, 2), done=True)
    assert ingest(database, batch_id, lines(3, 4)) is None
    check_books(database, batch_id, 2)


def test_an_ingest_that_stands_still_is_found(database: Database) -> None:
    batch_id = new_batch(database)
    with database.reading() as db:
        assert recovery.unfinished_ingests(db) == []
        assert recovery.unfinished_ingests(db, quiet_seconds=-1) == [batch_id]
    ingest(database, batch_id, lines(1, 2))
    with database.reading() as db:
        assert recovery.unfinished_ingests(db, quiet_seconds=-1) == []


def test_a_manifest_that_cannot_be_used_fails_its_batch(database: Database) -> None:
    batch_id = new_batch(database)
    with database.transaction() as db:
        assert batches.fail(db, batch_id, [{"message": "It is empty.", "line": None}])
        assert not batches.fail(db, batch_id, [])
    assert state_of(database, batch_id) is BatchState.FAILED
    assert ingest(database, batch_id, lines(1, 2)) is None


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
    ingest(database, batch_id, lines(1, 2), done=False)
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
    ingest(database, batch_id, lines(1, 2), done=False)
    with database.transaction() as db:
        assert batches.request_cancel(db, "default", batch_id)
    assert ingest(database, batch_id, lines(3, 4)) is None
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
    ingest(database, batch_id, lines(1, 6), done=False)
    worker = join(database)
    running = claim(database, worker, 2)
    with database.transaction() as db:
        swept = recovery.expire_due(db)
        assert (swept.jobs, swept.batches) == (4, frozenset({batch_id}))
    assert ingest(database, batch_id, lines(7, 8)) is None
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


def test_a_reader_who_follows_a_running_batch_misses_no_result(database: Database) -> None:
    """Workers commit in any order, and job ids are not in the order of commits."""
    total, num_workers = 240, 3
    batch_id = add_batch(database, lines=total)

    def work() -> None:
        worker = join(database)
        while claimed := claim(database, worker, 5):
            succeed(database, reversed(claimed), worker)

    threads = [threading.Thread(target=work) for _ in range(num_workers)]
    for thread in threads:
        thread.start()
    seen: list[int] = []
    cursor = None
    while True:
        running = any(thread.is_alive() for thread in threads)
        with database.reading() as db:
            followed = results.follow(db, batch_id, cursor, limit=17)
        seen.extend(one.job_id for one in followed.results)
        cursor = followed.cursor
        if not running and not followed.results:
            break
    assert len(seen) == total
    assert len(set(seen)) == total


def test_a_cursor_that_we_did_not_give_out_is_refused(database: Database) -> None:
    with database.reading() as db, pytest.raises(BadRequest):
        results.follow(db, "batch_1", "nonsense")


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
