"""Results of a running batch, read by somebody who comes again and again."""

import threading

import pytest
from scenes import add_batch, claim, finish, join, refused, succeed
from sqlalchemy import event

from service.contract.result_cursors import ResultCursor
from service.store import batches, result_feed, sweeps
from service.store.database import Database
from service.store.result_feed import Told

START = ResultCursor()


def read_on(
    database: Database, batch_id: str, cursor: ResultCursor, limit: int = 1000
) -> tuple[list[Told], bool]:
    """The next lines as a reader gets them, in pages of 7, and whether that was all of the batch."""
    with database.reading() as db:
        frontier = result_feed.frontier(db, batch_id, cursor, limit=limit)
    told: list[Told] = []
    while True:
        here = told[-1].cursor if told else cursor
        with database.reading() as db:
            page = result_feed.read(db, batch_id, here, frontier.cursor, limit=7)
        if not page:
            assert str(here) == str(frontier.cursor)
            return told, frontier.is_complete
        told += page


def cancel(database: Database, batch_id: str) -> None:
    with database.transaction() as db:
        batches.request_cancel(db, "default", batch_id)
    while True:
        with database.transaction() as db:
            if not sweeps.apply_cancels(db).jobs:
                break
    with database.transaction() as db:
        batches.close_if_done(db, batch_id)


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
    cursor = START
    while True:
        running = any(thread.is_alive() for thread in threads)
        told, _ = read_on(database, batch_id, cursor, limit=17)
        seen.extend(one.job.job_id for one in told)
        cursor = ResultCursor.parse(str(told[-1].cursor)) if told else cursor
        if not running and not told:
            break
    assert len(seen) == total
    assert len(set(seen)) == total


def test_every_line_has_a_cursor_that_goes_on_right_after_it(database: Database) -> None:
    batch_id = add_batch(database, lines=9)
    for _ in range(3):
        worker = join(database)
        succeed(database, claim(database, worker, 3), worker)
    told, _ = read_on(database, batch_id, START)

    for number, one in enumerate(told, start=1):
        rest, _ = read_on(database, batch_id, one.cursor)
        assert [two.job.job_id for two in rest] == [two.job.job_id for two in told[number:]]


def test_what_never_ran_is_told_once_after_everything_else_has_ended(database: Database) -> None:
    batch_id = add_batch(database, lines=20)
    worker = join(database)
    claimed = claim(database, worker, 4)
    succeed(database, claimed[:2], worker)
    first, is_complete = read_on(database, batch_id, START)
    assert (len(first), is_complete) == (2, False)

    cancel(database, batch_id)
    assert read_on(database, batch_id, first[-1].cursor) == ([], False)  # two are still running
    finish(database, [refused(claimed[2])], worker)
    succeed(database, claimed[3:], worker)
    cancel(database, batch_id)

    second, is_complete = read_on(database, batch_id, first[-1].cursor, limit=10)
    assert not is_complete
    third, is_complete = read_on(database, batch_id, second[-1].cursor, limit=8)
    assert is_complete
    states = [one.job.state.value for one in [*first, *second, *third]]
    assert states == ["succeeded"] * 2 + ["failed", "succeeded"] + ["cancelled"] * 16
    lines = [one.job.line_no for one in [*first, *second, *third]]
    assert sorted(lines, key=int) == list(range(1, 21))
    assert read_on(database, batch_id, third[-1].cursor) == ([], True)


def test_a_batch_that_failed_as_a_whole_has_nothing_to_tell(database: Database) -> None:
    with database.transaction() as db:
        batch_id = batches.create(db, batches.NewBatch("default", "m.jsonl")).id
    assert read_on(database, batch_id, START) == ([], False)
    with database.transaction() as db:
        assert batches.fail(db, batch_id, [{"code": "empty_file"}])
    assert read_on(database, batch_id, START) == ([], True)


@pytest.mark.parametrize("text", ["999.999999999999999999", "0.5,x.999999999999999999", "32.7"])
def test_a_cursor_from_elsewhere_is_harmless(database: Database, text: str) -> None:
    batch_id = add_batch(database, lines=2)
    worker = join(database)
    succeed(database, claim(database, worker), worker)
    told, _ = read_on(database, batch_id, ResultCursor.parse(text))
    assert len(told) in (0, 2)


def test_the_frontier_is_found_without_reading_a_body(database: Database) -> None:
    batch_id = add_batch(database, lines=3)
    worker = join(database)
    succeed(database, claim(database, worker), worker)
    statements: list[str] = []
    with database.reading() as db:
        engine = db.get_bind()
        event.listen(engine, "before_cursor_execute", lambda *said: statements.append(said[2]))
        result_feed.frontier(db, batch_id, START, limit=10)

    assert statements
    assert not any(" results" in statement for statement in statements)
