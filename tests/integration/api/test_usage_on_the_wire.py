"""Usage: what the tokens of the results add up to, told to those whose they are."""

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.actions.parts import Parts
from service.contract.callers import Role
from service.contract.jobs import Succeeded, Usage
from service.contract.lifecycle import WorkerRole
from service.store import jobs, keys, workers

COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


@pytest.fixture
def spending(http: FlaskClient, parts: Parts, make_key: Callable) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two keys of one tenant that have asked for two answers and one, each of another length; and a stranger's work."""
    pair = make_key("acme"), make_key("acme")
    for headers in (pair[0], pair[0], pair[1], make_key("globex")):
        assert http.post("/v1/jobs", headers=headers, json={"prompt": "Hello"}).status_code == 202
    with parts.database.transaction() as db:
        owner = workers.register(db, WorkerRole.ENGINE, "test", ["tiny"], None)
        claimed = jobs.claim(db, models=["tiny"], owner=owner, limit=100)
        jobs.begin(db, claimed, owner)
        spent = [
            Succeeded(job, {}, Usage(prompt_tokens=10 + job.id, completion_tokens=job.id, image_tokens=5))
            for job in claimed
        ]
        jobs.finish(db, spent, owner)
    return pair


def test_usage_adds_up_to_the_usage_of_the_results(http: FlaskClient, spending: tuple) -> None:
    mine = spending[0]
    results = [job["usage"] for job in http.get("/v1/jobs", headers=mine).json["data"]]
    sums = {name: sum(usage[name] for usage in results) for name in COUNTS}
    report = http.get("/v1/usage", headers=mine).json
    assert len(results) == report["total"]["requests"] == 3
    assert {name: report["total"][name] for name in COUNTS} == sums
    assert report["total"]["image_tokens"] == 15
    for groups in (["key"], ["model"], ["day"], ["key", "model", "day"]):
        told = http.get("/v1/usage", headers=mine, query_string={"group_by": groups}).json
        assert {name: sum(row[name] for row in told["data"]) for name in COUNTS} == sums
        assert told["total"] == report["total"]


def test_usage_is_told_by_key_and_day_unless_asked_otherwise(
    http: FlaskClient, parts: Parts, spending: tuple
) -> None:
    report = http.get("/v1/usage", headers=spending[0]).json
    with parts.database.reading() as db:
        ids = {key.id for key in keys.page(db, "acme")}
    assert report["group_by"] == ["key", "day"]
    assert {row["key_id"] for row in report["data"]} == ids
    assert sorted(row["requests"] for row in report["data"]) == [1, 2]
    today = datetime.datetime.now(datetime.UTC).date()
    assert {row["day"] for row in report["data"]} == {report["end"]} == {today.isoformat()}
    assert report["start"] == (today - datetime.timedelta(days=29)).isoformat()
    (by_model,) = http.get("/v1/usage?group_by=model", headers=spending[0]).json["data"]
    assert (by_model["model"], by_model["key_id"], by_model["day"]) == ("tiny", None, None)


def test_a_day_without_work_has_no_rows(http: FlaskClient, spending: tuple) -> None:
    report = http.get("/v1/usage?start=2024-02-28&end=2024-03-01", headers=spending[0]).json
    assert report["data"] == []
    assert report["total"]["requests"] == 0


def test_another_tenants_usage_is_for_admins(http: FlaskClient, parts: Parts, spending: tuple) -> None:
    refused = http.get("/v1/usage?tenant=globex", headers=spending[0])
    assert (refused.status_code, refused.json["error"]["param"]) == (403, "tenant")
    assert http.get("/v1/usage?tenant=acme", headers=spending[0]).status_code == 200
    with parts.database.transaction() as db:
        _, secret = keys.create(db, "ops", role=Role.ADMIN)
    admin = {"Authorization": f"Bearer {secret}"}
    assert http.get("/v1/usage", headers=admin).json["total"]["requests"] == 0
    assert http.get("/v1/usage?tenant=globex", headers=admin).json["total"]["requests"] == 1
    assert http.get("/v1/usage?tenant=nobody", headers=admin).status_code == 404


@pytest.mark.parametrize(
    "query",
    [
        "start=yesterday",
        "start=2024-03-02&end=2024-03-01",
        "start=2024-01-01&end=2025-01-02",
        "end=0001-01-01",
        "group_by=tenant",
    ],
)
def test_a_question_that_makes_no_sense_is_refused(http: FlaskClient, query: str) -> None:
    assert http.get(f"/v1/usage?{query}").status_code == 400
