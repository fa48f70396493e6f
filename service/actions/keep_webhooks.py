"""Make webhooks, look at them, change them, delete them."""

import hashlib
import time
from typing import Any

from service.actions.deliver_webhooks import send_event
from service.actions.once import Once, make_once
from service.actions.parts import Parts
from service.actions.wire import filled, whole_seconds
from service.channels.addresses import read_url
from service.contract.callers import Caller
from service.contract.ids import is_webhook_id
from service.contract.webhooks import (
    CreateWebhook,
    DeletedWebhook,
    UpdateWebhook,
    WebhookList,
    WebhookObject,
    WebhookTestResult,
    WebhookWithSecret,
)
from service.errors import Conflict, NotFound
from service.store import deliveries, webhooks
from service.store.tables import Webhook

ROUTE = "/v1/webhook_endpoints"
MAX_WEBHOOKS = 20
# What a made-up event is about: no batch has this id.
TEST_OBJECT = "batch_000000000000000000000000"


def create_webhook(
    parts: Parts, caller: Caller, wanted: CreateWebhook, *, idempotency_key: str | None = None
) -> WebhookWithSecret:
    """Make a webhook; the same idempotency key with the same body gives the same one, with its secret."""
    read_url(wanted.url, parts.dialer.reach)
    once = Once(ROUTE, idempotency_key, hashlib.sha256(wanted.model_dump_json().encode()).hexdigest())
    new_id = webhooks.new_id()
    with parts.database.transaction() as db:
        made = make_once(
            db,
            caller,
            once,
            new_id,
            is_there=lambda known: webhooks.get(db, caller.tenant_id, known) is not None,
        )
        if made == new_id:
            if webhooks.count(db, caller.tenant_id) >= MAX_WEBHOOKS:
                raise Conflict(f"There are {MAX_WEBHOOKS} webhooks already.", code="too_many_webhooks")
            webhooks.insert_webhook(
                db,
                caller.tenant_id,
                webhook_id=new_id,
                name=wanted.name,
                url=wanted.url,
                event_types=sorted(set(wanted.event_types)),
                key_id=caller.key_id,
            )
        row = webhooks.get(db, caller.tenant_id, made)
    return _with_secret(row)


def get_webhook(parts: Parts, caller: Caller, webhook_id: str) -> WebhookObject:
    """One webhook, how it fares, and why it last failed."""
    _require_form(webhook_id)
    with parts.database.reading() as db:
        row = webhooks.get(db, caller.tenant_id, webhook_id)
        pending = webhooks.num_pending(db, [webhook_id])
    return WebhookObject(**_fields(_known(row), pending.get(webhook_id, 0)))


def list_webhooks(parts: Parts, caller: Caller, *, after: str | None = None, limit: int = 20) -> WebhookList:
    """A page of webhooks, newest first."""
    if after is not None:
        _require_form(after, "after")
    with parts.database.reading() as db:
        rows = webhooks.page(db, caller.tenant_id, after=after, limit=limit + 1)
        pending = webhooks.num_pending(db, [row.id for row in rows])
    data = [WebhookObject(**_fields(row, pending.get(row.id, 0))) for row in rows[:limit]]
    return filled(WebhookList(data=data), has_more=len(rows) > limit)


def update_webhook(parts: Parts, caller: Caller, webhook_id: str, wanted: UpdateWebhook) -> WebhookObject:
    """Change what is given, and let the webhook be tried again at once."""
    _require_form(webhook_id)
    if wanted.url is not None:
        read_url(wanted.url, parts.dialer.reach)
    changes = wanted.model_dump(exclude_none=True)
    if wanted.event_types is not None:
        changes["event_types"] = sorted(set(wanted.event_types))
    with parts.database.transaction() as db:
        row = webhooks.change(db, caller.tenant_id, webhook_id, changes)
        pending = webhooks.num_pending(db, [webhook_id])
    return WebhookObject(**_fields(_known(row), pending.get(webhook_id, 0)))


def rotate_secret(parts: Parts, caller: Caller, webhook_id: str, *, keep_old: bool) -> WebhookWithSecret:
    """Give a webhook a fresh secret."""
    _require_form(webhook_id)
    with parts.database.transaction() as db:
        row = webhooks.rotate_secret(db, caller.tenant_id, webhook_id, keep_old=keep_old)
    return _with_secret(row)


def try_webhook(parts: Parts, caller: Caller, webhook_id: str, event_type: str) -> WebhookTestResult:
    """Send a made-up event now. Whatever the receiver answers is a result; DialFailed if it does not answer."""
    _require_form(webhook_id)
    with parts.database.reading() as db:
        row = _known(webhooks.get(db, caller.tenant_id, webhook_id))
    status = send_event(
        parts,
        row.url,
        [row.secret],
        event_id=deliveries.new_id(),
        event_type=event_type,
        created_at=time.time(),
        object_id=TEST_OBJECT,
    )
    return WebhookTestResult(webhook_endpoint_id=webhook_id, event_type=event_type, status_code=status)


def delete_webhook(parts: Parts, caller: Caller, webhook_id: str) -> DeletedWebhook:
    """Forget a webhook and what it has yet to hear."""
    _require_form(webhook_id)
    with parts.database.transaction() as db:
        if not webhooks.delete(db, caller.tenant_id, webhook_id):
            raise _unknown()
    return DeletedWebhook(id=webhook_id)


def _require_form(webhook_id: str, param: str = "webhook_endpoint_id") -> None:
    if not is_webhook_id(webhook_id):
        raise _unknown(param)


def _known(row: Webhook | None) -> Webhook:
    if row is None:
        raise _unknown()
    return row


def _unknown(param: str = "webhook_endpoint_id") -> NotFound:
    """Unknown, or another tenant's."""
    return NotFound("There is no webhook of this id.", param=param, code="webhook_not_found")


def _with_secret(row: Webhook | None) -> WebhookWithSecret:
    known = _known(row)
    return WebhookWithSecret(**_fields(known, 0), signing_secret=known.secret)


def _fields(row: Webhook, num_pending: int) -> dict[str, Any]:
    status = "disabled" if row.disabled_at else "failing" if row.failures else "active"
    return {
        "id": row.id,
        "created_at": int(row.created_at),
        "updated_at": int(row.updated_at),
        "name": row.name,
        "url": row.url,
        "event_types": row.event_types,
        "signing_secret_hint": f"…{row.secret[-4:]}",
        "status": status,
        "pending": num_pending,
        "last_delivered_at": whole_seconds(row.delivered_at),
        "last_failed_at": whole_seconds(row.failed_at),
        "last_error": row.last_error,
    }
