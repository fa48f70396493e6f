"""Token budgets: a batch stops once its results have used up what it may spend."""

from collections.abc import Collection

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from service.store.batches import TAKES_LINES, stopping
from service.store.tables import Batch, BatchProgress

REACHED = {
    "code": "token_budget_reached",
    "message": "The batch was stopped: its results have used up its token budget.",
    "param": "token_budget",
}
_USED = (
    select(func.coalesce(func.sum(BatchProgress.prompt_tokens + BatchProgress.completion_tokens), 0))
    .where(BatchProgress.batch_id == Batch.id)
    .correlate(Batch)
    .scalar_subquery()
)
_SPENT = (Batch.token_budget.is_not(None), Batch.state.in_(TAKES_LINES), Batch.token_budget <= _USED)
# Made once: this is asked of every batch after every flush of results, nearly always in vain.
_STOP_SPENT = (
    update(Batch)
    .where(Batch.id.in_(bindparam("batch_ids", expanding=True)), *_SPENT)
    .values(errors=[REACHED], **stopping())
    .returning(Batch.id)
    .execution_options(synchronize_session=False)
)


def stop_spent(db: Session, batch_ids: Collection[str]) -> list[str]:
    """Stop those of these batches that have used up their budget, as a cancel would; returns them."""
    return sorted(db.scalars(_STOP_SPENT, {"batch_ids": list(batch_ids)}))


def spent_batches(db: Session) -> list[str]:
    """Open batches that have used up their budget without anybody having stopped them."""
    return list(db.scalars(select(Batch.id).where(*_SPENT).order_by(Batch.id)))
