"""Deliveries: the outbox of events that webhooks have yet to hear of.

Written in the transaction that makes the event true; sent by whoever claims the webhook, one event at a time.
A receiver that fails is left alone for longer and longer, whatever waits for it, so that a dead one costs little.
"""

import secrets
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, func, insert, or_, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.orm import Session

from service.store.database import AnyRow, database_now
from service.store.tables import Webhook, WebhookDelivery

MAX_WAIT_SECONDS = 4 * 3600.0
MAX_DOUBLINGS = 20


@dataclass(frozen=True, slots=True)
class Patience:
    """first_seconds: the wait after a first failure, doubled each time. total_seconds: the age at which we give up."""

    first_seconds: float
    total_seconds: float

    def wait_seconds(self, failures: int) -> float:
        """After so many failures in a row."""
        return min(MAX_WAIT_SECONDS, self.first_seconds * 2.0 ** min(failures - 1, MAX_DOUBLINGS))


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """An event to send now. (webhook_id, claim) is the fence. attempt: 1 for the first. created_at: Unix seconds.

    secrets: those that sign. failures: how often in a row the receiver has failed before.
    """

    id: str
    webhook_id: str
    claim: int
    url: str
    secrets: tuple[str, ...]
    event_type: str
    object_id: str
    created_at: float
    attempt: int
    failures: int


def new_id() -> str:
    """A fresh event id."""
    return f"evt_{secrets.token_hex(12)}"


def announce(db: Session, tenant_id: str, event_type: str, object_id: str) -> int:
    """Put an event into the outbox, once for each of the tenant's webhooks that asked for it; returns how many."""
    active = select(Webhook.id, Webhook.event_types).where(
        Webhook.tenant_id == tenant_id, Webhook.disabled_at.is_(None)
    )
    asked = [row.id for row in db.execute(active) if event_type in row.event_types]
    for webhook_id in asked:
        db.execute(
            insert(WebhookDelivery).values(
                id=new_id(),
                webhook_id=webhook_id,
                event_type=event_type,
                object_id=object_id,
                created_at=database_now(),
                due_at=database_now(),
            )
        )
    return len(asked)


def any_due(db: Session) -> bool:
    """Whether it is worth the while to claim."""
    return db.scalar(select(WebhookDelivery.id).where(*_due()).limit(1)) is not None


