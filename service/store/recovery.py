"""Recovery: work that lost workers, due times and missed bells left behind. Any process may run it at any time."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, case, func, select, update
from sqlalchemy.orm import Session

from service.contract.jobs import WorkerId
from service.contract.lifecycle import JobStage, JobState
from service.store import lanes, requeue
from service.store.batches import (
    batches_to_close,
    batches_to_export,
    close_if_done,
    unfinished_ingests,
)
from service.store.claims import SOLO_CRASHES
from service.store.database import database_now
from service.store.lanes import LaneId
from service.store.states import BACKOFF, QUEUED, RUNNING
from service.store.sweeps import apply_cancels, expire_due
from service.store.tables import Job, Lane, Worker

__all__ = [
    "Reaped",
    "apply_cancels",
    "batches_to_close",
    "batches_to_export",
    "close_if_done",
    "expire_due",
    "promote_aged",
    "reap_workers",
    "unfinished_ingests",
    "wake_due",
]

MAX_SOLO_CRASHES = 3
WAKE_CHUNK = 5000
AGED_SECONDS = 600.0
PROMOTED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Reaped:
    """What dead workers left. models: those with jobs to take up again; batches: those whose progress moved."""

    workers: tuple[WorkerId, ...] = ()
    requeued: int = 0
    cancelled: int = 0
    dead: int = 0
    models: frozenset[str] = frozenset()
    batches: frozenset[str] = frozenset()


def reap_workers(db: Session) -> Reaped:
    """Take back the jobs of workers whose lease has ended.

    A job that was being handled becomes a suspect, runs in smaller company, and is dead once it has crashed three
    times alone. A job that was merely claimed is never blamed, and neither is a crash in company counted.
    """
    lost = select(Worker.id).where(~Worker.dead, Worker.lease_until < database_now())
    workers = db.scalars(lost.order_by(Worker.id).with_for_update(skip_locked=True)).all()
    if not workers:
        return Reaped()
    cause = func.coalesce(Worker.exit_cause, "its lease ran out")
    db.execute(update(Worker).where(Worker.id.in_(workers)).values(dead=True, exit_cause=cause))
    return _take_back(db, workers)


def _take_back(db: Session, workers: Sequence[WorkerId]) -> Reaped:
    began = Job.stage == JobStage.STARTED
    deadly = and_(began, Job.solo, Job.crashes + 1 >= SOLO_CRASHES + MAX_SOLO_CRASHES)
    crashes = case(
        (and_(began, Job.solo), Job.crashes + 1),
        (and_(began, Job.crashes < SOLO_CRASHES), Job.crashes + 1),
        else_=Job.crashes,
    )
    taken = (
        update(Job)
        .where(Job.state == RUNNING, Job.owner.in_(workers))
        .values(**requeue.taken_back(deadly), crashes=crashes)
        .returning(*requeue.RETURNED)
        .execution_options(synchronize_session=False)
    )
    rows = db.execute(taken).all()
    batches = requeue.settle(db, rows)
    states = [row.state for row in rows]
    return Reaped(
        workers=tuple(workers),
        requeued=states.count(JobState.QUEUED),
        cancelled=states.count(JobState.CANCELLED),
        dead=states.count(JobState.DEAD),
        models=frozenset(row.model for row in rows if row.state is JobState.QUEUED),
        batches=batches,
    )


def wake_due(db: Session, limit: int = WAKE_CHUNK) -> frozenset[str]:
    """Queue the jobs whose backoff is over; returns their models, for the bell."""
    due = (
        select(Job.id)
        .where(Job.state == BACKOFF, Job.run_at <= database_now())
        .order_by(Job.run_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
        .prefix_with("MATERIALIZED")
    )
    woken = (
        update(Job)
        .where(Job.id.in_(select(due.c.id)))
        .values(state=JobState.QUEUED, run_at=None)
        .returning(Job.id, Job.batch_id, Job.tenant_id, Job.model, Job.job_class)
        .execution_options(synchronize_session=False)
    )
    models = requeue.wait_again(db, db.execute(woken).all())
    lanes.reopen_forgotten(db)
    return models


def promote_aged(db: Session) -> int:
    """Move jobs that others have overtaken for too long to their lane's first priority; returns how many."""
    active = select(Lane.tenant_id, Lane.model, Lane.job_class).where(Lane.active)
    return sum(_promote_in(db, LaneId(*row)) for row in db.execute(active).all())


def _promote_in(db: Session, lane: LaneId) -> int:
    first = db.scalar(select(func.min(Job.priority)).where(*lane.queued_jobs()))
    priority, promoted = first, 0
    while priority is not None:
        # One look-up for each priority that is in use, through the index of the queue.
        behind = select(func.min(Job.priority)).where(*lane.queued_jobs(), Job.priority > priority)
        priority = db.scalar(behind)
        if priority is not None:
            promoted += _promote_from(db, lane, priority, first)
    return promoted


def _promote_from(db: Session, lane: LaneId, priority: int, first: int | None) -> int:
    oldest = (
        select(Job.id, Job.created_at)
        .where(*lane.queued_jobs(), Job.priority == priority)
        .order_by(Job.id)
        .limit(PROMOTED_AT_ONCE)
        .with_for_update(skip_locked=True)
        .cte("oldest")
        .prefix_with("MATERIALIZED")
    )
    aged = select(oldest.c.id).where(oldest.c.created_at < database_now() - AGED_SECONDS)
    moved = (
        update(Job)
        .where(Job.id.in_(aged), Job.state == QUEUED)
        .values(priority=first)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    return len(db.execute(moved).all())
