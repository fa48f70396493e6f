"""Delete what nobody can see any more: expired files, old Idempotency-Keys, stale webhooks, workers that have gone."""

from service.actions.parts import Parts
from service.store import deliveries, files, idempotency, workers

# Of one round, so that it stays short; the rest is the next round's.
FILES = 50
ROWS = 500
# A worker that crashes and starts again leaves a row each time.
WORKER_SECONDS = 7 * 24 * 3600.0


def forget_expired(parts: Parts) -> None:
    """One bounded round. A file's row goes first and its bytes then: nobody is ever shown a row without its bytes."""
    settings = parts.settings
    with parts.database.reading() as db:
        if not (
            files.any_expired(db)
            or idempotency.any_old(db, settings.idempotency_seconds)
            or deliveries.any_stale(db, settings.webhook_give_up_seconds)
            or workers.any_gone(db, WORKER_SECONDS + settings.model_grace_seconds)
        ):
            return
    with parts.database.transaction() as db:
        blobs = files.forget_expired(db, FILES)
        idempotency.forget_old(db, settings.idempotency_seconds, ROWS)
        deliveries.forget_stale(db, settings.webhook_give_up_seconds, ROWS)
        workers.forget_gone(db, WORKER_SECONDS + settings.model_grace_seconds, ROWS)
    for blob in blobs:
        parts.blobs.delete(blob)
