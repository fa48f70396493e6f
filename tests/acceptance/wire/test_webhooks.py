"""Webhooks as the official client makes them, and deliveries as it unwraps them."""

import httpx
import openai
import pytest
from front_door import wait_for
from openai.types.webhooks.webhook_endpoint_with_secret import WebhookEndpointWithSecret

from tests.webhook_receiver import Receiver, receiving

ENDS = ["batch.completed", "batch.failed", "batch.expired", "batch.cancelled"]
JSON_LINES = {"Content-Type": "application/jsonl"}


def make(client: openai.OpenAI, receiver: Receiver, name: str = "mine") -> WebhookEndpointWithSecret:
    return client.webhooks.create(url=receiver.url, name=name, event_types=ENDS)  # type: ignore[arg-type]


def submit(cats: httpx.Client, lines: bytes) -> str:
    return str(cats.post("/v1/jobs", content=lines, headers=JSON_LINES).json()["id"])


def test_a_receiver_that_fails_twice_hears_of_the_batch_in_the_end(
    client: openai.OpenAI, cats: httpx.Client
) -> None:
    with receiving(lambda number: 503 if number <= 2 else 200) as receiver:
        webhook = make(client, receiver)
        batch_id = submit(cats, b'{"prompt": "Hello", "max_tokens": 1}\n')
        wait_for(lambda: len(receiver.received) == 3, seconds=20)
        wait_for(lambda: cats.get(f"/v1/webhook_endpoints/{webhook.id}").json()["last_delivered_at"])
    attempts = receiver.received
    assert len({attempt.headers["webhook-id"] for attempt in attempts}) == 1
    for attempt in attempts:
        event = client.webhooks.unwrap(attempt.body, attempt.headers, secret=webhook.signing_secret)
        assert (event.type, event.data.id) == ("batch.completed", batch_id)
    told = cats.get(f"/v1/webhook_endpoints/{webhook.id}").json()
    assert (told["status"], told["pending"]) == ("active", 0)
    assert told["last_error"] == "The receiver answered 503."
    client.webhooks.delete(webhook.id)


def test_a_batch_without_a_line_is_told_as_failed_and_a_forgery_is_not_taken(
    client: openai.OpenAI, cats: httpx.Client
) -> None:
    with receiving() as receiver:
        webhook = make(client, receiver)
        batch_id = submit(cats, b"\n")
        wait_for(lambda: receiver.received, seconds=20)
    (received,) = receiver.received
    secret = webhook.signing_secret
    event = client.webhooks.unwrap(received.body, received.headers, secret=secret)
    assert (event.type, event.data.id) == ("batch.failed", batch_id)
    assert client.batches.retrieve(batch_id).errors is not None
    late = dict(received.headers) | {"webhook-timestamp": "1700000000"}
    for body, headers in (
        (received.body.replace(b"failed", b"lasted"), received.headers),
        (received.body, late),
    ):
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(body, headers, secret=secret)
    client.webhooks.delete(webhook.id)


def test_a_webhook_is_made_listed_changed_tried_and_deleted(client: openai.OpenAI) -> None:
    with receiving(lambda _number: 202) as receiver:
        webhook = make(client, receiver, name="first")
        assert webhook.signing_secret.startswith("whsec_")
        assert client.webhooks.retrieve(webhook.id).name == "first"
        assert webhook.id in [listed.id for listed in client.webhooks.list(limit=1)]
        changed = client.webhooks.update(webhook.id, name="second", event_types=["batch.failed"])
        assert (changed.name, changed.event_types) == ("second", ["batch.failed"])
        tried = client.webhooks.test(webhook.id, event_type="batch.expired")
        assert (tried.success, tried.status_code) == (True, 202)
        fresh = client.webhooks.rotate_secret(webhook.id, keep_old_secret_active_for_24_hours=True)
        client.webhooks.test(webhook.id, event_type="batch.failed")
    client.webhooks.unwrap(
        receiver.received[0].body, receiver.received[0].headers, secret=webhook.signing_secret
    )
    client.webhooks.unwrap(
        receiver.received[1].body, receiver.received[1].headers, secret=fresh.signing_secret
    )
    gone = client.webhooks.delete(webhook.id)
    assert (gone.deleted, gone.object) == (True, "webhook_endpoint.deleted")
    with pytest.raises(openai.NotFoundError):
        client.webhooks.retrieve(webhook.id)


def test_another_tenants_webhook_is_not_there(client: openai.OpenAI, dogs: httpx.Client) -> None:
    with receiving() as receiver:
        webhook = make(client, receiver)
    path = f"/v1/webhook_endpoints/{webhook.id}"
    answers = [
        dogs.get(path),
        dogs.delete(path),
        dogs.post(path, json={"name": "mine"}),
        dogs.post(f"{path}/rotate_secret", json={}),
        dogs.post(f"{path}/test", json={"event_type": "batch.failed"}),
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert webhook.id not in dogs.get("/v1/webhook_endpoints").text
    client.webhooks.delete(webhook.id)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "https://169.254.169.254/"}, "url"),
        ({"url": "https://localhost/"}, "url"),
        ({"url": "ftp://example.com/"}, "url"),
        ({"url": 5}, "url"),
        ({"event_types": []}, "event_types"),
        ({"event_types": ["batch.started"]}, "event_types[0]"),
        ({"name": ""}, "name"),
        ({"secret": "mine"}, "secret"),
    ],
)
def test_a_webhook_that_could_do_no_good_is_refused(cats: httpx.Client, wrong: dict, param: str) -> None:
    wanted = {"url": "https://example.com/", "event_types": ["batch.failed"], "name": "mine"}
    refused = cats.post("/v1/webhook_endpoints", json=wanted | wrong)

    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"] == param


def test_a_webhook_is_found_by_its_short_name_too(cats: httpx.Client) -> None:
    wanted = {"url": "https://example.com/", "events": ["batch.failed"]}
    made = cats.post("/v1/webhooks", json=wanted).json()

    assert made["event_types"] == ["batch.failed"]
    assert cats.get(f"/v1/webhooks/{made['id']}").json()["url"] == wanted["url"]
    assert cats.delete(f"/v1/webhooks/{made['id']}").json()["deleted"] is True
