"""Other roads to /v1: what is asked there is answered, counted and refused as under /v1 itself."""

import io

import pytest
from flask.testing import FlaskClient

from service.actions.parts import Parts
from service.contract.lifecycle import WorkerRole
from service.store import workers

ELSEWHERE = [
    "/v1/openai",
    "/models/tiny/v1",
    "/models/org/name/v1",
    "/models/org%2Fname/v1",
    "/models/a/v1/v1",
]


@pytest.mark.parametrize("base", ELSEWHERE)
def test_every_path_is_also_there(http: FlaskClient, base: str) -> None:
    listed = http.get(f"{base}/models")
    assert listed.status_code == 200
    assert listed.json == http.get("/v1/models").json
    assert listed.headers["x-request-id"]
    assert http.get(f"{base}/models/default").json["id"] == "tiny"


@pytest.mark.parametrize("base", ELSEWHERE)
def test_what_is_not_there_is_refused_in_the_same_shape(http: FlaskClient, base: str) -> None:
    for path in ("", "/", "/nothing"):
        refused = http.get(base + path)
        assert (refused.status_code, refused.json["error"]["code"]) == (404, "unknown_url")
    assert http.put(f"{base}/models").status_code == 405


@pytest.mark.parametrize("base", ["/v1", *ELSEWHERE])
def test_no_road_leads_around_the_keys(http: FlaskClient, make_key, base: str) -> None:
    key = make_key("default")
    assert http.get(f"{base}/models").status_code == 401
    assert http.get(f"{base}/models", headers=key).status_code == 200


def test_the_requests_are_counted_by_the_route_that_answered(http: FlaskClient) -> None:
    http.get("/models/some/stranger/v1/models")
    metrics = http.get("/metrics").text
    assert 'route="/v1/models"' in metrics
    assert "stranger" not in metrics


@pytest.mark.parametrize(
    "path",
    ["/v1/openaix/models", "/models/tiny", "/models//v1/models", "/models/v1/models", "/openai/models"],
)
def test_what_only_looks_like_it_is_no_road(http: FlaskClient, path: str) -> None:
    assert http.get(path).status_code == 404


def test_a_chat_asks_for_the_model_in_its_address(http: FlaskClient, parts: Parts) -> None:
    with parts.database.transaction() as db:
        workers.register(db, WorkerRole.ENGINE, "test", ["org/n\u00e4me"], "cpu")
    body = {"messages": [{"role": "user", "content": "Hello"}], "model": "tgi"}
    refused = http.post("/models/org/n\u00e4me/v1/chat/completions", json=body)
    assert refused.status_code == 503
    assert "org/n\u00e4me" in refused.json["error"]["message"]
    unknown = http.post("/models/org/other/v1/chat/completions", json=body)
    assert (unknown.status_code, unknown.json["error"]["code"]) == (404, "model_not_found")


def test_a_model_that_is_not_ready_says_when_it_may_be_as_openai_and_hugging_face_do(
    http: FlaskClient,
) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    refused = http.post("/v1/chat/completions", json=body)
    assert refused.status_code == 503
    assert refused.json["error"]["code"] == "model_not_ready"
    assert refused.json["error"]["estimated_time"] == refused.json["estimated_time"] > 0
    assert 1 <= int(refused.headers["Retry-After"]) <= 120


def test_what_is_submitted_there_is_for_the_model_in_the_address(http: FlaskClient, parts: Parts) -> None:
    with parts.database.transaction() as db:
        workers.register(db, WorkerRole.ENGINE, "test", ["org/name"], "cpu")
    base = "/models/org/name/v1"
    lines = b'{"prompt": "Hello"}\n'
    one = http.post(f"{base}/jobs", json={"prompt": "Hello"})
    many = http.post(f"{base}/jobs", data=lines, content_type="application/jsonl")
    own = http.post(f"{base}/jobs", json={"prompt": "Hello", "model": "tiny"})
    file = http.post(f"{base}/files", data={"purpose": "batch", "file": (io.BytesIO(lines), "a.jsonl")})
    batch = http.post(
        f"{base}/batches",
        json={
            "input_file_id": file.json["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "1h",
        },
    )
    said = [answer.json["model"] for answer in (one, many, own, batch)]
    assert said == ["org/name", "org/name", "tiny", "org/name"]
    unknown = http.post("/models/org/other/v1/jobs", data=lines, content_type="application/jsonl")
    assert (unknown.status_code, unknown.json["error"]["code"]) == (404, "model_not_found")
