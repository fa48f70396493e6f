"""Webhooks: who wants to hear of what. What they have yet to hear is in `deliveries`."""

import base64
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete as delete_from
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from service.contract.webhooks import SECRET_START
from service.store.database import database_now
from service.store.paging import newest_first
from service.store.tables import Webhook, WebhookDelivery

OLD_SECRET_SECONDS = 24 * 3600


def new_id() -> str:
    """A fresh webhook id."""
    return f"wh_{secrets.token_hex(12)}"


def insert_webhook(
    db: Session,
    tenant_id: str,
    *,
    webhook_id: str,
    name: str,
    url: str,
    event_types: Sequence[str],
    key_id: str | None = None,
) -> Webhook:
    """Enter a webhook with a fresh secret."""
    now = database_now()
    row = insert(Webhook).values(
        id=webhook_id,
        tenant_id=tenant_id,
        key_id=key_id,
        name=name,
        url=url,
        event_types=list(event_types),
        secret=_new_secret(),
        created_at=now,
        updated_at=now,
    )
    return db.scalars(row.returning(Webhook)).one()


def get(db: Session, tenant_id: str, webhook_id: str) -> Webhook | None:
    """A tenant's webhook."""
    return db.scalar(select(Webhook).where(Webhook.id == webhook_id, Webhook.tenant_id == tenant_id))


def page(db: Session, tenant_id: str, *, after: str | None = None, limit: int = 20) -> Sequence[Webhook]:
    """A tenant's webhooks, newest first. after: the last id seen."""
    mine = select(Webhook).where(Webhook.tenant_id == tenant_id)
    return db.scalars(newest_first(mine, Webhook, after).limit(limit)).all()


def count(db: Session, tenant_id: str) -> int:
    """How many a tenant has."""
    return db.scalar(select(func.count()).where(Webhook.tenant_id == tenant_id)) or 0


def num_pending(db: Session, webhook_ids: Sequence[str]) -> Mapping[str, int]:
    """How many events each webhook has yet to hear of; those with none are left out."""
    pending = select(WebhookDelivery.webhook_id, func.count()).where(
        WebhookDelivery.webhook_id.in_(webhook_ids)
    )
    counts = db.execute(pending.group_by(WebhookDelivery.webhook_id)).all()
    return {row[0]: row[1] for row in counts}


def change(db: Session, tenant_id: str, webhook_id: str, changes: Mapping[str, Any]) -> Webhook | None:
    """Change some of name, url and event_types, and let it be tried at once, also where it was switched off."""
    return _updated(
        db,
        tenant_id,
        webhook_id,
        **changes,
        claim=Webhook.claim + 1,
        failures=0,
        quiet_until=None,
        disabled_at=None,
    )


def rotate_secret(db: Session, tenant_id: str, webhook_id: str, *, keep_old: bool) -> Webhook | None:
    """Give a webhook a fresh secret. keep_old: the one before signs too for a day."""
    return _updated(
        db,
        tenant_id,
        webhook_id,
        secret=_new_secret(),
        old_secret=Webhook.secret if keep_old else None,
        old_secret_until=database_now() + OLD_SECRET_SECONDS if keep_old else None,
    )


def delete(db: Session, tenant_id: str, webhook_id: str) -> bool:
    """Forget a tenant's webhook and what it has yet to hear of; False if there is none."""
    gone = delete_from(Webhook).where(Webhook.id == webhook_id, Webhook.tenant_id == tenant_id)
    if db.scalar(gone.returning(Webhook.id)) is None:
        return False
    db.execute(delete_from(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id))
    return True


def _updated(db: Session, tenant_id: str, webhook_id: str, **values: Any) -> Webhook | None:
    changed = update(Webhook).where(Webhook.id == webhook_id, Webhook.tenant_id == tenant_id)
    changed = changed.values(updated_at=database_now(), **values)
    return db.scalar(changed.returning(Webhook).execution_options(synchronize_session=False))


def _new_secret() -> str:
    return SECRET_START + base64.b64encode(secrets.token_bytes(32)).decode()
