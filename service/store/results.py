"""Results: one row for each job that succeeded, failed or died, in the order of commits within a shard."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import orjson
from sqlalchemy import case, exists, false, insert, select
from sqlalchemy.orm import Session

from service.contract.ended_jobs import EndedJob
from service.contract.jobs import Usage, WorkerId
from service.contract.lifecycle import WITH_RESULT, JobState
from service.errors import SluiceError
from service.store import progress
from service.store.database import AnyRow
from service.store.tables import Batch, Job, Result

NOTHING_USED = Usage()


@dataclass(frozen=True, slots=True)
class Ending:
    """How one job ended. body: the response of a succeeded job, the error of a failed or dead one, else None."""

    job_id: int
    batch_id: str | None
    state: JobState
    owner: WorkerId | None
    attempt: int
    finished_at: float
    body: Mapping[str, Any] | None = None
    provenance: Mapping[str, Any] | None = None
    usage: Usage = NOTHING_USED


def error_body(error: SluiceError) -> dict[str, Any]:
    """The error object that a failed or dead job keeps, with its HTTP status."""
    return error.as_dict() | {"status": error.status}


def record(db: Session, endings: Sequence[Ending], shard: int) -> frozenset[str]:
    """Count ended jobs in their batches' progress and write the results they have; returns the batches' ids.

    In the transaction that moved the jobs, and for those alone that it moved.
    """
    last_seqs = progress.advance(db, _tallies(endings), shard)
    with_result = [ending for ending in endings if ending.state in WITH_RESULT]
    num_left = Counter(ending.batch_id for ending in with_result)
    rows = []
    for ending in sorted(with_result, key=lambda ending: ending.job_id):
        num_left[ending.batch_id] -= 1
        last_seq = last_seqs[ending.batch_id] if ending.batch_id is not None else 0
        rows.append(_row(ending, shard, last_seq - num_left[ending.batch_id]))
    if rows:
        db.execute(insert(Result.__table__), rows)  # type: ignore[arg-type]
    return frozenset(last_seqs)


def export_page(
    db: Session, batch_id: str, after_job_id: int | None = None, limit: int = 1000
) -> list[EndedJob]:
    """The next ended jobs of a batch in the order of its lines, results or not."""
    page = (
        select(*ENDED_JOB)
        .outerjoin(Result, Result.job_id == Job.id)
        .where(Job.batch_id == batch_id, Job.state.in_(_ENDED))
        .order_by(Job.line_no)
        .limit(limit)
    )
    if after_job_id is not None:
        # By line, which has an index within the batch.
        page = page.where(Job.line_no > select(Job.line_no).where(Job.id == after_job_id).scalar_subquery())
    return [ended_job(row) for row in db.execute(page)]


_ENDED = [state for state in JobState if state.is_terminal]
# Of batches that have jobs, those alone have errors that were stopped; one job may have been cancelled before.
_STOPPED = exists().where(
    Batch.id == Job.batch_id, Batch.errors.is_not(None), Batch.cancelling_at <= Job.finished_at
)
ENDED_JOB = (
    Job.id,
    Job.line_no,
    Job.custom_id,
    Job.state,
    Job.model,
    Job.attempt,
    Job.finished_at,
    Result.body,
    Result.provenance,
    case((Job.state == JobState.CANCELLED, _STOPPED), else_=false()).label("is_over_budget"),
    *(getattr(Result, field.name) for field in fields(Usage)),
)


def ended_job(row: AnyRow) -> EndedJob:
    """A row of the columns `ENDED_JOB`; those of a result may be empty."""
    spent = {field.name: getattr(row, field.name) for field in fields(Usage)}
    return EndedJob(
        job_id=row.id,
        line_no=row.line_no,
        custom_id=row.custom_id,
        state=row.state,
        model=row.model,
        attempt=row.attempt,
        finished_at=row.finished_at,
        body=row.body,
        provenance=row.provenance,
        is_over_budget=row.is_over_budget,
        usage=Usage(**spent) if row.body is not None else NOTHING_USED,
    )


def _tallies(endings: Sequence[Ending]) -> dict[str, Counter[str]]:
    tallies: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for ending in endings:
        if ending.batch_id is None:
            continue
        tally = tallies[ending.batch_id]
        tally[ending.state.value] += 1
        tally["seq"] += ending.state in WITH_RESULT
        for name in progress.TOKENS:
            tally[name] += getattr(ending.usage, name)
    return tallies


def _row(ending: Ending, shard: int, seq: int) -> dict[str, Any]:
    usage = ending.usage
    return {
        "job_id": ending.job_id,
        "batch_id": ending.batch_id,
        "shard": shard,
        "seq": seq,
        "owner": ending.owner,
        "attempt": ending.attempt,
        "body": orjson.dumps(ending.body),
        "provenance": orjson.dumps(ending.provenance) if ending.provenance else None,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "text_tokens": usage.text_tokens,
        "image_tokens": usage.image_tokens,
        "video_tokens": usage.video_tokens,
        "audio_tokens": usage.audio_tokens,
        "cached_tokens": usage.cached_tokens,
        "prompt_seconds": usage.prompt_seconds,
        "completion_seconds": usage.completion_seconds,
        "finished_at": ending.finished_at,
    }
