"""Whatever goes wrong is said in OpenAI's shape, and never says more than it should."""

import errno
import io
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.actions.parts import Parts
from service.api.app import create_app
from service.errors import SluiceError, Unavailable

SECRET = "/srv/secret/path and 0x7f3a"


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "default", "messages": [{"role": "user", "content": "Hello"}], **fields}


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/v1/nothing", {}, 404),
        ("PUT", "/v1/models", {}, 405),
        ("GET", "/v1/files/file-1", {}, 404),
        ("GET", "/v1/jobs/job_0", {}, 404),
        ("GET", "/v1/jobs/1", {}, 404),
        ("GET", "/v1/batches/batch_1", {}, 404),
        ("GET", "/v1/jobs?limit=0", {}, 400),
        ("GET", "/v1/jobs?state=sleeping", {}, 400),
        ("GET", "/v1/jobs/job_1?wait=61", {}, 400),
        ("GET", "/v1/jobs/job_1?wait=nan", {}, 400),
        ("GET", "/v1/files?order=up", {}, 400),
        ("POST", "/v1/files", {"data": {"purpose": "batch"}}, 400),
        ("POST", "/v1/files", {"data": {"purpose": "batch", "file": "no part"}}, 400),
        ("POST", "/v1/files", {"json": {}}, 400),
        ("POST", "/v1/batches", {"json": {"input_file_id": 5}}, 400),
        ("POST", "/v1/batches", {"data": "{}"}, 415),
        ("POST", "/v1/jobs", {"data": "x", "content_type": "text/csv"}, 415),
        ("POST", "/v1/jobs", {"json": {"prompt": 5}}, 400),
        ("POST", "/v1/chat/completions", {"json": chat(max_tokens=0)}, 400),
        ("POST", "/v1/chat/completions", {"json": chat(user="x" * 100_000)}, 413),
    ],
)
def test_a_refusal_has_openais_shape(http: FlaskClient, method, path, options, status):
    response = http.open(path, method=method, **options)
    assert response.status_code == status
    assert response.mimetype == "application/json"
    error = response.json["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert isinstance(error["message"], str)
    assert error["type"] == "invalid_request_error"
    assert response.headers["x-request-id"]


def test_a_refused_method_says_which_are_taken(http: FlaskClient):
    assert "GET" in http.put("/v1/models").headers["Allow"]


def test_an_upload_over_the_limit_is_refused_and_leaves_nothing(http: FlaskClient, parts: Parts):
    big = {"purpose": "batch", "file": (io.BytesIO(b"x" * 300_001), "big.jsonl")}
    response = http.post("/v1/files", data=big)
    assert response.status_code == 413
    assert response.json["error"]["code"] == "payload_too_large"
    assert http.get("/v1/files").json["data"] == []
    blobs = parts.settings.data_dir / "blobs"
    assert [path for path in blobs.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("path", "content_type", "start"),
    [
        ("/v1/chat/completions", "application/json", b'{"user": "'),
        ("/v1/jobs", "application/json", b'{"user": "'),
        ("/v1/jobs", "application/jsonl", b'{"prompt": "Hello"}\n'),
        (
            "/v1/files",
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n',
        ),
    ],
)
def test_a_body_of_unknown_length_is_refused_at_the_limit_and_not_cut_off(http, path, content_type, start):
    response = http.post(
        path,
        input_stream=io.BytesIO(start + b"x" * 300_001),
        headers={"Content-Type": content_type, "Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert response.status_code == 413


def test_with_no_worker_ready_a_chat_is_told_when_to_come_back(http: FlaskClient):
    response = http.post("/v1/chat/completions", json=chat())
    assert response.status_code == 503
    assert response.json["error"]["code"] == "model_not_ready"
    assert 1 <= int(response.headers["Retry-After"]) <= 120


def test_readiness_is_a_worker_with_a_live_lease(http: FlaskClient, parts: Parts, ready: str):
    assert http.get("/ready").json == {"status": "ready", "models": ["tiny"]}
    from service.store import workers

    with parts.database.transaction() as db:
        workers.lose(db, ready, "killed")
    assert http.get("/ready").status_code == 503
    assert http.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("given", "kept"),
    [("trace-7.a_B", True), ("", False), ("a" * 65, False), ("a\tb", False), ("ünicode", False)],
)
def test_a_sane_request_id_is_kept_and_any_other_replaced(http: FlaskClient, given, kept):
    told = http.get("/health", headers={"x-request-id": given}).headers["x-request-id"]
    assert (told == given) is kept
    assert kept or told.startswith("req_")


@pytest.fixture
def failing(parts: Parts) -> Flask:
    """The app with a route that raises what it is told to."""
    app = create_app(parts=parts)
    app.config["raises"] = ValueError(SECRET)

    @app.route("/v1/broken")
    def broken() -> None:
        raise app.config["raises"]

    return app


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ValueError(SECRET), 500, "internal_error"),
        (OSError(errno.ENOSPC, SECRET), 507, "insufficient_storage"),
        (OSError(errno.EIO, SECRET), 500, "internal_error"),
        (SluiceError("Plain."), 500, "internal_error"),
        (Unavailable("Later.", retry_after=4000), 503, "unavailable"),
    ],
)
def test_a_failure_says_nothing_internal(failing: Flask, error, status, code, caplog):
    failing.config["raises"] = error
    response = failing.test_client().get("/v1/broken")
    assert response.status_code == status
    assert response.json["error"]["code"] == code
    assert SECRET not in response.text
    assert "Traceback" not in response.text
    if status == 503:
        assert response.headers["Retry-After"] == "120"


def test_a_database_that_is_away_is_a_503(http: FlaskClient, parts: Parts):
    parts.database.close()
    (parts.settings.data_dir / "sluice.db").unlink()
    (parts.settings.data_dir / "sluice.db").mkdir()
    response = http.get("/v1/models")
    assert response.status_code in (500, 503)
    assert "sluice.db" not in response.text
    assert http.get("/health").status_code == 200
