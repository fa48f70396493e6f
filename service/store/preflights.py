"""Preflights: batches whose lines are counted, and of which a few are measured. No list of batches shows them."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_row
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.contract.lifecycle import BATCH_TERMINAL, WITH_RESULT, JobState
from service.store.batches import TAKES_LINES
from service.store.database import database_now
from service.store.tables import Batch, BatchProgress, Job, JobPayload, Preflight, Result


@dataclass(frozen=True, slots=True)
class MeasuredJob:
    """One line of the sample that has ended. body: what was measured, or the error that it would fail with."""

    line_no: int
    custom_id: str | None
    model: str
    state: JobState
    body: dict[str, Any]


def new_id() -> str:
    """A fresh preflight id."""
    return f"preflight_{secrets.token_hex(12)}"


def insert(db: Session, batch_id: str, sample: int) -> None:
    """Make a batch a preflight, in the transaction that makes the batch. sample: how many lines to measure."""
    db.execute(insert_row(Preflight).values(batch_id=batch_id, sample=sample))


def find(db: Session, batch_id: str) -> Preflight | None:
    """What is wanted of a preflight, and what its scan has found."""
    return db.scalar(select(Preflight).where(Preflight.batch_id == batch_id))


def keep_scan(db: Session, batch_id: str, scan: dict[str, Any]) -> None:
    """Keep what the scan found, in the transaction that ends it."""
    db.execute(update(Preflight).where(Preflight.batch_id == batch_id).values(scan=scan))


def goes_on(db: Session, batch_id: str) -> bool:
    """Say that the scan is under way, so that nobody else begins one; False if it is not wanted any more."""
    moved = (
        update(Batch)
        .where(Batch.id == batch_id, Batch.state.in_(TAKES_LINES), Batch.ingested_at.is_(None))
        .values(ingest_moved_at=database_now())
        .returning(Batch.id)
    )
    return db.execute(moved.execution_options(synchronize_session=False)).first() is not None


def measured(db: Session, batch_id: str) -> list[MeasuredJob]:
    """The lines of the sample that have ended with a result, by line."""
    rows = db.execute(
        select(Job.line_no, Job.custom_id, Job.model, Job.state, Result.body)
        .join(Result, Result.job_id == Job.id)
        .where(Job.batch_id == batch_id, Job.state.in_(WITH_RESULT))
        .order_by(Job.line_no)
    )
    return [
        MeasuredJob(row.line_no, row.custom_id, row.model, row.state, orjson.loads(row.body)) for row in rows
    ]


def delete(db: Session, tenant_id: str, batch_id: str) -> bool:
    """Forget a tenant's preflight that has ended, with its lines; False if there is none, or if it has not."""
    gone = delete_from(Batch).where(
        Batch.id == batch_id, Batch.tenant_id == tenant_id, Batch.state.in_(BATCH_TERMINAL)
    )
    if db.execute(gone.returning(Batch.id)).first() is None:
        return False
    jobs = select(Job.id).where(Job.batch_id == batch_id)
    tables: Sequence[Any] = (
        delete_from(JobPayload).where(JobPayload.job_id.in_(jobs)),
        delete_from(Result).where(Result.job_id.in_(jobs)),
        delete_from(Job).where(Job.batch_id == batch_id),
        delete_from(BatchProgress).where(BatchProgress.batch_id == batch_id),
        delete_from(Preflight).where(Preflight.batch_id == batch_id),
    )
    for statement in tables:
        db.execute(statement.execution_options(synchronize_session=False))
    return True
