"""Administering keys and tenants over HTTP: who may, and that nobody locks everybody out by accident."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.actions.parts import Parts
from service.contract.callers import Role
from service.store import keys

FAR = {"REMOTE_ADDR": "10.1.2.3"}
CALLS = [
    ("GET", "/v1/admin/keys", None),
    ("POST", "/v1/admin/keys", {"role": "admin"}),
    ("POST", "/v1/admin/keys", {"nonsense": 1}),
    ("GET", "/v1/admin/keys/key_1", None),
    ("DELETE", "/v1/admin/keys/key_1", None),
    ("GET", "/v1/admin/tenants", None),
    ("POST", "/v1/admin/tenants", {"id": "me"}),
    ("GET", "/v1/admin/tenants/default", None),
    ("POST", "/v1/admin/tenants/default", {"weight": 9}),
]


@pytest.fixture
def admin(parts: Parts) -> dict[str, Any]:
    """The headers of an admin key."""
    with parts.database.transaction() as db:
        _, secret = keys.create(db, "ops", role=Role.ADMIN)
    return {"Authorization": f"Bearer {secret}"}


def make(http: FlaskClient, headers: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    made = http.post("/v1/admin/keys", headers=headers, json=wanted)
    assert made.status_code == 200, made.json
    return dict(made.json)


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_a_user_key_is_told_that_these_paths_are_for_admins(
    http: FlaskClient, make_key: Callable, method: str, path: str, body: Any
) -> None:
    refused = http.open(path, method=method, json=body, headers=make_key("acme"))
    assert refused.status_code == 403
    assert refused.json["error"]["code"] == "permission_denied"
    assert "sluice keys create --admin" in refused.json["error"]["hint"]


def test_a_key_is_shown_once_and_opens_its_tenants_work(http: FlaskClient, admin: dict) -> None:
    made = make(http, admin, tenant_id="acme", name="laptop", expires_in_seconds=3600)
    assert made["key"].startswith(made["prefix"])
    assert (made["tenant_id"], made["name"], made["role"]) == ("acme", "laptop", "user")
    assert made["expires_at"] == pytest.approx(made["created_at"] + 3600, abs=2)
    user = {"Authorization": f"Bearer {made['key']}"}
    assert http.get("/v1/jobs", headers=user, environ_overrides=FAR).status_code == 200

    shown = http.get(f"/v1/admin/keys/{made['id']}", headers=admin)
    assert shown.json["name"] == "laptop"
    assert shown.json["last_used_at"] in (None, pytest.approx(time.time(), abs=60))
    assert made["key"] not in shown.text + http.get("/v1/admin/keys", headers=admin).text


def test_a_revoked_key_is_refused_at_once_where_it_was_revoked(http: FlaskClient, admin: dict) -> None:
    made = make(http, admin, tenant_id="acme")
    user = {"Authorization": f"Bearer {made['key']}"}
    assert http.get("/v1/jobs", headers=user).status_code == 200
    revoked = http.delete(f"/v1/admin/keys/{made['id']}", headers=admin)
    assert revoked.json["revoked_at"] == pytest.approx(time.time(), abs=5)
    assert http.get("/v1/jobs", headers=user).status_code == 401
    assert http.delete(f"/v1/admin/keys/{made['id']}", headers=admin).json == revoked.json


def test_the_last_admin_key_cannot_be_revoked_over_http(http: FlaskClient, admin: dict, parts: Parts) -> None:
    (mine,) = http.get("/v1/admin/keys", headers=admin).json["data"]
    refused = http.delete(f"/v1/admin/keys/{mine['id']}", headers=admin)
    assert refused.status_code == 400
    assert refused.json["error"]["code"] == "last_admin_key"
    assert refused.json["error"]["hint"]
    another = make(http, admin, role="admin")
    assert http.delete(f"/v1/admin/keys/{mine['id']}", headers=admin).status_code == 200
    assert (
        http.get("/v1/admin/keys", headers={"Authorization": f"Bearer {another['key']}"}).status_code == 200
    )


def test_without_a_key_this_machine_administers_and_the_first_key_it_makes_is_an_admins(
    http: FlaskClient,
) -> None:
    assert http.get("/v1/admin/keys", environ_overrides=FAR).status_code == 401
    refused = http.post("/v1/admin/keys", json={"tenant_id": "acme"})
    assert refused.json["error"]["code"] == "first_key_must_be_admin"
    assert http.get("/v1/jobs").status_code == 200

    first = make(http, {}, role="admin")
    assert http.get("/v1/admin/keys").status_code == 401
    assert make(http, {"Authorization": f"Bearer {first['key']}"}, tenant_id="acme")["role"] == "user"


def test_the_same_idempotency_key_makes_one_key_whose_secret_is_not_shown_again(
    http: FlaskClient, admin: dict
) -> None:
    headers = {**admin, "Idempotency-Key": "once"}
    first, again = (make(http, headers, tenant_id="acme") for _ in range(2))
    assert again == {**first, "key": None}
    assert len(http.get("/v1/admin/keys?tenant=acme", headers=admin).json["data"]) == 1
    assert http.post("/v1/admin/keys", headers=headers, json={"tenant_id": "globex"}).status_code == 422


def test_keys_are_listed_page_by_page(http: FlaskClient, admin: dict) -> None:
    made = [make(http, admin, tenant_id="acme", name=f"key {n}")["id"] for n in range(3)]
    page = http.get("/v1/admin/keys?tenant=acme&limit=2", headers=admin).json
    assert page["has_more"]
    rest = http.get(f"/v1/admin/keys?tenant=acme&limit=2&after={page['last_id']}", headers=admin).json
    assert not rest["has_more"]
    assert sorted(key["id"] for key in page["data"] + rest["data"]) == sorted(made)
    assert len(http.get("/v1/admin/keys", headers=admin).json["data"]) == 4
    assert http.get("/v1/admin/keys?tenant=no/such", headers=admin).json["data"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"tenant_id": ""},
        {"tenant_id": "a/b"},
        {"tenant_id": "acme\n"},
        {"tenant_id": "x" * 65},
        {"name": ""},
        {"role": "root"},
        {"expires_in_seconds": 0},
        {"expires": "30d"},
    ],
)
def test_a_key_that_makes_no_sense_is_refused(http: FlaskClient, admin: dict, body: dict) -> None:
    assert http.post("/v1/admin/keys", headers=admin, json=body).status_code == 400


def test_tenants_are_made_changed_and_listed(http: FlaskClient, admin: dict) -> None:
    quotas = {"requests_per_minute": 60, "tokens_per_day": "unlimited"}
    made = http.post("/v1/admin/tenants", headers=admin, json={"id": "acme", "quotas": quotas}).json
    none = {"queued_jobs": None, "stored_bytes": None}
    assert (made["id"], made["weight"], made["quotas"]) == ("acme", 1.0, quotas | none)

    path = "/v1/admin/tenants/acme"
    changed = http.post(path, headers=admin, json={"weight": 2, "quotas": {"queued_jobs": 5}}).json
    assert (changed["weight"], changed["quotas"]) == (2, quotas | none | {"queued_jobs": 5})
    back = http.post(path, headers=admin, json={"quotas": {"requests_per_minute": None}}).json
    assert (back["weight"], back["quotas"]["requests_per_minute"]) == (2, None)
    assert http.post(path, headers=admin, json={}).json == http.get(path, headers=admin).json == back

    listed = http.get("/v1/admin/tenants?limit=2", headers=admin).json
    assert [tenant["id"] for tenant in listed["data"]] == ["acme", "default"]
    assert listed["has_more"]
    rest = http.get(f"/v1/admin/tenants?after={listed['last_id']}", headers=admin).json
    assert [tenant["id"] for tenant in rest["data"]] == ["ops"]


def test_a_new_quota_is_in_force_at_once_where_it_was_set(
    http: FlaskClient, admin: dict, make_key: Callable
) -> None:
    acme = make_key("acme")
    chat = {"messages": [{"role": "user", "content": "Hello"}]}
    assert http.post("/v1/jobs", headers=acme, json=chat).status_code == 202
    http.post("/v1/admin/tenants/acme", headers=admin, json={"quotas": {"requests_per_minute": 0}})
    assert http.post("/v1/jobs", headers=acme, json=chat).status_code == 429


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/admin/tenants", {"id": "default"}, 400, "tenant_exists"),
        ("/v1/admin/tenants", {"id": "../x"}, 400, "invalid_value"),
        ("/v1/admin/tenants/nobody", {"weight": 1}, 404, "tenant_not_found"),
        ("/v1/admin/tenants/%00", {"weight": 1}, 404, "tenant_not_found"),
        ("/v1/admin/tenants/default", {"weight": 0}, 400, "invalid_value"),
        ("/v1/admin/tenants/default", {"quotas": {"requests_per_minute": -1}}, 400, "invalid_value"),
        ("/v1/admin/tenants/default", {"quotas": {"requests_per_hour": 1}}, 400, "invalid_value"),
        ("/v1/admin/tenants/default", {"id": "other"}, 400, "invalid_value"),
    ],
)
def test_a_tenant_that_makes_no_sense_is_refused(
    http: FlaskClient, admin: dict, path: str, body: dict, status: int, code: str
) -> None:
    refused = http.post(path, headers=admin, json=body)
    assert (refused.status_code, refused.json["error"]["code"]) == (status, code)


@pytest.mark.parametrize("path", ["/v1/admin/keys/key_1", "/v1/admin/keys/key_" + "0" * 24])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_key_is_not_found(http: FlaskClient, admin: dict, path: str, method: str) -> None:
    refused = http.open(path, method=method, headers=admin)
    assert (refused.status_code, refused.json["error"]["code"]) == (404, "key_not_found")


def test_an_admin_key_sees_no_more_of_other_tenants_work(
    http: FlaskClient, admin: dict, make_key: Callable
) -> None:
    job = http.post("/v1/jobs", headers=make_key("acme"), json={"prompt": "Hello"}).json["id"]
    assert http.get(f"/v1/jobs/{job}", headers=admin).status_code == 404
    assert http.get("/v1/jobs", headers=admin).json["data"] == []
