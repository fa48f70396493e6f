"""A batch stops once its results have used up what it may spend."""

import threading

from scenes import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
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
from sqlalchemy import update

from service.contract.lifecycle import BatchState, JobState
from service.store import batches, budgets, recovery
from service.store.database import Database
from service.store.tables import Batch

TOKENS = PROMPT_TOKENS + COMPLETION_TOKENS


def stop_spent(database: Database, *batch_ids: str) -> list[str]:
    with database.transaction() as db:
        return budgets.stop_spent(db, batch_ids)


def batch_of(database: Database, batch_id: str) -> Batch:
    with database.reading() as db:
        return db.get_one(Batch, batch_id)


def test_a_batch_stops_when_its_results_reach_its_budget(database: Database) -> None:
    batch_id = new_batch(database, token_budget=3 * TOKENS)
    ingest(database, batch_id, good_lines(1, 6))
    worker = join(database)
    claimed = claim(database, worker, 4)
    succeed(database, claimed[:2], worker)
    assert stop_spent(database, batch_id) == []
    with database.reading() as db:
        assert budgets.spent_batches(db) == []

    succeed(database, claimed[2:3], worker)
    with database.reading() as db:
        assert budgets.spent_batches(db) == [batch_id]
    assert stop_spent(database, batch_id) == [batch_id]
    assert stop_spent(database, batch_id) == []
    with database.transaction() as db:
        assert recovery.apply_cancels(db).jobs == 2
    succeed(database, claimed[3:], worker)  # it was under way

    check_books(database, batch_id, 6)
    with database.transaction() as db:
        assert batches.close_if_done(db, batch_id)
        assert batches.complete(db, batch_id)
    ended = batch_of(database, batch_id)
    assert ended.state is BatchState.CANCELLED
    assert ended.errors is not None
    assert ended.errors[0]["code"] == "token_budget_reached"
    assert states(database) == {JobState.SUCCEEDED: 4, JobState.CANCELLED: 2}


def test_what_has_no_budget_or_has_ended_is_not_stopped(database: Database) -> None:
    without = new_batch(database)
    small = new_batch(database, token_budget=1)
    for batch_id in (without, small):
        ingest(database, batch_id, good_lines(1, 1))
    worker = join(database)
    succeed(database, claim(database, worker), worker)
    with database.transaction() as db:
        assert batches.close_if_done(db, small)
    # Its last line has ended: nothing is left to stop.
    assert stop_spent(database, without, small) == []
    assert batch_of(database, small).state is BatchState.FINALIZING


def test_failures_cost_nothing(database: Database) -> None:
    batch_id = new_batch(database, token_budget=1)
    ingest(database, batch_id, good_lines(1, 3))
    worker = join(database)
    finish(database, [refused(job) for job in claim(database, worker, 2)], worker)
    assert stop_spent(database, batch_id) == []


def test_a_batch_that_is_still_read_stops_too(database: Database) -> None:
    batch_id = new_batch(database, token_budget=TOKENS)
    ingest(database, batch_id, good_lines(1, 2), done=False)
    worker = join(database)
    succeed(database, claim(database, worker, 1), worker)
    assert stop_spent(database, batch_id) == [batch_id]
    assert ingest(database, batch_id, good_lines(3, 4)) is None
    with database.transaction() as db:
        assert recovery.apply_cancels(db).jobs == 1
    check_books(database, batch_id, 2)


def test_a_budget_that_is_lowered_stops_a_batch_that_has_used_more(database: Database) -> None:
    batch_id = new_batch(database)
    ingest(database, batch_id, good_lines(1, 2))
    worker = join(database)
    succeed(database, claim(database, worker, 1), worker)
    with database.transaction() as db:
        assert batches.change(db, "default", batch_id, {"token_budget": TOKENS + 1})
        assert budgets.stop_spent(db, [batch_id]) == []
        assert batches.change(db, "default", batch_id, {"token_budget": TOKENS})
        assert budgets.stop_spent(db, [batch_id]) == [batch_id]
        assert not batches.change(db, "default", batch_id, {"token_budget": None})


def test_a_window_is_changed_only_while_it_is_open(database: Database) -> None:
    batch_id = new_batch(database, window_seconds=100.0)
    with database.transaction() as db:
        assert batches.change(db, "default", batch_id, {"completion_window": "1h"}, window_seconds=3600)
        batch = batches.find(db, batch_id)
        assert batch is not None
        assert batch.expires_at == batch.created_at + 3600
        db.execute(update(Batch).values(expires_at=1.0))
        assert not batches.change(db, "default", batch_id, {}, window_seconds=7200)
        assert batches.change(db, "default", batch_id, {"user_metadata": {"a": "b"}})
        assert not batches.change(db, "somebody", batch_id, {})


def test_of_many_who_look_one_stops_the_batch(database: Database) -> None:
    batch_id = new_batch(database, token_budget=5 * TOKENS)
    ingest(database, batch_id, good_lines(1, 60))
    stopped: list[str] = []

    def work() -> None:
        worker = join(database)
        while claimed := claim(database, worker, 2):
            recorded = succeed(database, claimed, worker)
            if found := stop_spent(database, *recorded.batches):
                stopped.extend(found)
                with database.transaction() as db:
                    recovery.apply_cancels(db)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()

    assert stopped == [batch_id]
    check_books(database, batch_id, 60)
    # Three workers with two jobs each in hand: the budget, and at most what was under way.
    assert 5 <= states(database)[JobState.SUCCEEDED] <= 5 + 2 * 2 * 3
