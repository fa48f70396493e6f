"""What no model computes is in nobody's usage."""

import datetime

import pytest
from scenes import BODY, MODEL, claim_and_begin, join, succeeded

from service.contract.endpoints import CHAT, DETOKENIZE, PREFLIGHT, TOKENIZE
from service.store import jobs, usage
from service.store.database import Database
from service.store.jobs import NewJob


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
