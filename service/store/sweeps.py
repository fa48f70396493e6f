"""Sweeps: jobs that are no longer wanted end in chunks, so that no transaction is long."""

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from service.contract.lifecycle import WAITING, BatchState, JobState
from service.store import progress, response_news
from service.store.batches import TAKES_LINES
from service.store.database import database_now
from service.store.progress import NO_WORKER_SHARD
from service.store.tables import ONE_OF_A_KIND, Batch, Job

SWEEP_CHUNK = 5000


@dataclass(frozen=True, slots=True)
class Swept:
    """How many jobs ended, and the batches that may be done now. Call again until `jobs` is 0 to finish at once."""

    jobs: int
    batches: frozenset[str]


def apply_cancels(db: Session, limit: int = SWEEP_CHUNK) -> Swept:
    """Cancel up to `limit` waiting jobs of each batch that is being cancelled, and ask for the running ones' end."""
    return _sweep_batches(db, [Batch.state == BatchState.CANCELLING], JobState.CANCELLED, limit)


def expire_due(db: Session, limit: int = SWEEP_CHUNK) -> Swept:
    """Expire waiting jobs whose time is over, of batches and single ones; what runs may still finish."""
    overdue = [Batch.state.in_(TAKES_LINES), Batch.expires_at < database_now()]
    swept = _sweep_batches(db, overdue, JobState.EXPIRED, limit)
    return Swept(swept.jobs + _expire_single(db, limit), swept.batches)


def end_of_chunk(db: Session, batch_id: str, after_line: int, limit: int) -> int | None:
    """The last of a batch's next `limit` lines; None if there are none."""
    lines = select(Job.line_no).where(Job.batch_id == batch_id, Job.line_no > after_line)
    chunk = lines.order_by(Job.line_no).limit(limit).subquery()
    last_line: int | None = db.scalar(select(func.max(chunk.c.line_no)))
    return last_line


def _sweep_batches(db: Session, which: list[ColumnElement[bool]], state: JobState, limit: int) -> Swept:
    batches = select(Batch.id, Batch.sweep_line).where(*which, Batch.closed_at.is_(None))
    locked = batches.order_by(Batch.id).with_for_update(skip_locked=True)
    swept = {row.id: _sweep(db, row.id, row.sweep_line, state, limit) for row in db.execute(locked).all()}
    return Swept(sum(swept.values()), frozenset(swept))


def _sweep(db: Session, batch_id: str, after_line: int, state: JobState, limit: int) -> int:
    last_line = end_of_chunk(db, batch_id, after_line, limit)
    if last_line is None:
        # From the start again, until it is closed: a lost worker's jobs may have come back behind us.
        _move_sweep(db, batch_id, 0)
        return 0
    within = [Job.batch_id == batch_id, Job.line_no.between(after_line + 1, last_line)]
    num_ended = _end_waiting(db, within, batch_id, state)
    if state is JobState.CANCELLED:
        _ask_running_to_stop(db, within)
    _move_sweep(db, batch_id, last_line)
    return num_ended


def _end_waiting(db: Session, within: list[ColumnElement[bool]], batch_id: str, state: JobState) -> int:
    waiting = select(Job.id).where(*within, Job.state.in_(WAITING)).with_for_update(skip_locked=True)
    found = waiting.cte("waiting").prefix_with("MATERIALIZED")
    ended = (
        update(Job)
        .where(Job.id.in_(select(found.c.id)))
        .values(state=state, finished_at=database_now())
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    num_ended = len(db.execute(ended).all())
    if num_ended:
        progress.advance(db, {batch_id: Counter({state.value: num_ended})}, NO_WORKER_SHARD)
    return num_ended


def _ask_running_to_stop(db: Session, within: list[ColumnElement[bool]]) -> None:
    running = select(Job.id).where(*within, Job.state == JobState.RUNNING).with_for_update(skip_locked=True)
    found = running.cte("running").prefix_with("MATERIALIZED")
    asked = update(Job).where(Job.id.in_(select(found.c.id))).values(cancel_requested=True)
    db.execute(asked.execution_options(synchronize_session=False))


def _move_sweep(db: Session, batch_id: str, line_no: int) -> None:
    now = func.coalesce(Batch.ingested_at, database_now())
    db.execute(update(Batch).where(Batch.id == batch_id).values(sweep_line=line_no, ingested_at=now))


def _expire_single(db: Session, limit: int) -> int:
    due = (
        select(Job.id)
        .where(ONE_OF_A_KIND, Job.expires_at < database_now())
        .order_by(Job.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
        .prefix_with("MATERIALIZED")
    )
    expired = (
        update(Job)
        .where(Job.id.in_(select(due.c.id)))
        .values(state=JobState.EXPIRED, finished_at=database_now())
        .returning(*response_news.COLUMNS)
        .execution_options(synchronize_session=False)
    )
    rows = db.execute(expired).all()
    for row in rows:
        response_news.announce(db, row, JobState.EXPIRED)
    return len(rows)
