"""A generated matrix: whatever has an id looks to another tenant as if it did not exist, on every route and method.

A new route with an id fails here until this page knows how to make what it is about.
"""

import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

Headers = dict[str, Any]

LINE = b'{"messages": [{"role": "user", "content": "Hello"}]}\n'
CHAT = {"model": "default", "messages": [{"role": "user", "content": "Hello"}]}
HOOK = {"url": "https://hooks.invalid/hook", "event_types": ["batch.completed"]}

# What everybody may see, and what is for admins, who are of no tenant in this.
NOBODYS = {"/docs/<asset>", "/v1/models/<path:model>"}
ADMINS = "/v1/admin/"

# What these want to read besides the id.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v1/webhook_endpoints/<webhook_endpoint_id>/test"): {"event_type": "batch.completed"},
}


def make_file(http: FlaskClient, headers: Headers) -> str:
    upload = {"purpose": "batch", "file": (io.BytesIO(LINE), "lines.jsonl")}
    return made(http.post("/v1/files", headers=headers, data=upload))


def make_batch(http: FlaskClient, headers: Headers) -> str:
    wanted = {"input_file_id": make_file(http, headers), "endpoint": "/v1/chat/completions"}
    return made(http.post("/v1/batches", headers=headers, json=wanted))


def make_job(http: FlaskClient, headers: Headers) -> str:
    return made(http.post("/v1/jobs", headers=headers, data=LINE, content_type="application/json"))


def make_response(http: FlaskClient, headers: Headers) -> str:
    wanted = {"model": "default", "input": "Hello", "background": True}
    return made(http.post("/v1/responses", headers=headers, json=wanted))


def make_preflight(http: FlaskClient, headers: Headers) -> str:
    return made(http.post("/v1/preflight", headers=headers, data=LINE, content_type="application/jsonl"))


def make_webhook(http: FlaskClient, headers: Headers) -> str:
    return made(http.post("/v1/webhook_endpoints", headers=headers, json=HOOK))


MAKERS: dict[str, Callable[[FlaskClient, Headers], str]] = {
    "file_id": make_file,
    "batch_id": make_batch,
    "job_id": make_job,
    "response_id": make_response,
    "preflight_id": make_preflight,
    "webhook_endpoint_id": make_webhook,
}

# Requests that name a thing elsewhere than in their path; {} is its id.
REFERENCES: list[tuple[str, str, str, dict[str, Any] | None]] = [
    ("file_id", "POST", "/v1/batches", {"input_file_id": "{}", "endpoint": "/v1/chat/completions"}),
    ("file_id", "POST", "/v1/preflight", {"input_file_id": "{}", "endpoint": "/v1/chat/completions"}),
    ("batch_id", "GET", "/v1/jobs?batch_id={}", None),
    (
        "response_id",
        "POST",
        "/v1/responses",
        {"model": "default", "input": "x", "previous_response_id": "{}"},
    ),
]


def made(response: TestResponse) -> str:
    assert response.status_code in (200, 202), response.text
    return str(response.json["id"])


def with_ids(http: FlaskClient) -> Iterator[tuple[str, Rule]]:
    """Every method of every route with an id, but for those of nobody and of admins."""
    for rule in http.application.url_map.iter_rules():
        if rule.arguments and rule.rule not in NOBODYS and not rule.rule.startswith(ADMINS):
            for method in sorted((rule.methods or set()) - {"OPTIONS"}):
                yield method, rule


def call(http: FlaskClient, method: str, rule: Rule, thing: str, headers: Headers) -> TestResponse:
    path = re.sub(r"<[^>]+>", thing, rule.rule)
    body = BODIES.get((method, rule.rule), {}) if method in ("POST", "PUT", "PATCH") else None
    # Not read to its end: some answers only end when their batch does.
    response = http.open(path, method=method, headers=headers, json=body)
    response.close()
    return response


def look(http: FlaskClient, kind: str, thing: str, headers: Headers) -> Any:
    """The thing as its owner sees it."""
    (path,) = {
        rule.rule for method, rule in with_ids(http) if method == "GET" and rule.rule.endswith(f"/<{kind}>")
    }
    seen = http.get(path.replace(f"<{kind}>", thing), headers=headers)
    assert seen.status_code == 200
    return seen.json


