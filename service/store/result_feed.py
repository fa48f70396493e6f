"""A running batch's results, for readers who come again and again: none is missed, none is told twice."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from service.contract.ended_jobs import EndedJob
from service.contract.lifecycle import BATCH_TERMINAL, JobState
from service.contract.result_cursors import ResultCursor
from service.store.database import AnyRow
from service.store.results import ENDED_JOB, ended_job
from service.store.tables import Batch, BatchProgress, Job, Result

WITHOUT_RESULT = (JobState.CANCELLED, JobState.EXPIRED)


@dataclass(frozen=True, slots=True)
class Frontier:
    """How far a reader can go now. is_complete: nothing will ever come after it."""

    cursor: ResultCursor
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Told:
    """One ended job, and the cursor that asks for what comes after it."""

    job: EndedJob
    cursor: ResultCursor


def frontier(db: Session, batch_id: str, start: ResultCursor, *, limit: int) -> Frontier:
    """Where the next `limit` lines after `start` end, as far as they have committed; reads no bodies.

    A shard's sequence has no gaps, so that counting is enough. Lines without a result come last: only when every job
    of the batch has ended is it known which they are.
    """
    shards, is_over = _shards(db, batch_id)
    seqs, left, num_behind = dict(start.seqs), limit, 0
    for _, shard, last_seq, _ in shards:
        num_new = max(0, last_seq - seqs.get(shard, 0))
        num_told = min(num_new, left)
        if num_told:
            seqs[shard] = seqs.get(shard, 0) + num_told
        left -= num_told
        num_behind += num_new - num_told
    reached = ResultCursor(seqs, start.last_line)
    if not is_over or num_behind:
        return Frontier(reached, is_complete=False)
    if not any(row.num_skipped for row in shards):
        return Frontier(reached, is_complete=True)
    return _among_skipped(db, batch_id, reached, left)


def read(
    db: Session, batch_id: str, start: ResultCursor, end: ResultCursor, *, limit: int = 200
) -> list[Told]:
    """Up to `limit` of the jobs between two cursors; nothing once `start` has come to `end`."""
    told: list[Told] = []
    here = start
    for shard, last_seq in sorted(end.seqs.items()):
        if len(told) < limit and here.seqs.get(shard, 0) < last_seq:
            for job, seq in _results(
                db, batch_id, shard, here.seqs.get(shard, 0), last_seq, limit - len(told)
            ):
                here = here.at(shard, seq)
                told.append(Told(job, here))
    if len(told) < limit and here.last_line < end.last_line:
        lines = _skipped(batch_id, here.last_line).where(Job.line_no <= end.last_line)
        for row in db.execute(lines.limit(limit - len(told))):
            job = ended_job(row)
            here = here.at_line(row.line_no)
            told.append(Told(job, here))
    return told


def _shards(db: Session, batch_id: str) -> tuple[list[AnyRow], bool]:
    """The shards in which anything has ended, and whether all jobs have.

    Of one statement, and so of one moment: a batch is not over before the last result that is seen with it.
    """
    over = Batch.closed_at.is_not(None) | Batch.state.in_(BATCH_TERMINAL)
    skipped = BatchProgress.cancelled + BatchProgress.expired
    rows = db.execute(
        select(over.label("is_over"), BatchProgress.shard, BatchProgress.seq, skipped.label("num_skipped"))
        .outerjoin(BatchProgress, BatchProgress.batch_id == Batch.id)
        .where(Batch.id == batch_id)
        .order_by(BatchProgress.shard)
    ).all()
    return [row for row in rows if row.shard is not None], any(row.is_over for row in rows)


def _among_skipped(db: Session, batch_id: str, reached: ResultCursor, left: int) -> Frontier:
    lines = _skipped(batch_id, reached.last_line).with_only_columns(Job.line_no, maintain_column_froms=True)
    found = [line for line in db.scalars(lines.limit(left + 1)) if line is not None]
    cursor = reached.at_line(max(found[:left])) if found[:left] else reached
    return Frontier(cursor, is_complete=len(found) <= left)


def _results(
    db: Session, batch_id: str, shard: int, after: int, last: int, limit: int
) -> Iterator[tuple[EndedJob, int]]:
    rows = db.execute(
        select(*ENDED_JOB, Result.seq)
        .join(Job, Job.id == Result.job_id)
        .where(Result.batch_id == batch_id, Result.shard == shard, Result.seq > after, Result.seq <= last)
        .order_by(Result.seq)
        .limit(limit)
    )
    for row in rows:
        yield ended_job(row), row.seq


def _skipped(batch_id: str, after_line: int) -> Select[*tuple[object, ...]]:
    return (
        select(*ENDED_JOB)
        .outerjoin(Result, Result.job_id == Job.id)
        .where(Job.batch_id == batch_id, Job.state.in_(WITHOUT_RESULT), Job.line_no > after_line)
        .order_by(Job.line_no)
    )
