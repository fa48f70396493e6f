"""Requests that were answered beside the engine: once told, their answers are of no use to anybody."""

from sqlalchemy import delete
from sqlalchemy.orm import Session

from service.contract.endpoints import WITHOUT_ENGINE
from service.contract.lifecycle import TERMINAL
from service.store.tables import Job, JobPayload, Result


def forget(db: Session, job_id: int) -> str | None:
    """Delete such a job if it has ended; returns the blob of a long body, to be deleted after the commit."""
    ended = delete(Job).where(
        Job.id == job_id,
        Job.batch_id.is_(None),
        Job.endpoint.in_(WITHOUT_ENGINE),
        Job.state.in_(TERMINAL),
    )
    if db.execute(ended.returning(Job.id)).first() is None:
        return None
    db.execute(delete(Result).where(Result.job_id == job_id))
    gone = delete(JobPayload).where(JobPayload.job_id == job_id)
    return db.scalar(gone.returning(JobPayload.blob))
