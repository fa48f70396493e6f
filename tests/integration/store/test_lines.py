"""Manifest lines become jobs: each once, whoever races or fails."""

import threading

import pytest
from scenes import (
    BODY,
    MODEL,
    check_books,
    claim,
    good_lines,
    ingest,
    join,
    new_batch,
    states,
)
from sqlalchemy import func, select

from service.contract.jobs import PayloadRef
from service.contract.lifecycle import BatchState, JobState
from service.errors import BadRequest
from service.store import batches, jobs, recovery
from service.store.database import Database
from service.store.jobs import Inserted, NewLine
from service.store.tables import Batch, Job


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
                    jobs.insert_lines(db, batch, good_lines(offset + 1, offset + chunk))
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


def test_an_ingester_that_comes_late_inserts_nothing(database: Database) -> None:
    batch_id = new_batch(database)
    ingest(database, batch_id, good_lines(1, 5), done=False)
    with database.transaction() as db:
        assert not batches.advance_ingest(db, batch_id, 0, 5, num_lines=5, done=False)
        assert not batches.advance_ingest(db, batch_id, 0, 9, num_lines=9, done=True)
    check_books(database, batch_id, 5)
    assert ingest(database, batch_id, good_lines(6, 7)) == Inserted(2, 0)


def test_an_ingest_that_was_rolled_back_can_be_done_again(database: Database) -> None:
    batch_id = new_batch(database)
    with pytest.raises(KeyError):
        _ingest_and_stumble(database, batch_id)
    assert states(database) == {}
    assert ingest(database, batch_id, good_lines(1, 5)) == Inserted(queued=5, failed=0)
    check_books(database, batch_id, 5)


def test_a_bad_line_fails_alone_and_at_once(database: Database) -> None:
    batch_id = new_batch(database)
    bad = NewLine(2, "line-2", error=BadRequest("This line is not JSON.", code="invalid_json"))
    inserted = ingest(database, batch_id, [*good_lines(1, 1), bad, *good_lines(3, 3)])

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
    assert ingest(database, new_batch(database), good_lines(1, 3)) == Inserted(3, 0)
    assert ingest(database, new_batch(database), good_lines(1, 3)) == Inserted(3, 0)


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
    ingest(database, batch_id, good_lines(1, 2), done=True)
    assert ingest(database, batch_id, good_lines(3, 4)) is None
    check_books(database, batch_id, 2)


def test_an_ingest_that_stands_still_is_found(database: Database) -> None:
    batch_id = new_batch(database)
    with database.reading() as db:
        assert recovery.unfinished_ingests(db) == []
        assert recovery.unfinished_ingests(db, quiet_seconds=-1) == [batch_id]
    ingest(database, batch_id, good_lines(1, 2))
    with database.reading() as db:
        assert recovery.unfinished_ingests(db, quiet_seconds=-1) == []


def test_a_manifest_that_cannot_be_used_fails_its_batch(database: Database) -> None:
    batch_id = new_batch(database)
    with database.transaction() as db:
        assert batches.fail(db, batch_id, [{"message": "It is empty.", "line": None}])
        assert not batches.fail(db, batch_id, [])
    with database.reading() as db:
        assert db.get_one(Batch, batch_id).state is BatchState.FAILED
    assert ingest(database, batch_id, good_lines(1, 2)) is None


def _ingest_and_stumble(database: Database, batch_id: str) -> None:
    with database.transaction() as db:
        batch = batches.find(db, batch_id)
        assert batch is not None
        batches.advance_ingest(db, batch_id, 0, 5, num_lines=5, done=True)
        jobs.insert_lines(db, batch, good_lines(1, 5))
        raise KeyError
