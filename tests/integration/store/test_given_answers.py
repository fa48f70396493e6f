"""Answers that are given again: written with the result of the job that computed them, and by nobody else."""

import datetime
from dataclasses import replace

import pytest
from scenes import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    add_batch,
    claim,
    die,
    finish,
    good_lines,
    ingest,
    join,
    new_batch,
)
from sqlalchemy import delete, func, select, update

from service.contract.jobs import ClaimedJob, Succeeded, Usage
from service.contract.lifecycle import JobClass
from service.store import answers, jobs, usage
from service.store.answers import KeptAnswer
from service.store.database import Database
from service.store.jobs import NewJob
from service.store.tables import Answer, Job, Result

DAY_SECONDS = 86400.0
DIGEST = bytes(range(32))
BODY = {"choices": [{"index": 0}]}


def answered(job: ClaimedJob, digest: bytes = DIGEST) -> Succeeded:
    spent = Usage(PROMPT_TOKENS, COMPLETION_TOKENS, text_tokens=PROMPT_TOKENS)
    return Succeeded(job, BODY, spent, {"revision": "r1"}, digest=digest)


def found(database: Database, tenant: str = "default", age: float = DAY_SECONDS) -> KeptAnswer | None:
    with database.reading() as db:
        return answers.find(db, tenant, DIGEST, max_age_seconds=age)


def num_kept(database: Database) -> int:
    with database.reading() as db:
        return db.scalar(select(func.count()).select_from(Answer)) or 0


def make_old(database: Database, seconds: float) -> None:
    with database.transaction() as db:
        db.execute(update(Answer).values(created_at=Answer.created_at - seconds))


@pytest.fixture
def worker(database: Database) -> str:
    return join(database)


@pytest.fixture
def one(database: Database, worker: str) -> ClaimedJob:
    """A claimed job."""
    add_batch(database, lines=1)
    (claimed,) = claim(database, worker)
    return claimed


def test_an_answer_is_found_by_its_digest_with_its_usage(
    database: Database, worker: str, one: ClaimedJob
) -> None:
    assert found(database) is None

    finish(database, [answered(one)], worker)

    spent = Usage(PROMPT_TOKENS, COMPLETION_TOKENS, text_tokens=PROMPT_TOKENS)
    assert found(database) == KeptAnswer(one.id, BODY, {"revision": "r1"}, spent)


def test_another_tenant_does_not_find_it(database: Database, worker: str, one: ClaimedJob) -> None:
    finish(database, [answered(one)], worker)

    assert found(database, tenant="another") is None


def test_a_worker_that_lost_its_lease_keeps_no_answer(database: Database, one: ClaimedJob) -> None:
    die(database, one.owner)

    assert finish(database, [answered(one)], one.owner).fenced == 1

    assert num_kept(database) == 0


def test_an_answer_without_a_digest_is_not_kept(database: Database, worker: str, one: ClaimedJob) -> None:
    finish(database, [replace(answered(one), digest=None)], worker)

    assert num_kept(database) == 0


def test_an_answer_whose_result_is_gone_is_not_found(
    database: Database, worker: str, one: ClaimedJob
) -> None:
    finish(database, [answered(one)], worker)
    with database.transaction() as db:
        db.execute(delete(Result))

    assert found(database) is None


def test_of_equal_answers_the_newest_stands(database: Database, worker: str) -> None:
    add_batch(database, lines=2)
    first, second = claim(database, worker)

    finish(database, [answered(first)], worker)
    make_old(database, DAY_SECONDS)
    finish(database, [answered(second)], worker)

    kept = found(database)
    assert kept is not None
    assert kept.job_id == second.id
    assert num_kept(database) == 1


def test_equal_answers_of_one_flush_are_one(database: Database, worker: str) -> None:
    add_batch(database, lines=2)

    finish(database, [answered(job) for job in claim(database, worker)], worker)

    assert num_kept(database) == 1


def test_an_old_answer_is_not_found_and_then_forgotten(
    database: Database, worker: str, one: ClaimedJob
) -> None:
    finish(database, [answered(one)], worker)
    make_old(database, DAY_SECONDS + 1)

    assert found(database) is None
    with database.transaction() as db:
        assert answers.forget_old(db, DAY_SECONDS) == 1
    assert num_kept(database) == 0


def test_the_old_are_forgotten_in_rounds_and_the_young_are_left(database: Database, worker: str) -> None:
    add_batch(database, lines=5)
    claimed = claim(database, worker)
    finish(database, [answered(job, bytes([job.id])) for job in claimed[:4]], worker)
    make_old(database, DAY_SECONDS + 1)
    finish(database, [answered(claimed[4])], worker)

    rounds = []
    for _ in range(3):
        with database.transaction() as db:
            rounds.append(answers.forget_old(db, DAY_SECONDS, limit=3))

    assert rounds == [3, 1, 0]
    assert found(database) is not None


def test_an_answer_that_is_given_again_counts_as_a_request_and_costs_no_tokens(
    database: Database, worker: str
) -> None:
    add_batch(database, lines=2)
    first, second = claim(database, worker)

    finish(database, [answered(first), replace(answered(second), is_reused=True)], worker)

    today = datetime.datetime.now(datetime.UTC).date()
    with database.reading() as db:
        (spent,) = usage.of(db, "default", since=today, until=today)
        of_results = db.scalar(select(func.sum(Result.completion_tokens)))
    assert (spent.requests, spent.prompt_tokens, spent.completion_tokens) == (
        2,
        PROMPT_TOKENS,
        COMPLETION_TOKENS,
    )
    assert of_results == 2 * COMPLETION_TOKENS


@pytest.mark.parametrize("dedupe", [False, True])
def test_the_lines_of_a_batch_may_share_answers_if_it_asks_for_that(
    database: Database, worker: str, dedupe: bool
) -> None:
    batch = new_batch(database, dedupe=dedupe)
    ingest(database, batch, good_lines(1, 2))

    assert [job.reuse for job in claim(database, worker)] == [dedupe, dedupe]


def test_a_single_request_may_share_answers_if_it_asks_for_that(database: Database, worker: str) -> None:
    with database.transaction() as db:
        for reuse in (True, False):
            jobs.insert_chat(db, NewJob("default", "tiny", b"{}", job_class=JobClass.BULK, reuse=reuse))

    assert [job.reuse for job in claim(database, worker)] == [True, False]
    with database.reading() as db:
        assert db.scalars(select(Job.reuse).order_by(Job.id)).all() == [True, False]
