"""The outbox of webhooks: what is written when, who may take it, and what a failure costs."""

import pytest
from scenes import add_batch, claim, come_due, finish, join, new_batch, refused, succeed
from sqlalchemy import select, update

from service.store import batches, deliveries, recovery, tenants, webhooks
from service.store.database import Database
from service.store.deliveries import DueDelivery, Patience
from service.store.tables import Batch, Webhook, WebhookDelivery

PATIENCE = Patience(first_seconds=60, total_seconds=3600)
ENDS = ["batch.cancelled", "batch.completed", "batch.expired", "batch.failed"]


def make(database: Database, *event_types: str, tenant: str = "default") -> str:
    with database.transaction() as db:
        return webhooks.insert_webhook(
            db,
            tenant,
            webhook_id=webhooks.new_id(),
            name="mine",
            url="https://hooks.example.com/",
            event_types=event_types or ENDS,
        ).id


def complete(database: Database, batch_id: str) -> bool:
    with database.transaction() as db:
        batches.close_if_done(db, batch_id)
        return batches.complete(db, batch_id)


def end(database: Database) -> str:
    """A batch that has ended with all its lines answered."""
    batch_id, worker = add_batch(database, lines=2), join(database)
    succeed(database, claim(database, worker), worker)
    assert complete(database, batch_id)
    return batch_id


def outbox(database: Database) -> list[tuple[str, str]]:
    with database.reading() as db:
        rows = db.execute(select(WebhookDelivery.event_type, WebhookDelivery.object_id))
        return [(row.event_type, row.object_id) for row in rows]


def take(database: Database, limit: int = 10, lease_seconds: float = 60) -> list[DueDelivery]:
    with database.transaction() as db:
        return deliveries.claim(db, limit=limit, lease_seconds=lease_seconds)


def fail(database: Database, delivery: DueDelivery, patience: Patience = PATIENCE) -> None:
    with database.transaction() as db:
        deliveries.failed(db, delivery, "The receiver answered 500.", patience)


def elapse(database: Database) -> None:
    """Every wait is over."""
    with database.transaction() as db:
        db.execute(update(Webhook).values(quiet_until=0))
        db.execute(update(WebhookDelivery).values(due_at=0))


def hook(database: Database, webhook_id: str) -> Webhook:
    with database.reading() as db:
        return db.get_one(Webhook, webhook_id)


def test_a_batch_that_ends_is_announced_once_whoever_ends_it(database: Database) -> None:
    make(database)
    batch_id = end(database)

    assert not complete(database, batch_id)
    assert outbox(database) == [("batch.completed", batch_id)]


def test_every_way_to_end_has_its_event(database: Database) -> None:
    make(database)
    empty, cancelled, expired = (
        new_batch(database),
        add_batch(database, lines=1),
        add_batch(database, lines=1),
    )
    with database.transaction() as db:
        assert batches.fail(db, empty, [{"code": "empty_manifest", "message": "The manifest has no lines."}])
        assert batches.request_cancel(db, "default", cancelled)
        db.execute(update(Batch).where(Batch.id == expired).values(expires_at=1))
        recovery.apply_cancels(db)
        recovery.expire_due(db)
    assert complete(database, cancelled)
    assert complete(database, expired)

    assert sorted(outbox(database)) == [
        ("batch.cancelled", cancelled),
        ("batch.expired", expired),
        ("batch.failed", empty),
    ]


def test_a_batch_whose_lines_all_failed_has_completed(database: Database) -> None:
    make(database)
    batch_id, worker = add_batch(database, lines=1), join(database)
    finish(database, [refused(job) for job in claim(database, worker)], worker)
    come_due(database)
    assert complete(database, batch_id)

    assert outbox(database) == [("batch.completed", batch_id)]


def test_an_end_that_is_rolled_back_is_not_announced(database: Database) -> None:
    make(database)
    batch_id, worker = add_batch(database, lines=1), join(database)
    succeed(database, claim(database, worker), worker)
    with pytest.raises(RuntimeError), database.transaction() as db:  # noqa: PT012
        batches.close_if_done(db, batch_id)
        assert batches.complete(db, batch_id)
        raise RuntimeError("killed before the commit")

    assert outbox(database) == []


