"""Quotas: what is refused, what is not, and how a client is told."""

import io
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.actions.parts import Parts, assemble
from service.api.app import create_app
from service.contract.jobs import Succeeded, Usage
from service.contract.lifecycle import WorkerRole
from service.settings import Settings
from service.store import jobs, tenants, workers

LINE = b'{"messages": [{"role": "user", "content": "Hello"}]}\n'


def submit(http: FlaskClient, headers: dict[str, Any]) -> TestResponse:
    return http.post("/v1/jobs", headers=headers, data=LINE, content_type="application/json")


def upload(http: FlaskClient, headers: dict[str, Any], size: int = len(LINE)) -> TestResponse:
    file = (io.BytesIO(LINE.ljust(size)), "lines.jsonl")
    return http.post("/v1/files", headers=headers, data={"purpose": "batch", "file": file})


@pytest.fixture
def limited(parts: Parts, make_key: Callable) -> Callable[..., dict[str, Any]]:
    """Give a tenant quotas; answers the headers of its key."""

    def limit(tenant: str = "acme", **quotas: int) -> dict[str, Any]:
        with parts.database.transaction() as db:
            tenants.put(db, tenant, quotas)
        return make_key(tenant)

    return limit


def assert_refused(response: TestResponse, code: str) -> None:
    assert response.status_code == 429
    error = response.json["error"]
    assert (error["code"], error["type"], error["retryable"]) == (code, "rate_limit_error", True)
    assert 1 <= int(response.headers["Retry-After"]) <= 120


def test_without_quotas_nothing_is_counted_or_told(http: FlaskClient, limited: Callable) -> None:
    response = submit(http, limited())
    assert response.status_code == 202
    assert not [name for name, _ in response.headers if name.lower().startswith("x-ratelimit")]


def test_requests_of_a_minute_are_limited_by_tenant_and_told_in_openais_headers(
    http: FlaskClient, limited: Callable, make_key: Callable
) -> None:
    acme, globex = limited(requests_per_minute=2), make_key("globex")
    answers = [submit(http, acme), upload(http, make_key("acme")), submit(http, acme)]
    assert [answer.status_code for answer in answers] == [202, 200, 429]
    assert_refused(answers[-1], "rate_limit_exceeded")
    assert [answer.headers["x-ratelimit-limit-requests"] for answer in answers] == ["2"] * 3
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
    assert answers[-1].headers["x-ratelimit-reset-requests"].endswith("s")
    assert submit(http, globex).status_code == 202


def test_polls_cancels_and_probes_are_not_counted(http: FlaskClient, limited: Callable) -> None:
    acme = limited(requests_per_minute=1)
    job = submit(http, acme).json["id"]
    for _ in range(3):
        assert http.get(f"/v1/jobs/{job}", headers=acme).status_code == 200
        assert http.get("/v1/jobs", headers=acme).status_code == 200
        assert http.get("/health").status_code == 200
        assert http.post(f"/v1/jobs/{job}/cancel", headers=acme).status_code == 200
    assert_refused(submit(http, acme), "rate_limit_exceeded")


def test_polls_are_counted_where_the_operator_says_so(settings: Settings, limited: Callable) -> None:
    acme = limited(requests_per_minute=2)
    parts = assemble(settings.model_copy(update={"quota_counts_polls": True}))
    http = create_app(parts=parts).test_client()
    assert [http.get("/v1/jobs", headers=acme).status_code for _ in range(3)] == [200, 200, 429]
    assert [http.get(path).status_code for path in ("/health", "/openapi.json", "/docs")] == [200] * 3
    parts.close()


def test_no_work_is_taken_once_the_tokens_of_the_day_are_spent(
    http: FlaskClient, parts: Parts, limited: Callable
) -> None:
    acme = limited(tokens_per_day=10)
    accepted = [submit(http, acme).json["id"] for _ in range(2)]
    told = submit(http, acme).headers
    assert (told["x-ratelimit-limit-tokens"], told["x-ratelimit-remaining-tokens"]) == ("10", "10")
    assert told["x-ratelimit-reset-tokens"].endswith("s")
    answer_waiting_jobs(parts, Usage(prompt_tokens=3, completion_tokens=2))

    in_time(lambda: submit(http, acme).status_code == 429)
    assert_refused(submit(http, acme), "insufficient_quota")
    chat = {"model": "default", "messages": [{"role": "user", "content": "Hello"}]}
    assert_refused(http.post("/v1/chat/completions", headers=acme, json=chat), "insufficient_quota")
    assert upload(http, acme).status_code == 200
    # No model is ready here; what counts tokens without using any gets as far as that.
    assert http.post("/v1/tokenize", headers=acme, json={"prompt": "Hello"}).status_code == 503
    assert http.get(f"/v1/jobs/{accepted[0]}", headers=acme).json["status"] == "succeeded"


def test_no_job_or_batch_is_taken_while_too_many_wait(
    http: FlaskClient, limited: Callable, ready: str
) -> None:
    acme = limited(queued_jobs=2)
    accepted = [submit(http, acme) for _ in range(3)]
    assert [answer.status_code for answer in accepted] == [202, 202, 429]
    assert_refused(accepted[-1], "too_many_queued_jobs")
    file = upload(http, acme).json["id"]
    wanted = {"input_file_id": file, "endpoint": "/v1/chat/completions"}
    assert_refused(http.post("/v1/batches", headers=acme, json=wanted), "too_many_queued_jobs")

    assert http.post(f"/v1/jobs/{accepted[0].json['id']}/cancel", headers=acme).status_code == 200
    in_time(lambda: submit(http, acme).status_code == 202)


def test_no_upload_is_taken_beyond_the_bytes_a_tenant_may_keep(http: FlaskClient, limited: Callable) -> None:
    acme = limited(stored_bytes=5000)
    kept = upload(http, acme, size=3000)
    assert kept.status_code == 200
    refused = upload(http, acme, size=3000)
    assert_refused(refused, "insufficient_quota")
    assert submit(http, acme).status_code == 202
    assert http.delete(f"/v1/files/{kept.json['id']}", headers=acme).status_code == 200
    assert upload(http, acme, size=3000).status_code == 200


def test_a_tenant_that_says_nothing_has_the_settings_quotas(settings: Settings, limited: Callable) -> None:
    silent, own, free = (
        limited("silent"),
        limited("own", requests_per_minute=2),
        limited("free", requests_per_minute=tenants.UNLIMITED),
    )
    parts = assemble(settings.model_copy(update={"quota_requests_per_minute": 1}))
    http = create_app(parts=parts).test_client()
    for headers, allowed in ((silent, 1), (own, 2), (free, 3)):
        answers = [submit(http, headers).status_code for _ in range(3)]
        assert answers == [202] * allowed + [429] * (3 - allowed)
    parts.close()


def in_time(condition: Callable[[], bool]) -> None:
    """What was counted may be a second old."""
    deadline = time.monotonic() + 2.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answer_waiting_jobs(parts: Parts, usage: Usage) -> None:
    with parts.database.transaction() as db:
        owner = workers.register(db, WorkerRole.ENGINE, "test", ["tiny"], None)
        claimed = jobs.claim(db, models=["tiny"], owner=owner, limit=100)
        jobs.begin(db, claimed, owner)
        jobs.finish(db, [Succeeded(job, {}, usage) for job in claimed], owner)
