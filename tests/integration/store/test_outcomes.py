"""What is written when jobs end: results, counters, usage, and another try where one can help."""

import datetime

import pytest
from scenes import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    add_batch,
    add_chat,
    check_books,
    claim,
    come_due,
    finish,
    job,
    join,
    refused,
    states,
    succeed,
    unlucky,
)
from sqlalchemy import select, update

from service.contract.jobs import Cancelled, Failed, Succeeded, Usage
from service.contract.lifecycle import JobState
from service.errors import Unavailable
from service.store import jobs, progress, recovery, usage
from service.store.database import Database, database_now
from service.store.outcomes import MAX_FAILURES
from service.store.tables import Job


def test_counters_results_and_usage_agree_whatever_the_outcome(database: Database) -> None:
    batch = add_batch(database, lines=8)
    worker = join(database)
    one, two, three, four, five, *rest = claim(database, worker)
    finish(database, [refused(two), Cancelled(three), unlucky(four)], worker)
    succeed(database, [one, five], worker)

    check_books(database, batch, lines=8)
    with database.reading() as db:
        counts = progress.of(db, batch)
    assert (counts.succeeded, counts.failed, counts.cancelled, counts.ended) == (2, 1, 1, 4)
    assert (counts.prompt_tokens, counts.completion_tokens) == (2 * PROMPT_TOKENS, 2 * COMPLETION_TOKENS)
    assert states(database)[JobState.BACKOFF] == 1
    assert states(database)[JobState.RUNNING] == len(rest)


def test_a_reply_is_read_back_with_its_usage_and_provenance(database: Database) -> None:
    job_id = add_chat(database)
    worker = join(database)
    (claimed,) = claim(database, worker)
    spent = Usage(10, 4, text_tokens=6, image_tokens=4, prompt_seconds=0.5, completion_seconds=1.5)
    finish(database, [Succeeded(claimed, {"text": "a red ball"}, spent, {"revision": "r1"})], worker)

    with database.reading() as db:
        view = jobs.get(db, "default", job_id)
    assert view is not None
    assert (view.state, view.attempt, view.result) == (JobState.SUCCEEDED, 1, {"text": "a red ball"})
    assert (view.usage, view.provenance) == (spent, {"revision": "r1"})
    assert view.finished_at is not None


def test_a_batch_counts_the_tokens_that_were_not_computed_again(database: Database) -> None:
    batch_id = add_batch(database, lines=2)
    worker = join(database)
    for cached in (3, 4):
        (claimed,) = claim(database, worker, 1)
        spent = Usage(prompt_tokens=5, completion_tokens=2, text_tokens=5, cached_tokens=cached)
        finish(database, [Succeeded(claimed, {}, spent)], worker)

    with database.reading() as db:
        counts = progress.of(db, batch_id)
    assert (counts.prompt_tokens, counts.completion_tokens, counts.cached_tokens) == (10, 4, 7)


def test_a_failure_is_read_back_as_the_error_it_was(database: Database) -> None:
    job_id = add_chat(database)
    worker = join(database)
    (claimed,) = claim(database, worker)
    failure = refused(claimed)
    finish(database, [failure], worker)

    with database.reading() as db:
        view = jobs.get(db, "default", job_id)
    assert view is not None
    assert view.state is JobState.FAILED
    assert view.result == failure.error.as_dict() | {"status": 400}


def test_backoff_is_jittered_and_doubles_with_each_failure(database: Database) -> None:
    add_batch(database, lines=40)
    worker = join(database)
    for ceiling in (2, 4, 8):
        claimed = claim(database, worker)
        finish(database, [unlucky(one) for one in claimed], worker)
        delays = _delays(database)
        assert len(delays) == 40
        assert max(delays) <= ceiling
        assert max(delays) > ceiling * 0.6
        assert min(delays) < ceiling * 0.4
        come_due(database)


