"""Wishes: what an open batch wants of its waiting jobs, told to them in chunks, so that no transaction is long.

A paused batch wants them held, where no claim looks; every batch wants them at its own priority. Jobs that come
later (new lines, those of a lost worker, those whose backoff is over) are told at the door, by the same words.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, text, update
from sqlalchemy.orm import Session

from service.contract.lifecycle import BatchState, JobClass, JobState
from service.store import lanes
from service.store.batches import TAKES_LINES
from service.store.database import AnyRow, database_now
from service.store.fence import LEFT
from service.store.lanes import LaneId
from service.store.states import HELD, QUEUED, RUNNING
from service.store.sweeps import SWEEP_CHUNK, end_of_chunk
from service.store.tables import Batch, Job

# How long to wait for somebody who reads lines into the batch right now.
LOCK_TIMEOUT = "500ms"
OPEN = Batch.state.in_(TAKES_LINES)
TOLD = (JobState.QUEUED, JobState.BACKOFF, JobState.HELD, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class Wish:
    """How a batch wants its waiting jobs."""

    is_paused: bool
    priority: int


@dataclass(frozen=True, slots=True)
class Spread:
    """How far a wish has come: whether more lines can be told now, and the models whose queues have grown."""

    goes_on: bool
    models: frozenset[str] = frozenset()


def pause(db: Session, tenant_id: str, batch_id: str) -> bool:
    """Ask for a batch's waiting jobs to be held; False if it is paused already, or not open."""
    return _wish(db, tenant_id, batch_id, Batch.paused_at.is_(None), paused_at=database_now())


def resume(db: Session, tenant_id: str, batch_id: str) -> bool:
    """Ask for a batch's held jobs to be queued again; False if it is not paused, or not open."""
    return _wish(db, tenant_id, batch_id, Batch.paused_at.is_not(None), paused_at=None)


def set_priority(db: Session, tenant_id: str, batch_id: str, priority: int) -> bool:
    """Ask for another priority of the jobs that have not ended; False if the batch has it already, or is not open."""
    return _wish(db, tenant_id, batch_id, Batch.priority != priority, priority=priority)


def of(db: Session, batch_id: str) -> Wish:
    """What a batch wants now. Asked in the transaction that has moved its ingest, which nobody can overtake."""
    row = db.execute(select(Batch.paused_at, Batch.priority).where(Batch.id == batch_id)).one()
    return Wish(row.paused_at is not None, row.priority)


def hold_paused(db: Session, queued: Sequence[AnyRow]) -> frozenset[int]:
    """Hold those of these jobs, which we have just queued, whose batch is paused; returns their ids.

    No lock is waited for: a pause at this very moment may miss a job, which then runs as if it had been running.
    """
    batch_ids = {row.batch_id for row in queued if row.batch_id is not None}
    if not batch_ids:
        return frozenset()
    paused = set(db.scalars(select(Batch.id).where(Batch.id.in_(batch_ids), Batch.paused_at.is_not(None))))
    job_ids = frozenset(row.id for row in queued if row.batch_id in paused)
    if job_ids:
        held = update(Job).where(Job.id.in_(job_ids), Job.state == QUEUED).values(state=JobState.HELD)
        db.execute(held.execution_options(synchronize_session=False))
    return job_ids


def keep_wanted(db: Session, claimed: Sequence[AnyRow]) -> Sequence[AnyRow]:
    """Those of these jobs, just claimed, that are to run; the others' batches are paused or being stopped.

    It takes a while to tell a million jobs, and none of them is to begin meanwhile. The sweeps find them held.
    """
    batch_ids = {row.batch_id for row in claimed if row.batch_id is not None}
    if not batch_ids:
        return claimed
    resting = or_(Batch.paused_at.is_not(None), Batch.state == BatchState.CANCELLING)
    unwanted = set(db.scalars(select(Batch.id).where(Batch.id.in_(batch_ids), resting)))
    if not unwanted:
        return claimed
    job_ids = [row.id for row in claimed if row.batch_id in unwanted]
    held = update(Job).where(Job.id.in_(job_ids), Job.state == RUNNING)
    held = held.values(state=JobState.HELD, attempt=Job.attempt - 1, **LEFT)
    db.execute(held.execution_options(synchronize_session=False))
    return [row for row in claimed if row.batch_id not in unwanted]