def never_made(thing: str) -> str:
    """An id of the same form that nothing has."""
    if re.fullmatch(r"[a-z]+_\d{1,9}", thing):
        return re.sub(r"\d+", "987654321", thing)
    return thing[:-1] + ("0" if thing[-1] != "0" else "1")


def said(response: TestResponse) -> tuple[int, Any]:
    return response.status_code, response.json if response.data else None


def test_every_route_with_an_id_is_in_the_matrix(http: FlaskClient) -> None:
    unknown = {rule.rule for _, rule in with_ids(http) if not rule.arguments <= MAKERS.keys()}
    assert not unknown, f"Say in MAKERS how to make what these are about: {sorted(unknown)}"
    num_routes = sum(1 for _ in with_ids(http))
    assert num_routes > 30


def test_anothers_thing_looks_like_one_that_does_not_exist(
    http: FlaskClient, make_key: Callable, ready: str
) -> None:
    mine, theirs = make_key("acme"), make_key("globex")
    for method, rule in with_ids(http):
        (kind,) = rule.arguments
        thing = MAKERS[kind](http, mine)
        before = look(http, kind, thing, mine)
        foreign = call(http, method, rule, thing, theirs)
        unknown = call(http, method, rule, never_made(thing), theirs)
        assert said(foreign) == said(unknown), (method, rule.rule)
        assert foreign.status_code == 404, (method, rule.rule, foreign.data)
        # It is there all the same, and what the stranger tried did nothing to it.
        assert look(http, kind, thing, mine) == before, (method, rule.rule)
        assert call(http, method, rule, thing, mine).status_code != 404, (method, rule.rule)


@pytest.mark.parametrize(("kind", "method", "path", "body"), REFERENCES)
def test_anothers_thing_cannot_be_named_either(
    http: FlaskClient,
    make_key: Callable,
    ready: str,
    kind: str,
    method: str,
    path: str,
    body: dict[str, Any] | None,
) -> None:
    mine, theirs = make_key("acme"), make_key("globex")
    thing = MAKERS[kind](http, mine)

    def name(thing: str, headers: Headers) -> TestResponse:
        named = body and {field: thing if value == "{}" else value for field, value in body.items()}
        return http.open(path.format(thing), method=method, headers=headers, json=named)

    foreign, unknown = name(thing, theirs), name(never_made(thing), theirs)
    assert said(foreign) == said(unknown)
    assert foreign.status_code in (400, 404) or foreign.json["data"] == []


# Jobs without a batch are paged by their number, which is no secret: nothing is looked up.
COUNTED_BY_ALL = {("job_id", "/v1/jobs")}


def lists(http: FlaskClient) -> list[str]:
    rules = http.application.url_map.iter_rules()
    return [rule.rule for rule in rules if rule.rule.startswith("/v1/") and is_list(rule)]


def is_list(rule: Rule) -> bool:
    return not rule.arguments and "GET" in (rule.methods or ()) and not rule.rule.startswith(ADMINS)


def test_lists_show_a_tenant_its_own_things_alone(http: FlaskClient, make_key: Callable, ready: str) -> None:
    mine, theirs = make_key("acme"), make_key("globex")
    things = [make(http, mine) for make in MAKERS.values()]
    seen: set[str] = set()
    for path in lists(http):
        foreign, own = (http.get(path, headers=headers).text for headers in (theirs, mine))
        assert not [thing for thing in things if f'"{thing}"' in foreign], path
        seen.update(thing for thing in things if f'"{thing}"' in own)
    assert {re.split("[-_]", thing)[0] for thing in seen} >= {"file", "batch", "job", "wh"}


@pytest.mark.parametrize("kind", MAKERS)
def test_anothers_thing_is_no_place_to_go_on_from(
    http: FlaskClient, make_key: Callable, ready: str, kind: str
) -> None:
    mine, theirs = make_key("acme"), make_key("globex")
    older, thing, newer = (MAKERS[kind](http, headers) for headers in (theirs, mine, theirs))
    assert len({older, thing, newer}) == 3
    for path in lists(http):
        if (kind, path) in COUNTED_BY_ALL:
            continue
        after = [f"{path}?after={one}" for one in (thing, never_made(thing))]
        foreign, unknown = (http.get(address, headers=theirs) for address in after)
        assert said(foreign) == said(unknown), path
