"""What no model computes is in nobody's usage, and is forgotten once it was told."""

import datetime

import pytest
from scenes import BODY, MODEL, claim_and_begin, join, succeeded

from service.contract.endpoints import CHAT, DETOKENIZE, PREFLIGHT, TOKENIZE
from service.contract.jobs import PayloadRef
from service.store import asides, jobs, usage
from service.store.database import Database
from service.store.jobs import NewJob
from service.store.tables import Job, JobPayload, Result


@pytest.mark.parametrize(
    ("endpoint", "requests"), [(CHAT, 1), (TOKENIZE, 0), (DETOKENIZE, 0), (PREFLIGHT, 0)]
)
def test_only_what_a_model_computed_is_counted(database: Database, endpoint: str, requests: int) -> None:
    with database.transaction() as db:
        jobs.insert_chat(db, NewJob("default", MODEL, BODY, endpoint=endpoint))
    worker = join(database)

    (job,) = claim_and_begin(database, worker)
    with database.transaction() as db:
        recorded = jobs.finish(db, [succeeded(job)], worker)

    assert recorded.recorded == 1
    today = datetime.datetime.now(datetime.UTC).date()
    with database.reading() as db:
        spent = usage.of(db, "default", since=today - datetime.timedelta(1), until=today)
    assert sum(each.requests for each in spent) == requests


@pytest.mark.parametrize(("endpoint", "goes"), [(TOKENIZE, True), (DETOKENIZE, True), (CHAT, False)])
def test_what_was_counted_is_forgotten_once_it_has_ended(
    database: Database, endpoint: str, goes: bool
) -> None:
    payload = PayloadRef("bodies/long", 0, 9)
    with database.transaction() as db:
        job_id = jobs.insert_chat(db, NewJob("default", MODEL, endpoint=endpoint, payload=payload))
        assert asides.forget(db, job_id) is None
    worker = join(database)
    (job,) = claim_and_begin(database, worker)
    with database.transaction() as db:
        assert asides.forget(db, job_id) is None
        jobs.finish(db, [succeeded(job)], worker)
        assert asides.forget(db, job_id) == ("bodies/long" if goes else None)

    with database.reading() as db:
        left = [db.get(table, job_id) is not None for table in (Job, JobPayload, Result)]
    assert left == [not goes] * 3
