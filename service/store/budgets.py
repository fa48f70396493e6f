"""Token budgets: a batch stops once its results have used up what it may spend."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from service.store.batches import TAKES_LINES, stopping
from service.store.tables import Batch, BatchProgress

REACHED = "token_budget_reached"
WHY = {
    "code": REACHED,
    "message": "The batch was stopped: its results have used up its token budget.",
    "param": "token_budget",
}


def stop_spent(db: Session, batch_ids: Collection[str]) -> list[str]:
    """Stop those of these batches that have used up their budget, as a cancel would; returns them."""
    stopped = (
        update(Batch)
        .where(Batch.id.in_(batch_ids), *_spent())
        .values(errors=[WHY], **stopping())
        .returning(Batch.id)
        .execution_options(synchronize_session=False)
    )
    return sorted(db.scalars(stopped))


def spent_batches(db: Session) -> list[str]:
    """Open batches that have used up their budget without anybody having stopped them."""
    return list(db.scalars(select(Batch.id).where(*_spent()).order_by(Batch.id)))


def _spent() -> list[ColumnElement[bool]]:
    tokens = func.coalesce(func.sum(BatchProgress.prompt_tokens + BatchProgress.completion_tokens), 0)
    used = select(tokens).where(BatchProgress.batch_id == Batch.id)
    return [
        Batch.state.in_(TAKES_LINES),
        Batch.token_budget.is_not(None),
        Batch.token_budget <= used.correlate(Batch).scalar_subquery(),
    ]
