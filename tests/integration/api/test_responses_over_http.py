"""/v1/responses over HTTP: what it refuses, and what one tenant sees of another's."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.actions.parts import Parts
from service.store import tenants

CALLS = [
    ("GET", "/v1/responses/{}"),
    ("GET", "/v1/responses/{}?stream=true"),
    ("GET", "/v1/responses/{}/input_items"),
    ("POST", "/v1/responses/{}/cancel"),
    ("DELETE", "/v1/responses/{}"),
]


def ask(http: FlaskClient, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    body = {"input": "Hello", "background": True} | fields
    return http.post("/v1/responses", json=body, headers=headers or {})


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_tenant_sees_nothing_of_anothers_responses(
    http: FlaskClient, make_key: Callable, method: str, path: str
):
    mine, theirs = make_key("acme"), make_key("globex")
    made = ask(http, mine).json["id"]
    foreign = http.open(path.format(made), method=method, headers=theirs)
    unknown = http.open(path.format(f"{made}9"), method=method, headers=theirs)
    malformed = http.open(path.format("resp_x"), method=method, headers=theirs)
    assert {answer.status_code for answer in (foreign, unknown, malformed)} == {404}
    assert foreign.json["error"] == unknown.json["error"] == malformed.json["error"]
    assert http.get(f"/v1/responses/{made}", headers=mine).json["status"] == "queued"


def test_a_tenant_cannot_go_on_from_anothers_response(http: FlaskClient, make_key: Callable):
    mine, theirs = make_key("acme"), make_key("globex")
    made = ask(http, mine).json["id"]
    stolen = ask(http, theirs, previous_response_id=made)
    assert (stolen.status_code, stolen.json["error"]["code"]) == (400, "previous_response_not_found")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": 5}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        ({"background": True, "store": False}, "background"),
        ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools[0]"),
        ({"model": "gpt-99"}, "model"),
    ],
)
def test_a_refusal_has_openais_shape_and_names_the_field(http: FlaskClient, fields: Any, param: str):
    refused = ask(http, **fields)
    assert refused.status_code == (404 if param == "model" else 400)
    assert refused.json["error"]["param"] == param
    assert refused.headers["x-request-id"]


def test_fields_that_have_no_effect_are_named(http: FlaskClient):
    assert ask(http, colour="red").headers["x-sluice-ignored"] == "colour"


def test_with_no_worker_ready_a_listener_is_told_when_to_come_back(http: FlaskClient):
    refused = ask(http, background=False)
    assert refused.status_code == 503
    assert 1 <= int(refused.headers["Retry-After"]) <= 120


def test_the_same_key_and_body_make_one_response(http: FlaskClient):
    first, second = (ask(http, {"Idempotency-Key": "once"}) for _ in range(2))
    assert first.json["id"] == second.json["id"]


def test_the_background_is_no_way_around_a_full_queue(http: FlaskClient, parts: Parts, make_key: Callable):
    with parts.database.transaction() as db:
        tenants.put(db, "acme", {"queued_jobs": 1})
    mine = make_key("acme")
    assert [ask(http, mine).status_code for _ in range(3)] == [200, 429, 429]
    assert ask(http, mine).json["error"]["code"] == "too_many_queued_jobs"


def test_the_input_may_be_words_or_items_to_readers_of_the_document(http: FlaskClient):
    document = http.get("/openapi.json").json
    field = document["components"]["schemas"]["ResponseRequest"]["properties"]["input"]
    assert {"string", "array"} <= {choice.get("type") for choice in field["anyOf"]}