def wishing_batches(db: Session) -> Sequence[str]:
    """Open batches with jobs that have not been told."""
    wishing = select(Batch.id).where(Batch.wish_line.is_not(None), OPEN).order_by(Batch.id)
    return db.scalars(wishing).all()


def spread(db: Session, batch_id: str, limit: int = SWEEP_CHUNK) -> Spread:
    """Tell a batch's wish to the jobs of its next `limit` lines. Unavailable if somebody holds the batch for long."""
    if db.get_bind().dialect.name == "postgresql":
        # Whoever holds the row may have been stopped in the middle: our own lease must not run out meanwhile.
        db.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    wish = _locked_wish(db, batch_id)
    if wish is None:
        return Spread(goes_on=False)
    last_line = end_of_chunk(db, batch_id, wish.wish_line, limit)
    if last_line is None:
        _move(db, [batch_id], None)
        return Spread(goes_on=False)
    within = [Job.batch_id == batch_id, Job.line_no.between(wish.wish_line + 1, last_line)]
    unlike, wanted = (QUEUED, JobState.HELD) if wish.paused_at is not None else (HELD, JobState.QUEUED)
    changed = _set(db, [*within, Job.state == unlike], state=wanted)
    _set(db, [*within, Job.state.in_(TOLD), Job.priority != wish.priority], priority=wish.priority)
    queued = changed if wanted is JobState.QUEUED else frozenset()
    lanes.open_for(db, {LaneId(wish.tenant_id, model, JobClass.BULK) for model in queued})
    # Somebody may have had a job locked: a claim that has not been committed, say, and perhaps never will be.
    missed = db.scalar(select(func.min(Job.line_no)).where(*within, Job.state == unlike))
    told_line = last_line if missed is None else missed - 1
    _move(db, [batch_id], told_line)
    return Spread(told_line > wish.wish_line, queued)


def renew_forgotten(db: Session) -> int:
    """Find batches that are not paused and have held jobs all the same; returns how many. A net, not a path.

    A lost worker's job may have been held in a transaction that ended after its batch had been resumed.
    """
    held = exists().where(Job.state == HELD, Job.batch_id == Batch.id)
    forgotten = and_(OPEN, Batch.paused_at.is_(None), Batch.wish_line.is_(None), held)
    found = db.scalars(select(Batch.id).where(forgotten)).all()
    if found:
        _move(db, found, 0)
    return len(found)


def _wish(db: Session, tenant_id: str, batch_id: str, condition: ColumnElement[bool], **wish: Any) -> bool:
    wished = (
        update(Batch)
        .where(Batch.id == batch_id, Batch.tenant_id == tenant_id, OPEN, condition)
        .values(wish_line=0, **wish)
        .returning(Batch.id)
    )
    return db.execute(wished.execution_options(synchronize_session=False)).first() is not None


def _locked_wish(db: Session, batch_id: str) -> AnyRow | None:
    columns = (Batch.tenant_id, Batch.wish_line, Batch.paused_at, Batch.priority)
    wish = select(*columns).where(Batch.id == batch_id, Batch.wish_line.is_not(None), OPEN)
    return db.execute(wish.with_for_update()).first()


def _set(db: Session, which: list[ColumnElement[bool]], **values: Any) -> frozenset[str]:
    """Change these jobs but for those that somebody has locked; returns the models of those that were changed."""
    found = select(Job.id).where(*which).with_for_update(skip_locked=True).cte("found")
    changed = (
        update(Job)
        .where(Job.id.in_(select(found.prefix_with("MATERIALIZED").c.id)))
        .values(**values)
        .returning(Job.model)
        .execution_options(synchronize_session=False)
    )
    return frozenset(db.scalars(changed))


def _move(db: Session, batch_ids: Collection[str], wish_line: int | None) -> None:
    moved = update(Batch).where(Batch.id.in_(batch_ids)).values(wish_line=wish_line)
    db.execute(moved.execution_options(synchronize_session=False))
