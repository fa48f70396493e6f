"""Webhooks hear of their batches: over real HTTP, from a real courier, whatever the receiver does."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import openai
import pytest
from workplace import accept, prompts, submit, work

from service.actions.deliver_webhooks import claim_deliveries, deliver
from service.actions.export_results import export_results
from service.actions.ingest_manifest import ingest_manifest
from service.actions.keep_webhooks import (
    MAX_WEBHOOKS,
    create_webhook,
    delete_webhook,
    get_webhook,
    list_webhooks,
    rotate_secret,
    try_webhook,
    update_webhook,
)
from service.actions.parts import Parts, assemble
from service.contract.callers import Caller
from service.contract.webhooks import CreateWebhook, UpdateWebhook, WebhookWithSecret
from service.errors import BadRequest, Conflict, KeyReused, NotFound
from service.settings import Settings
from tests.webhook_receiver import Receiver, receiving
from workers.courier import Courier

ENDS = ["batch.completed", "batch.failed", "batch.expired", "batch.cancelled"]


@pytest.fixture
def parts(settings: Settings) -> Iterator[Parts]:
    reaching = settings.model_copy(
        update={
            "allow_addresses": "127.0.0.1",
            "allow_http": True,
            "webhook_retry_seconds": 0.05,
            "webhook_timeout_seconds": 1.0,
        }
    )
    parts = assemble(reaching)
    yield parts
    parts.close()


@contextmanager
def courier(parts: Parts) -> Iterator[Courier]:
    running = Courier(parts)
    running.start()
    yield running
    running.stop()


def make(parts: Parts, url: str, *event_types: str, key: str | None = None) -> WebhookWithSecret:
    wanted = CreateWebhook.model_validate(
        {"url": url, "event_types": (event_types and list(event_types)) or ENDS}
    )
    return create_webhook(parts, Caller(), wanted, idempotency_key=key)


def finished(parts: Parts) -> str:
    batch_id = accept(parts, prompts(1))
    work(parts)
    export_results(parts, batch_id)
    return batch_id


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_official_client_unwraps_what_a_receiver_gets(parts: Parts) -> None:
    with receiving() as receiver, courier(parts):
        webhook = make(parts, receiver.url)
        batch_id = finished(parts)
        until(lambda: receiver.received)
    (received,) = receiver.received
    client = openai.OpenAI(api_key="unused")
    event = client.webhooks.unwrap(received.body, received.headers, secret=webhook.signing_secret)
    assert (event.type, event.data.id, event.object) == ("batch.completed", batch_id, "event")
    assert event.id == received.headers["webhook-id"]
    assert time.time() - 60 < event.created_at <= time.time()
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(received.body + b" ", received.headers, secret=webhook.signing_secret)


def test_a_manifest_that_cannot_be_used_is_told_as_a_failed_batch(parts: Parts) -> None:
    with receiving() as receiver, courier(parts) as running:
        make(parts, receiver.url, "batch.failed")
        ingest_manifest(parts, submit(parts, []))
        running.ring()
        until(lambda: receiver.received)
    assert b'"batch.failed"' in receiver.received[0].body


def test_a_receiver_that_fails_is_asked_again_until_it_takes_the_same_event(parts: Parts) -> None:
    with receiving(lambda number: 500 if number <= 2 else 200) as receiver, courier(parts):
        webhook = make(parts, receiver.url)
        finished(parts)
        until(lambda: get_webhook(parts, Caller(), webhook.id).last_delivered_at)
    assert len(receiver.received) == 3
    assert len({received.headers["webhook-id"] for received in receiver.received}) == 1
    told = get_webhook(parts, Caller(), webhook.id)
    assert (told.status, told.pending, told.last_error) == ("active", 0, "The receiver answered 500.")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(parts: Parts, status: int) -> None:
    with receiving(lambda _number: status) as receiver:
        webhook = make(parts, receiver.url)
        finished(parts)
        for delivery in claim_deliveries(parts, 5):
            deliver(parts, delivery)
        assert len(receiver.received) == 1
    told = get_webhook(parts, Caller(), webhook.id)
    assert (told.status, told.pending) == ("failing", 1)
    assert told.last_error == f"The receiver answered {status}."


def test_a_receiver_that_is_gone_for_good_is_left_alone_until_it_is_changed(parts: Parts) -> None:
    with receiving(lambda number: 410 if number == 1 else 200) as receiver, courier(parts):
        webhook = make(parts, receiver.url)
        finished(parts)
        until(lambda: get_webhook(parts, Caller(), webhook.id).status == "disabled")
        finished(parts)
        assert get_webhook(parts, Caller(), webhook.id).pending == 0
        update_webhook(parts, Caller(), webhook.id, UpdateWebhook(name="moved"))
        finished(parts)
        until(lambda: get_webhook(parts, Caller(), webhook.id).last_delivered_at)
    assert len(receiver.received) == 2


def test_a_receiver_that_sleeps_delays_nobody_elses_news(parts: Parts) -> None:
    patient = assemble(parts.settings.model_copy(update={"webhook_timeout_seconds": 30.0}))
    woken = threading.Event()
    asleep = receiving(lambda _number: 200 if woken.wait(30) else 500)
    with asleep as slow, receiving() as quick, courier(patient):
        hanging = make(parts, slow.url)
        make(parts, quick.url)
        for _ in range(4):
            finished(parts)
        until(lambda: len(quick.received) == 4)
        assert len(slow.received) == 1
        assert get_webhook(parts, Caller(), hanging.id).pending == 4
        woken.set()
        until(lambda: get_webhook(parts, Caller(), hanging.id).pending == 0)
    patient.close()


def test_a_receiver_that_does_not_answer_is_given_up_at_the_deadline(parts: Parts) -> None:
    woken = threading.Event()
    hasty = assemble(parts.settings.model_copy(update={"webhook_timeout_seconds": 0.3}))
    with receiving(lambda _number: 200 if woken.wait(30) else 500) as receiver:
        webhook = make(parts, receiver.url)
        finished(parts)
        for delivery in claim_deliveries(hasty, 5):
            deliver(hasty, delivery)
        woken.set()
    hasty.close()
    assert get_webhook(parts, Caller(), webhook.id).last_error == "The host took too long."


def test_several_couriers_send_one_event_once(parts: Parts) -> None:
    with receiving() as receiver, courier(parts) as first, courier(parts) as second, courier(parts) as third:
        make(parts, receiver.url)
        ended = [finished(parts) for _ in range(5)]
        for running in (first, second, third):
            running.ring()
        until(lambda: len(receiver.received) >= len(ended))
        time.sleep(0.3)
    ids = [received.headers["webhook-id"] for received in receiver.received]
    assert len(ids) == len(set(ids)) == len(ended)


def test_nobody_is_sent_to_an_address_inside(settings: Settings) -> None:
    parts = assemble(settings)
    for url in (
        "https://127.0.0.1/",
        "https://169.254.169.254/latest/",
        "http://example.com/",
        "https://localhost/",
    ):
        with pytest.raises(BadRequest) as refusal:
            make(parts, url)
        assert refusal.value.param == "url"
    parts.close()


def test_an_address_that_may_no_longer_be_dialled_is_a_failure_like_any_other(
    parts: Parts, settings: Settings
) -> None:
    with receiving() as receiver:
        webhook = make(parts, receiver.url)
        finished(parts)
        strict = assemble(settings)
        for delivery in claim_deliveries(strict, 5):
            deliver(strict, delivery)
        strict.close()
    assert receiver.received == []
    assert get_webhook(parts, Caller(), webhook.id).status == "failing"


def test_a_test_event_is_sent_now_and_its_answer_told(parts: Parts) -> None:
    with receiving(lambda _number: 418) as receiver:
        webhook = make(parts, receiver.url)
        result = try_webhook(parts, Caller(), webhook.id, "batch.expired")
    assert (result.status_code, result.event_type) == (418, "batch.expired")
    openai.OpenAI(api_key="unused").webhooks.unwrap(
        receiver.received[0].body, receiver.received[0].headers, secret=webhook.signing_secret
    )


def test_the_secret_is_shown_when_it_is_made_and_never_again(parts: Parts) -> None:
    with receiving() as receiver:
        webhook = make(parts, receiver.url)
        seen = [get_webhook(parts, Caller(), webhook.id), *list_webhooks(parts, Caller()).data]
        assert all(webhook.signing_secret not in told.model_dump_json() for told in seen)
        fresh = rotate_secret(parts, Caller(), webhook.id, keep_old=False)
    assert fresh.signing_secret != webhook.signing_secret
    assert fresh.signing_secret.endswith(fresh.signing_secret_hint.removeprefix("…"))


def test_a_webhook_that_is_sent_again_with_its_key_is_one_webhook(parts: Parts) -> None:
    receiver = Receiver(url="http://127.0.0.1:9999/hook")
    first = make(parts, receiver.url, key="k")

    assert make(parts, receiver.url, key="k") == first
    with pytest.raises(KeyReused):
        make(parts, receiver.url, "batch.failed", key="k")
    delete_webhook(parts, Caller(), first.id)
    assert make(parts, receiver.url, key="k").id != first.id
    assert len(list_webhooks(parts, Caller()).data) == 1


def test_a_tenant_has_so_many_webhooks_and_sees_its_own_alone(parts: Parts) -> None:
    made = [make(parts, f"http://127.0.0.1:9999/{number}").id for number in range(MAX_WEBHOOKS)]
    with pytest.raises(Conflict):
        make(parts, "http://127.0.0.1:9999/more")
    page = list_webhooks(parts, Caller(), limit=15)
    rest = list_webhooks(parts, Caller(), limit=15, after=page.last_id)
    assert [webhook.id for webhook in (*page.data, *rest.data)] == made[::-1]
    assert (page.has_more, rest.has_more) == (True, False)
    stranger = Caller("dogs")
    for look in (
        lambda: get_webhook(parts, stranger, made[0]),
        lambda: delete_webhook(parts, stranger, made[0]),
        lambda: rotate_secret(parts, stranger, made[0], keep_old=True),
        lambda: update_webhook(parts, stranger, made[0], UpdateWebhook(name="mine")),
        lambda: try_webhook(parts, stranger, made[0], "batch.failed"),
        lambda: get_webhook(parts, Caller(), "wh_'; DROP TABLE webhooks"),
    ):
        with pytest.raises(NotFound):
            look()
