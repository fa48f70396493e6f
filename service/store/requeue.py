"""Running jobs that go back to the queue, or end where they were to be cancelled or have killed their worker."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, case, false, or_
from sqlalchemy.orm import Session

from service.contract.lifecycle import JobState
from service.errors import ModelFailed
from service.store import lanes, response_news, results, wishes
from service.store.database import AnyRow, database_now
from service.store.fence import LEFT
from service.store.lanes import LaneId
from service.store.progress import NO_WORKER_SHARD
from service.store.results import Ending
from service.store.states import QUEUED, constant
from service.store.tables import Job

RETURNED = (
    *response_news.COLUMNS,
    Job.model,
    Job.state,
    Job.attempt,
    database_now().label("now"),
)

DEADLY = ModelFailed(
    "This request ended its worker's process each of three times that it ran alone.",
    code="worker_crashed",
    hint="Its media or its length is more than the model survives; it will not be tried again.",
)


def taken_back(dead: ColumnElement[bool] | None = None) -> dict[str, Any]:
    """The columns of a job that its worker no longer holds. dead: whether it is not to be tried again."""
    dead = false() if dead is None else dead
    return {
        "state": case(
            (Job.cancel_requested, constant(JobState.CANCELLED)),
            (dead, constant(JobState.DEAD)),
            else_=QUEUED,
        ),
        "finished_at": case((or_(Job.cancel_requested, dead), database_now())),
        **LEFT,
    }


def settle(db: Session, rows: Sequence[AnyRow]) -> frozenset[str]:
    """Count the jobs that ended, and open the lanes of those that wait again; returns the ended ones' batches."""
    over = [row for row in rows if row.state.is_terminal]
    for row in over:
        response_news.announce(db, row, row.state)
    wait_again(db, [row for row in rows if row.state is JobState.QUEUED])
    return results.record(db, [_ending(row) for row in over], NO_WORKER_SHARD)


def wait_again(db: Session, queued: Sequence[AnyRow]) -> frozenset[str]:
    """Hold the jobs, just queued, whose batch is paused, and open the lanes of the others; returns their models."""
    held = wishes.hold_paused(db, queued)
    wanted = {LaneId(row.tenant_id, row.model, row.job_class) for row in queued if row.id not in held}
    lanes.open_for(db, wanted)
    return frozenset(lane.model for lane in wanted)


def _ending(row: AnyRow) -> Ending:
    body = results.error_body(DEADLY) if row.state is JobState.DEAD else None
    return Ending(row.id, row.batch_id, row.state, None, row.attempt, row.now, body=body)
