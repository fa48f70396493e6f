"""Responses: single jobs of one endpoint, with the requests that they were made from, for as long as they are kept."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.contract.endpoints import RESPONSES
from service.contract.jobs import PayloadRef
from service.store import jobs
from service.store.jobs import JobView
from service.store.tables import JobPayload, Result

NOTHING = b"null"


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """A response's job, and its request: JSON bytes, or None where `payload` says where they lie."""

    job: JobView
    body: bytes | None
    payload: PayloadRef | None


def find(db: Session, tenant_id: str, job_id: int) -> KeptResponse | None:
    """A tenant's response, unless it was deleted."""
    job = jobs.get(db, tenant_id, job_id)
    if job is None or job.endpoint != RESPONSES or job.batch_id is not None:
        return None
    columns = (JobPayload.body, JobPayload.blob, JobPayload.start, JobPayload.length)
    row = db.execute(select(*columns).where(JobPayload.job_id == job_id)).one()
    if row.blob is not None:
        return KeptResponse(job, None, PayloadRef(row.blob, row.start, row.length))
    return KeptResponse(job, row.body, None) if row.body is not None else None


def erase(db: Session, job_id: int) -> None:
    """Forget what a response was asked and what it answered. What it cost stays counted."""
    nothing: Mapping[str, None] = dict.fromkeys(("body", "blob", "start", "length"))
    db.execute(update(JobPayload).where(JobPayload.job_id == job_id).values(**nothing))
    db.execute(update(Result).where(Result.job_id == job_id).values(body=NOTHING, provenance=None))