def claim(db: Session, *, limit: int, lease_seconds: float) -> list[DueDelivery]:
    """Take up to `limit` webhooks that have something to hear, and of each the event that is due longest.

    Nobody else takes them until the lease ends, or until we say what came of it.
    """
    now = database_now()
    due = select(WebhookDelivery.webhook_id).where(*_due())
    free = (
        select(Webhook.id)
        .where(
            Webhook.id.in_(due),
            Webhook.disabled_at.is_(None),
            or_(Webhook.quiet_until.is_(None), Webhook.quiet_until <= now),
        )
        .order_by(func.coalesce(Webhook.quiet_until, 0), Webhook.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("free")
        .prefix_with("MATERIALIZED")
    )
    taken = (
        update(Webhook)
        .where(Webhook.id.in_(select(free.c.id)))
        .values(claim=Webhook.claim + 1, quiet_until=now + lease_seconds)
        .returning(
            Webhook.id,
            Webhook.url,
            Webhook.secret,
            Webhook.old_secret,
            (Webhook.old_secret_until > now).label("old_signs"),
            Webhook.claim,
            Webhook.failures,
        )
        .execution_options(synchronize_session=False)
    )
    claimed = [_first_due(db, webhook) for webhook in db.execute(taken).all()]
    return [delivery for delivery in claimed if delivery is not None]


def delivered(db: Session, delivery: DueDelivery) -> None:
    """The receiver has it. That holds even if our lease was over, and another may have sent it too."""
    db.execute(delete_from(WebhookDelivery).where(WebhookDelivery.id == delivery.id))
    _release(db, delivery, quiet_until=None, failures=0, delivered_at=database_now())


def failed(db: Session, delivery: DueDelivery, reason: str, patience: Patience) -> None:
    """The receiver does not have it: leave it alone for a while, and the event for longer, or give the event up."""
    failures = delivery.failures + 1
    quiet_until = database_now() + patience.wait_seconds(failures)
    if not _release(
        db,
        delivery,
        quiet_until=quiet_until,
        failures=failures,
        failed_at=database_now(),
        last_error=reason,
    ):
        return
    wait_seconds = patience.wait_seconds(delivery.attempt)
    mine = WebhookDelivery.id == delivery.id
    too_old = WebhookDelivery.created_at + patience.total_seconds < database_now() + wait_seconds
    db.execute(delete_from(WebhookDelivery).where(mine, too_old))
    db.execute(update(WebhookDelivery).where(mine).values(due_at=database_now() + wait_seconds))


def disable(db: Session, delivery: DueDelivery, reason: str) -> None:
    """The receiver says that it is gone for good: send it nothing more."""
    if _release(db, delivery, disabled_at=database_now(), failed_at=database_now(), last_error=reason):
        db.execute(delete_from(WebhookDelivery).where(WebhookDelivery.webhook_id == delivery.webhook_id))


def any_stale(db: Session, older_than_seconds: float) -> bool:
    """Whether there is something to forget."""
    return db.scalar(_stale(older_than_seconds).limit(1)) is not None


def forget_stale(db: Session, older_than_seconds: float, limit: int) -> int:
    """Forget up to `limit` events of that age, which belong to webhooks that are no more; returns how many."""
    stale = _stale(older_than_seconds).limit(limit)
    gone = delete_from(WebhookDelivery).where(WebhookDelivery.id.in_(stale))
    return len(db.execute(gone.returning(WebhookDelivery.id)).all())


def _first_due(db: Session, webhook: AnyRow) -> DueDelivery | None:
    first = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.webhook_id == webhook.id, *_due())
        .order_by(WebhookDelivery.due_at, WebhookDelivery.id)
        .limit(1)
    )
    counted = (
        update(WebhookDelivery)
        .where(WebhookDelivery.id.in_(first))
        .values(attempts=WebhookDelivery.attempts + 1)
        .returning(
            WebhookDelivery.id,
            WebhookDelivery.event_type,
            WebhookDelivery.object_id,
            WebhookDelivery.created_at,
            WebhookDelivery.attempts,
        )
        .execution_options(synchronize_session=False)
    )
    row = db.execute(counted).first()
    if row is None:
        db.execute(update(Webhook).where(Webhook.id == webhook.id).values(quiet_until=None))
        return None
    return DueDelivery(
        id=row.id,
        webhook_id=webhook.id,
        claim=webhook.claim,
        url=webhook.url,
        secrets=_signing(webhook),
        event_type=row.event_type,
        object_id=row.object_id,
        created_at=row.created_at,
        attempt=row.attempts,
        failures=webhook.failures,
    )


def _stale(older_than_seconds: float) -> Select[str]:
    return select(WebhookDelivery.id).where(
        WebhookDelivery.created_at < database_now() - older_than_seconds,
        WebhookDelivery.webhook_id.not_in(select(Webhook.id).where(Webhook.disabled_at.is_(None))),
    )


def _due() -> list[ColumnElement[bool]]:
    return [WebhookDelivery.due_at <= database_now()]


def _signing(webhook: AnyRow) -> tuple[str, ...]:
    return (webhook.secret, webhook.old_secret) if webhook.old_signs else (webhook.secret,)


def _release(db: Session, delivery: DueDelivery, **values: object) -> bool:
    """Say what came of a claim; False if it is no longer ours."""
    ours = update(Webhook).where(Webhook.id == delivery.webhook_id, Webhook.claim == delivery.claim)
    released = ours.values(**values).returning(Webhook.id)
    return db.execute(released.execution_options(synchronize_session=False)).first() is not None
