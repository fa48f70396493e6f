"""A batch's controls over HTTP: what they take, what they refuse, and nothing of another tenant's."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.actions.close_batches import close_batches
from service.actions.export_results import export_results
from service.actions.ingest_manifest import ingest_manifest
from service.actions.parts import Parts
from service.store import jobs

LINES = b'{"prompt": "One"}\n{"prompt": "Two"}\n{bad\n'
CONTROLS = ("", "/pause", "/resume", "/retry")


@pytest.fixture
def batch(http: FlaskClient, parts: Parts) -> str:
    """A batch of three lines, one of them bad, that was read."""
    made = http.post("/v1/jobs?priority=20", data=LINES, content_type="application/jsonl").json
    ingest_manifest(parts, made["id"])
    return str(made["id"])


@pytest.fixture
def ended(http: FlaskClient, parts: Parts, batch: str) -> str:
    """The same, cancelled and ended."""
    http.post(f"/v1/batches/{batch}/cancel")
    export_results(parts, batch)
    assert http.get(f"/v1/batches/{batch}").json["status"] == "cancelled"
    return batch


def test_a_batch_is_paused_and_resumed_without_a_body(http: FlaskClient, batch: str):
    for _ in range(2):
        paused = http.post(f"/v1/batches/{batch}/pause")
        assert (paused.status_code, paused.json["status"]) == (200, "in_progress")
        assert isinstance(paused.json["paused_at"], int)
    held = http.get(f"/v1/jobs?batch_id={batch}&state=held").json["data"]
    assert [job["status"] for job in held] == ["held", "held"]
    assert 'sluice_jobs{class="bulk",state="held"} 2.0' in http.get("/metrics").text
    for _ in range(2):
        assert http.post(f"/v1/batches/{batch}/resume").json["paused_at"] is None
    assert http.get(f"/v1/jobs?batch_id={batch}&state=held").json["data"] == []


def test_a_batch_is_changed_over_http(http: FlaskClient, batch: str):
    changed = http.post(
        f"/v1/batches/{batch}", json={"priority": 3, "token_budget": 99, "metadata": {"a": "b"}}
    )
    assert changed.status_code == 200
    seen = http.get(f"/v1/batches/{batch}").json
    assert changed.json == seen
    assert (seen["priority"], seen["token_budget"], seen["metadata"]) == (3, 99, {"a": "b"})


@pytest.mark.parametrize(
    ("control", "body", "param"),
    [
        ("", {"priority": 0}, "priority"),
        ("", {"priority": 101}, "priority"),
        ("", {"priority": "high"}, "priority"),
        ("", {"token_budget": 0}, "token_budget"),
        ("", {"token_budget": 1.5}, "token_budget"),
        ("", {"completion_window": "soon"}, "completion_window"),
        ("", {"metadata": {"a": 1}}, "metadata.a"),
        ("", {"prioritty": 1}, "prioritty"),
        ("/retry", {"states": ["succeeded"]}, "states[0]"),
        ("/retry", {"states": []}, "states"),
        ("/retry", {"only_retryable": 1}, "only_retryable"),
    ],
)
def test_a_wrong_field_is_named(
    http: FlaskClient, ended: str, control: str, body: dict[str, Any], param: str
):
    refusal = http.post(f"/v1/batches/{ended}{control}", json=body)
    assert (refusal.status_code, refusal.json["error"]["param"]) == (400, param)


@pytest.mark.parametrize("control", CONTROLS[:3])
def test_what_has_ended_is_left_alone(http: FlaskClient, ended: str, control: str):
    refusal = http.post(f"/v1/batches/{ended}{control}", json={} if control == "" else None)
    assert (refusal.status_code, refusal.json["error"]["code"]) == (400, "invalid_state")
    assert "cancelled" in refusal.json["error"]["message"]


def test_a_batch_is_retried_with_and_without_a_body_and_once_per_key(
    http: FlaskClient, parts: Parts, ended: str
):
    first = http.post(f"/v1/batches/{ended}/retry", content_type="application/json")
    assert (first.status_code, first.json["retry_of"], first.json["priority"]) == (200, ended, 20)
    wanted = {"states": ["cancelled"], "priority": 2, "completion_window": "2h", "token_budget": 5}
    made = [
        http.post(f"/v1/batches/{ended}/retry", json=wanted, headers={"Idempotency-Key": "k"}).json
        for _ in range(2)
    ]
    assert made[0]["id"] == made[1]["id"] != first.json["id"]
    assert (made[0]["priority"], made[0]["completion_window"], made[0]["token_budget"]) == (2, "2h", 5)
    other = http.post(f"/v1/batches/{ended}/retry", json={}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 422
    ingest_manifest(parts, first.json["id"])
    assert http.get(f"/v1/batches/{first.json['id']}").json["request_counts"]["total"] == 2


def test_nothing_to_retry_is_a_sentence(http: FlaskClient, ended: str):
    refusal = http.post(f"/v1/batches/{ended}/retry", json={"states": ["failed"]})
    assert (refusal.status_code, refusal.json["error"]["code"]) == (400, "nothing_to_retry")
    assert refusal.json["error"]["hint"]


def test_a_batch_that_runs_is_not_retried(http: FlaskClient, batch: str):
    refusal = http.post(f"/v1/batches/{batch}/retry")
    assert (refusal.status_code, refusal.json["error"]["code"]) == (400, "invalid_state")
    assert refusal.json["error"]["hint"]


@pytest.mark.parametrize("control", CONTROLS)
def test_anothers_batch_is_as_unknown_as_none(
    http: FlaskClient, make_key: Callable[[str], dict[str, Any]], control: str
):
    mine, theirs = make_key("acme"), make_key("globex")
    batch = http.post("/v1/jobs", data=LINES, content_type="application/jsonl", headers=mine).json["id"]
    answers = [
        http.post(f"/v1/batches/{name}{control}", json={}, headers=theirs)
        for name in (batch, "batch_" + "0" * 24, "batch_x", "file-1", "%00")
    ]
    assert [answer.status_code for answer in answers] == [404] * 5
    assert len({answer.text for answer in answers}) == 1
    assert http.get(f"/v1/batches/{batch}", headers=mine).json["paused_at"] is None


def test_lines_may_have_a_budget_too(http: FlaskClient, parts: Parts):
    made = http.post("/v1/jobs?token_budget=5", data=LINES, content_type="application/jsonl")
    assert made.json["token_budget"] == 5
    assert (
        http.post("/v1/jobs?token_budget=0", data=LINES, content_type="application/jsonl").status_code == 400
    )
    with parts.database.reading() as db:
        assert jobs.page(db, "default", batch_id=made.json["id"]) == []
    close_batches(parts, {made.json["id"]})
    assert http.get(f"/v1/batches/{made.json['id']}").json["status"] == "validating"