def test_a_job_whose_backoff_is_not_over_stays_there(database: Database) -> None:
    add_batch(database, lines=1)
    worker = join(database)
    finish(database, [unlucky(claim(database, worker)[0])], worker)
    with database.transaction() as db:
        db.execute(update(Job).values(run_at=database_now() + 60))
    with database.transaction() as db:
        assert recovery.wake_due(db) == frozenset()
    assert states(database) == {JobState.BACKOFF: 1}


def test_an_error_that_keeps_coming_back_fails_the_job_in_the_end(database: Database) -> None:
    batch = add_batch(database, lines=1)
    worker = join(database)
    for _ in range(MAX_FAILURES):
        (claimed,) = claim(database, worker)
        finish(database, [unlucky(claimed)], worker)
        come_due(database)

    ended = job(database, claimed.id)
    assert (ended.state, ended.failures, ended.attempt) == (JobState.FAILED, MAX_FAILURES, MAX_FAILURES)
    check_books(database, batch, lines=1)
    with database.reading() as db:
        view = jobs.get(db, "default", claimed.id)
    assert view is not None
    assert view.result is not None
    assert view.result["code"] == "unavailable"


def test_a_job_that_was_to_be_cancelled_is_not_tried_again(database: Database) -> None:
    batch = add_batch(database, lines=1)
    worker = join(database)
    (claimed,) = claim(database, worker)
    with database.transaction() as db:
        assert jobs.cancel(db, "default", claimed.id)
        assert jobs.cancel_requested(db, worker) == {claimed.id}
    finish(database, [unlucky(claimed)], worker)

    assert states(database) == {JobState.CANCELLED: 1}
    check_books(database, batch, lines=1)


def test_a_terminal_job_never_moves_again(database: Database) -> None:
    batch = add_batch(database, lines=1)
    worker = join(database)
    (claimed,) = claim(database, worker)
    finish(database, [refused(claimed)], worker)
    with database.transaction() as db:
        assert not jobs.cancel(db, "default", claimed.id)
        assert jobs.release(db, [claimed], worker) == 0
    succeed(database, [claimed], worker)

    assert states(database) == {JobState.FAILED: 1}
    check_books(database, batch, lines=1)


def test_usage_is_told_by_day_model_and_key(database: Database) -> None:
    add_chat(database)
    add_batch(database, lines=2)
    worker = join(database)
    claimed = claim(database, worker)
    finish(database, [Succeeded(one, {}, Usage(10, 4, image_tokens=6)) for one in claimed], worker)
    with database.reading() as db:
        now = db.scalar(select(database_now()))
        today = datetime.datetime.fromtimestamp(now, datetime.UTC).date()
        (spent,) = usage.of(db, "default", since=today, until=today)
        assert usage.of(db, "other", since=today, until=today) == []
    assert (spent.day, spent.model, spent.key_id, spent.requests) == (today, "tiny", None, 3)
    assert (spent.prompt_tokens, spent.completion_tokens, spent.image_tokens) == (30, 12, 18)


@pytest.mark.parametrize("number", [1, 3])
def test_one_flush_may_hold_jobs_of_many_batches(database: Database, number: int) -> None:
    batches = [add_batch(database, lines=2) for _ in range(number)]
    worker = join(database)
    recorded = succeed(database, claim(database, worker), worker)

    assert recorded.batches == frozenset(batches)
    with database.reading() as db:
        assert [progress.of(db, batch).succeeded for batch in batches] == [2] * number


def test_a_retried_error_costs_its_neighbours_nothing(database: Database) -> None:
    batch = add_batch(database, lines=3)
    worker = join(database)
    one, two, three = claim(database, worker)
    recorded = finish(database, [Failed(two, Unavailable("Not now."))], worker)
    assert (recorded.recorded, recorded.batches) == (1, frozenset())
    assert succeed(database, [one, three], worker).recorded == 2
    check_books(database, batch, lines=3)


def _delays(database: Database) -> list[float]:
    with database.reading() as db:
        return list(db.scalars(select(Job.run_at - database_now()).where(Job.state == JobState.BACKOFF)))
