"""Keys, quotas and usage of the running server, through the official client and the command line."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from front_door import sluice, wait_for
from wire_server import Wire

HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def admin(wire: Wire) -> Iterator[httpx.Client]:
    """Raw HTTP with an admin's key, made at the command line while the server runs."""
    made = sluice(
        "keys", "create", "--tenant", "keepers", "--admin", "--data-dir", "data", cwd=wire.data_dir.parent
    )
    assert made.returncode == 0, made.stderr
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
    with httpx.Client(base_url=wire.url, headers=headers, timeout=60) as opened:
        yield opened


@pytest.fixture
def as_tenant(wire: Wire, admin: httpx.Client) -> Iterator[Callable[..., openai.OpenAI]]:
    """A new tenant with quotas, through OpenAI's client. Others share the server, so that each test has its own."""
    opened: list[openai.OpenAI] = []

    def make(tenant: str, **quotas: int) -> openai.OpenAI:
        made = admin.post("/v1/admin/tenants", json={"id": tenant, "quotas": quotas})
        assert made.status_code == 200, made.text
        key = admin.post("/v1/admin/keys", json={"tenant_id": tenant}).json()["key"]
        opened.append(openai.OpenAI(base_url=f"{wire.url}/v1", api_key=key, max_retries=0, timeout=60))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


def chat(client: openai.OpenAI, text: str = "Hello") -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(model="default", messages=messages, max_tokens=4)


def is_refused(client: openai.OpenAI) -> bool:
    try:
        client.models.list()
    except openai.AuthenticationError:
        return True
    return False


def test_a_user_may_not_administer(client: openai.OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError) as refusal:
        client.get("/admin/keys", cast_to=object)
    assert refusal.value.code == "permission_denied"


def test_a_key_revoked_at_the_command_line_stops_within_a_second(
    wire: Wire, admin: httpx.Client, as_tenant: Callable[..., openai.OpenAI]
) -> None:
    client = as_tenant("owls")
    client.models.list()
    (key,) = admin.get("/v1/admin/keys", params={"tenant": "owls"}).json()["data"]
    assert client.api_key.startswith(key["prefix"])

    revoked = sluice("keys", "revoke", key["id"], "--data-dir", "data", cwd=wire.data_dir.parent)
    assert revoked.returncode == 0, revoked.stderr
    wait_for(lambda: is_refused(client), seconds=1)
    assert admin.get(f"/v1/admin/keys/{key['id']}").json()["last_used_at"] is not None


def test_a_key_that_expires_stops_by_itself(wire: Wire, admin: httpx.Client) -> None:
    made = admin.post("/v1/admin/keys", json={"tenant_id": "moths", "expires_in_seconds": 1}).json()
    headers = {"Authorization": f"Bearer {made['key']}"}

    def status() -> int:
        return httpx.get(f"{wire.url}/v1/jobs", headers=headers).status_code

    assert status() == 200
    wait_for(lambda: status() == 401, seconds=3)


def test_the_official_client_is_told_of_its_rate_limit(as_tenant: Callable[..., openai.OpenAI]) -> None:
    client = as_tenant("mice", requests_per_minute=2)
    raw = client.chat.completions.with_raw_response.create(model="default", messages=HELLO, max_tokens=4)
    assert raw.headers["x-ratelimit-limit-requests"] == "2"
    assert raw.headers["x-ratelimit-remaining-requests"] == "1"
    chunks = client.chat.completions.create(model="default", messages=HELLO, max_tokens=4, stream=True)
    assert chunks.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert list(chunks)
    with pytest.raises(openai.RateLimitError) as refusal:
        chat(client)
    assert refusal.value.code == "rate_limit_exceeded"
    assert 1 <= int(refusal.value.response.headers["retry-after"]) <= 60
    assert client.models.list().data


def test_a_tenant_whose_tokens_are_spent_gets_no_more_today(as_tenant: Callable[..., openai.OpenAI]) -> None:
    client = as_tenant("voles", tokens_per_day=1)
    chat(client)

    def refused() -> bool:
        try:
            chat(client)
        except openai.RateLimitError as error:
            return error.code == "insufficient_quota"
        return False

    wait_for(refused, seconds=5)


def test_a_tenant_whose_jobs_wait_may_not_add_any(as_tenant: Callable[..., openai.OpenAI]) -> None:
    client = as_tenant("hares", queued_jobs=0)
    with pytest.raises(openai.RateLimitError) as refusal:
        client.post("/jobs", body={"prompt": "Hello"}, cast_to=object)
    assert refusal.value.code == "too_many_queued_jobs"


def test_usage_is_the_sum_of_the_answers_and_those_given_again_cost_no_tokens(
    wire: Wire, as_tenant: Callable[..., openai.OpenAI]
) -> None:
    client = as_tenant("bees")
    answers = [chat(client, text).usage for text in ("Hello", "What do you see?")]
    assert chat(client).usage.total_tokens == answers[0].total_tokens
    sums = {
        name: sum(getattr(usage, name) for usage in answers)
        for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    }

    told = sluice("usage", "--json", "--url", wire.url, "--key", client.api_key, cwd=wire.data_dir.parent)
    assert told.returncode == 0, told.stderr
    report = json.loads(told.stdout)
    (row,) = report["data"]
    assert {name: row[name] for name in sums} == {name: report["total"][name] for name in sums} == sums
    assert row["requests"] == 3
