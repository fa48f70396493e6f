"""Tell webhooks what they have yet to hear, signed, one event at a time and webhook by webhook."""

import time

from service.actions.parts import Parts
from service.contract.webhooks import event_body, signed_headers
from service.errors import SluiceError
from service.store import deliveries
from service.store.deliveries import DueDelivery, Patience

# Between the end of an attempt and its record; after it others may take the webhook.
LEASE_SLACK_SECONDS = 30.0
GONE = 410


def claim_deliveries(parts: Parts, limit: int) -> list[DueDelivery]:
    """Take up to `limit` deliveries that are due, of as many webhooks."""
    with parts.database.reading() as db:
        if not deliveries.any_due(db):
            return []
    lease_seconds = parts.settings.webhook_timeout_seconds + LEASE_SLACK_SECONDS
    with parts.database.transaction() as db:
        return deliveries.claim(db, limit=limit, lease_seconds=lease_seconds)


def deliver(parts: Parts, delivery: DueDelivery) -> None:
    """Make one attempt and write down what came of it. Whoever is killed in between has it sent again."""
    try:
        status = send_event(
            parts,
            delivery.url,
            list(delivery.secrets),
            event_id=delivery.id,
            event_type=delivery.event_type,
            created_at=delivery.created_at,
            object_id=delivery.object_id,
        )
        reason = f"The receiver answered {status}."
    except SluiceError as error:
        status, reason = None, error.message
    with parts.database.transaction() as db:
        if status is not None and 200 <= status < 300:
            deliveries.delivered(db, delivery)
        elif status == GONE:
            deliveries.disable(db, delivery, reason)
        else:
            deliveries.failed(db, delivery, reason, _patience(parts))


def send_event(
    parts: Parts,
    url: str,
    secrets: list[str],
    *,
    event_id: str,
    event_type: str,
    created_at: float,
    object_id: str,
) -> int:
    """Send one signed event and return the receiver's status; of its answer nothing else is read."""
    body = event_body(event_id, event_type, int(created_at), object_id)
    headers = signed_headers(event_id, int(time.time()), body, secrets)
    seconds = parts.settings.webhook_timeout_seconds
    with parts.dialer.send("POST", url, seconds=seconds, headers=headers, body=body) as answer:
        return answer.status


def _patience(parts: Parts) -> Patience:
    settings = parts.settings
    return Patience(settings.webhook_retry_seconds, settings.webhook_give_up_seconds)
