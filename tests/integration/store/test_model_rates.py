"""How fast models were, told from their results."""

import datetime

import pytest
from scenes import MODEL, add_batch, add_chat, claim_and_begin, join
from sqlalchemy import update

from service.contract.jobs import Succeeded, Usage
from service.store import jobs, rates
from service.store.database import Database
from service.store.tables import Result
from service.store.tables import Usage as UsageRow

SPENT = Usage(prompt_tokens=70, completion_tokens=30, prompt_seconds=1.0, completion_seconds=3.0)


def answered(database: Database, num_jobs: int, spent: Usage = SPENT) -> None:
    """Jobs that ended one second after another, each having taken four."""
    worker = join(database)
    claimed = claim_and_begin(database, worker, num_jobs)
    with database.transaction() as db:
        jobs.finish(db, [Succeeded(job, {}, spent) for job in claimed], worker)
        for number, job in enumerate(claimed):
            later = Result.finished_at + number
            db.execute(update(Result).where(Result.job_id == job.id).values(finished_at=later))


def test_time_in_which_jobs_ran_beside_each_other_counts_once(database: Database) -> None:
    add_batch(database, 17)
    answered(database, 17)

    with database.reading() as db:
        # From the first's beginning to the last's end: 4 s and 16 more.
        assert rates.tokens_per_second(db, MODEL) == pytest.approx(17 * 100 / 20)
        assert rates.tokens_per_second(db, "another") is None


def test_a_handful_of_answers_or_chats_alone_say_nothing(database: Database) -> None:
    add_batch(database, rates.LEAST_RESULTS - 1)
    answered(database, rates.LEAST_RESULTS - 1)
    for _ in range(20):
        add_chat(database)
    answered(database, 20)

    with database.reading() as db:
        assert rates.tokens_per_second(db, MODEL) is None


def test_what_was_answered_from_memory_took_no_time_and_says_nothing(database: Database) -> None:
    add_batch(database, 20)
    answered(database, 20, Usage(prompt_tokens=70, completion_tokens=30))

    with database.reading() as db:
        assert rates.tokens_per_second(db, MODEL) is None


def test_the_length_of_answers_is_that_of_the_tenant_s_last_days(database: Database) -> None:
    add_batch(database, 4)
    answered(database, 4)
    long_ago = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(30)
    with database.transaction() as db:
        numbers = dict.fromkeys(("prompt_tokens", "image_tokens", "video_tokens", "audio_tokens"), 0)
        old = {"requests": 1, "completion_tokens": 9000, "day": long_ago, "shard": 0, "key_id": ""}
        db.add(UsageRow(tenant_id="default", model=MODEL, **old, **numbers))

    with database.reading() as db:
        assert rates.tokens_per_answer(db, "default", MODEL) == 30
        assert rates.tokens_per_answer(db, "other", MODEL) is None
