"""Keys: who may call, and what one tenant sees of another."""

import io
import time
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

from service.actions.authenticate import require_safe_address
from service.actions.parts import Parts, assemble
from service.api.app import create_app
from service.errors import ConfigurationError
from service.settings import Settings
from service.store import keys
from service.store.database import database_now
from service.store.tables import Key

OPEN = ["/health", "/openapi.json"]
KEYED = ["/v1/models", "/v1/files", "/v1/batches", "/v1/jobs", "/metrics", "/nothing/here"]


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer EMPTY"}, {"Authorization": "Bearer foobar"}]
)
def test_without_a_stored_key_this_machine_may_call_with_any_bearer(http: FlaskClient, headers):
    assert http.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("10.1.2.3", {}),
        ("127.0.0.1", {"Host": "attacker.example"}),
        ("127.0.0.1", {"Sec-Fetch-Site": "cross-site"}),
    ],
    ids=["another machine", "a rebound name", "another site's page"],
)
def test_without_a_stored_key_nobody_else_may(http: FlaskClient, address, headers):
    response = http.get("/v1/models", headers=headers, environ_overrides={"REMOTE_ADDR": address})
    assert response.status_code == 401
    assert "sluice keys create" in response.json["error"]["hint"]


@pytest.mark.parametrize("path", KEYED)
def test_once_a_key_exists_every_request_needs_a_valid_one(http: FlaskClient, make_key: Callable, path):
    key = make_key("acme")
    for headers in ({}, {"Authorization": "Bearer EMPTY"}, {"Authorization": key["Authorization"][:-1]}):
        response = http.get(path, headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.json["error"]["code"] == "invalid_api_key"
    assert http.get(path, headers=key).status_code == (404 if path == "/nothing/here" else 200)


@pytest.mark.parametrize("path", OPEN)
def test_probes_and_documents_need_no_key(http: FlaskClient, make_key: Callable, path):
    make_key("acme")
    assert http.get(path, environ_overrides={"REMOTE_ADDR": "10.1.2.3"}).status_code == 200


def test_readiness_needs_no_key(http: FlaskClient, make_key: Callable, ready: str):
    make_key("acme")
    assert http.get("/ready").status_code == 200


@pytest.mark.parametrize("ending", ["revoked", "expired"])
def test_a_key_works_from_any_machine_until_a_second_after_its_end_in_every_process(
    http: FlaskClient, settings: Settings, parts: Parts, make_key: Callable, ending: str
):
    key = make_key("acme")
    far = {"REMOTE_ADDR": "10.1.2.3"}
    another = assemble(settings)
    crowd = [http, create_app(parts=another).test_client()]
    assert [one.get("/v1/jobs", headers=key, environ_overrides=far).status_code for one in crowd] == [200] * 2

    with parts.database.transaction() as db:
        (row,) = keys.page(db, "acme")
        if ending == "revoked":
            assert keys.revoke(db, row.id)
        else:
            db.execute(update(Key).values(expires_at=database_now()))
    ended = time.monotonic()
    let_in = set(crowd)
    while let_in:
        let_in = {one for one in let_in if one.get("/v1/jobs", headers=key).status_code == 200}
        assert time.monotonic() - ended < 1.0
    assert [one.get("/v1/jobs").status_code for one in crowd] == [401] * 2
    another.close()


def test_a_refused_key_is_logged_by_its_start_alone(
    http: FlaskClient, make_key: Callable, caplog: pytest.LogCaptureFixture
):
    make_key("acme")
    ours, foreign = "sk-sluice-" + "A" * 43, "sk-proj-of-somebody-else"
    with caplog.at_level("INFO", "service.actions.authenticate"):
        for secret in (ours, foreign):
            assert http.get("/v1/jobs", headers={"Authorization": f"Bearer {secret}"}).status_code == 401
    assert f"{ours[:18]}…" in caplog.text
    assert ours[:19] not in caplog.text
    assert foreign[:8] not in caplog.text


def test_a_keys_last_use_is_known_but_not_written_again_within_a_minute(
    http: FlaskClient, parts: Parts, make_key: Callable
):
    key = make_key("acme")
    http.get("/v1/jobs", headers=key)
    parts.door.uses.close()
    with parts.database.transaction() as db:
        (row,) = keys.page(db, "acme")
        assert row.last_used_at is not None
        db.execute(update(Key).values(last_used_at=None))
    http.get("/v1/jobs", headers=key)
    parts.door.uses.close()
    with parts.database.reading() as db:
        assert keys.page(db, "acme")[0].last_used_at is None


def test_a_tenant_sees_nothing_of_anothers(http: FlaskClient, make_key: Callable, ready: str):
    mine, theirs = make_key("acme"), make_key("globex")
    line = b'{"messages": [{"role": "user", "content": "Hello"}]}\n'
    file = http.post(
        "/v1/files", headers=mine, data={"purpose": "batch", "file": (io.BytesIO(line), "lines.jsonl")}
    ).json["id"]
    batch = http.post(
        "/v1/batches", headers=mine, json={"input_file_id": file, "endpoint": "/v1/chat/completions"}
    ).json["id"]
    job = http.post("/v1/jobs", headers=mine, data=line, content_type="application/json").json["id"]
    calls = [
        ("GET", "/v1/files/{}", file),
        ("GET", "/v1/files/{}/content", file),
        ("DELETE", "/v1/files/{}", file),
        ("GET", "/v1/batches/{}", batch),
        ("POST", "/v1/batches/{}/cancel", batch),
        ("GET", "/v1/jobs/{}", job),
        ("POST", "/v1/jobs/{}/cancel", job),
    ]
    for method, path, mine_id in calls:
        foreign = http.open(path.format(mine_id), method=method, headers=theirs)
        unknown = http.open(path.format(mine_id[:-1] + "9"), method=method, headers=theirs)
        assert (foreign.status_code, unknown.status_code) == (404, 404), path
        assert foreign.json["error"] == unknown.json["error"]
    for path in ("/v1/files", "/v1/batches", "/v1/jobs"):
        assert http.get(path, headers=theirs).json["data"] == []
        assert len(http.get(path, headers=mine).json["data"]) == 1
    stolen = http.post(
        "/v1/batches", headers=theirs, json={"input_file_id": file, "endpoint": "/v1/chat/completions"}
    )
    assert stolen.status_code == 404
    assert [
        http.get(path.format(mine_id), headers=mine, buffered=True).status_code
        for method, path, mine_id in calls
        if method == "GET"
    ] == [200] * 4


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "sluice.example.org"])
def test_listening_beyond_this_machine_needs_a_key_first(parts: Parts, make_key: Callable, host):
    require_safe_address("127.0.0.1", parts.database)
    with pytest.raises(ConfigurationError, match="sluice keys create"):
        require_safe_address(host, parts.database)
    make_key("acme")
    require_safe_address(host, parts.database)
    with parts.database.transaction() as db:
        keys.revoke(db, keys.page(db)[0].id)
        keys.create(db, "acme", expires_in_seconds=-1)
    with pytest.raises(ConfigurationError, match="revoked or has expired"):
        require_safe_address(host, parts.database)