def test_only_those_hear_who_asked_and_whose_batch_it_is(database: Database) -> None:
    with database.transaction() as db:
        tenants.ensure(db, "dogs")
    make(database, "batch.failed")
    make(database, tenant="dogs")
    end(database)

    assert outbox(database) == []


def test_a_webhook_is_taken_by_one_and_hears_one_thing_at_a_time(database: Database) -> None:
    make(database)
    first, second = end(database), end(database)

    (taken,) = take(database)
    assert (taken.object_id, taken.attempt) == (first, 1)
    assert take(database) == []
    with database.transaction() as db:
        deliveries.delivered(db, taken)
    (taken,) = take(database)
    assert taken.object_id == second


def test_a_delivery_whose_sender_died_is_taken_again(database: Database) -> None:
    make(database)
    end(database)
    (lost,) = take(database, lease_seconds=-1)

    (again,) = take(database)
    assert (again.id, again.attempt) == (lost.id, 2)
    fail(database, lost)
    assert hook(database, again.webhook_id).failures == 0  # the lost sender's word counts no more


def test_what_a_sender_delivered_late_is_not_sent_again(database: Database) -> None:
    make(database)
    end(database)
    (late,) = take(database, lease_seconds=-1)
    take(database, lease_seconds=-1)
    with database.transaction() as db:
        deliveries.delivered(db, late)

    assert take(database) == []
    assert outbox(database) == []


def test_a_receiver_that_fails_is_left_alone_whatever_waits_for_it(database: Database) -> None:
    webhook_id = make(database)
    end(database), end(database)
    (taken,) = take(database)
    fail(database, taken)

    assert take(database) == []
    assert hook(database, webhook_id).last_error == "The receiver answered 500."
    elapse(database)
    (taken,) = take(database)
    fail(database, taken)
    assert hook(database, webhook_id).failures == 2


def test_a_failing_receiver_does_not_stand_before_another(database: Database) -> None:
    make(database)
    other = make(database)
    end(database)
    for _ in range(3):
        elapse(database)
        for taken in take(database, limit=10):
            if taken.webhook_id == other:
                with database.transaction() as db:
                    deliveries.delivered(db, taken)
            else:
                fail(database, taken)

    assert hook(database, other).delivered_at is not None
    assert len(outbox(database)) == 1


def test_waits_double_and_an_old_event_is_given_up(database: Database) -> None:
    assert [Patience(5, 86400).wait_seconds(n) for n in (1, 2, 3, 4, 30)] == [5, 10, 20, 40, 14400]
    make(database)
    end(database)
    attempts = 0
    while outbox(database):
        elapse(database)
        (taken,) = take(database)
        attempts += 1
        fail(database, taken)
    assert attempts == 7  # 60 s, 120 s … 3840 s: the next wait would go beyond the hour


def test_a_receiver_that_is_gone_hears_nothing_more_until_it_is_changed(database: Database) -> None:
    webhook_id = make(database)
    end(database), end(database)
    (taken,) = take(database)
    with database.transaction() as db:
        deliveries.disable(db, taken, "The receiver answered 410.")
    end(database)
    assert outbox(database) == []
    with database.transaction() as db:
        assert webhooks.change(db, "default", webhook_id, {"name": "again"})
    end(database)
    assert len(take(database)) == 1


def test_what_a_deleted_webhook_would_have_heard_is_forgotten(database: Database) -> None:
    webhook_id = make(database)
    end(database)
    with database.transaction() as db:
        assert webhooks.delete(db, "default", webhook_id)
        db.add(
            WebhookDelivery(
                id="evt_1",
                webhook_id=webhook_id,
                event_type="batch.failed",
                object_id="b",
                created_at=1,
                due_at=1,
            )
        )
    assert take(database) == []
    with database.transaction() as db:
        assert deliveries.forget_stale(db, 3600, limit=10) == 1
    assert outbox(database) == []


def test_both_secrets_sign_while_the_old_one_is_kept(database: Database) -> None:
    webhook_id = make(database)
    old = hook(database, webhook_id).secret
    end(database)
    with database.transaction() as db:
        fresh = webhooks.rotate_secret(db, "default", webhook_id, keep_old=True)
    assert fresh is not None
    (taken,) = take(database, lease_seconds=-1)
    assert taken.secrets == (fresh.secret, old)
    with database.transaction() as db:
        db.execute(update(Webhook).values(old_secret_until=1))
    (taken,) = take(database)
    assert taken.secrets == (fresh.secret,)
