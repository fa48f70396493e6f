"""Every request that makes something may be sent again with its key, and makes it once."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

LINE = b'{"prompt": "Hello", "max_tokens": 1}\n'
CHAT = {"model": "default", "max_tokens": 3, "messages": [{"role": "user", "content": "Hello"}], "seed": 1}


@dataclass(frozen=True)
class Creating:
    """A request that makes something, and another like it that makes something else."""

    path: str
    request: dict[str, Any]
    other: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def _file(content: bytes, **form: str) -> dict[str, Any]:
    return {"data": {"purpose": "batch", **form}, "files": {"file": ("m.jsonl", content)}}


CREATING = {
    "file": Creating("/v1/files", _file(LINE), _file(LINE + LINE)),
    "file of another purpose": Creating("/v1/files", _file(LINE), _file(LINE, purpose="user_data")),
    "job": Creating("/v1/jobs", {"json": {"prompt": "Hello"}}, {"json": {"prompt": "Bye"}}),
    "jobs": Creating(
        "/v1/jobs", {"content": LINE}, {"content": LINE + LINE}, {"Content-Type": "application/jsonl"}
    ),
    "webhook": Creating(
        "/v1/webhook_endpoints",
        {"json": {"url": "https://example.com/a", "event_types": ["batch.failed"]}},
        {"json": {"url": "https://example.com/b", "event_types": ["batch.failed"]}},
    ),
    "chat": Creating("/v1/chat/completions", {"json": CHAT}, {"json": CHAT | {"max_tokens": 2}}),
    "response": Creating(
        "/v1/responses",
        {"json": {"model": "default", "input": "Hello", "max_output_tokens": 2}},
        {"json": {"model": "default", "input": "Bye", "max_output_tokens": 2}},
    ),
}
# Answers to a question, of which nothing stays; and verbs upon objects, which mean the same each time.
NOT_CREATING = {
    "/v1/audio/transcriptions",
    "/v1/tokenize",
    "/v1/detokenize",
    "/v1/admin/tenants",
    "/v1/admin/tenants/{tenant_id}",
    "/v1/batches/{batch_id}",
    "/v1/webhook_endpoints/{webhook_endpoint_id}",
}
VERBS = ("/cancel", "/pause", "/resume", "/rotate_secret", "/test")


@pytest.fixture
def send(cats: httpx.Client, request: pytest.FixtureRequest) -> Iterator[Callable[..., httpx.Response]]:
    def send(creating: Creating, what: dict[str, Any], key: str = "") -> httpx.Response:
        headers = creating.headers | {"Idempotency-Key": key or request.node.name[:200]}
        return cats.post(creating.path, headers=headers, **what)

    yield send
    for webhook in cats.get("/v1/webhook_endpoints").json()["data"]:
        cats.delete(f"/v1/webhook_endpoints/{webhook['id']}")


def test_every_post_that_makes_something_takes_a_key(cats: httpx.Client) -> None:
    document = cats.get("/openapi.json").json()
    without = {
        path
        for path, item in document["paths"].items()
        if "post" in item
        and not path.endswith(VERBS)
        and "Idempotency-Key" not in [given["name"] for given in item["post"].get("parameters", [])]
    }
    assert without == NOT_CREATING


@pytest.mark.parametrize("creating", CREATING.values(), ids=CREATING)
def test_the_same_key_and_request_make_one_object_and_another_request_is_refused(
    send: Callable[..., httpx.Response], creating: Creating
) -> None:
    first, again = send(creating, creating.request), send(creating, creating.request)
    assert first.status_code in (200, 202), first.text
    assert (again.status_code, again.json()["id"]) == (first.status_code, first.json()["id"])
    assert again.headers.get("location") == first.headers.get("location")
    other = send(creating, creating.other)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert send(creating, creating.request, "another key").json()["id"] != first.json()["id"]


@pytest.mark.parametrize("creating", CREATING.values(), ids=CREATING)
def test_requests_that_race_make_one_object(send: Callable[..., httpx.Response], creating: Creating) -> None:
    with ThreadPoolExecutor(4) as several:
        answers = list(several.map(lambda _: send(creating, creating.request), range(4)))

    assert {answer.status_code for answer in answers} == {answers[0].status_code}, answers[0].text
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_a_batch_is_made_once_from_a_file(send: Callable[..., httpx.Response], cats: httpx.Client) -> None:
    file_id = cats.post("/v1/files", **_file(LINE)).json()["id"]
    body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    creating = Creating("/v1/batches", {"json": body}, {"json": body | {"completion_window": "48h"}})

    assert len({send(creating, creating.request).json()["id"] for _ in range(3)}) == 1
    assert send(creating, creating.other).status_code == 422


def test_a_stream_that_is_asked_for_again_is_the_same_stream(send: Callable[..., httpx.Response]) -> None:
    asked = Creating("/v1/chat/completions", {"json": CHAT | {"stream": True}}, {})

    def told() -> tuple[set[str], str]:
        events = [
            json.loads(line[6:]) for line in send(asked, asked.request).text.splitlines() if line[6:7] == "{"
        ]
        said = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
        return {event["id"] for event in events}, said

    first = told()
    assert first == told()
    assert len(first[0]) == 1
    assert first[1]


def test_a_key_is_known_to_its_tenant_alone(
    send: Callable[..., httpx.Response], dogs: httpx.Client, request: pytest.FixtureRequest
) -> None:
    job = CREATING["job"]
    mine = send(job, job.request).json()["id"]
    theirs = dogs.post(job.path, headers={"Idempotency-Key": request.node.name}, **job.request).json()["id"]

    assert mine != theirs


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tbed"])
@pytest.mark.parametrize("name", ["file", "job", "jobs", "webhook", "chat", "response"])
def test_a_key_that_is_none_is_refused(cats: httpx.Client, name: str, key: str) -> None:
    creating = CREATING[name]
    refused = cats.post(
        creating.path, headers=creating.headers | {"Idempotency-Key": key}, **creating.request
    )

    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"] == "Idempotency-Key"
