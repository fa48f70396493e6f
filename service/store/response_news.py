"""News for a tenant's webhooks: a response that ran in the background has ended."""

from collections.abc import Mapping
from typing import Any, Protocol

from sqlalchemy.orm import Session

from service.contract.endpoints import RESPONSES
from service.contract.lifecycle import JobClass, JobState
from service.contract.response_objects import response_id
from service.store import deliveries
from service.store.tables import Job

EVENTS = {
    JobState.FAILED: "response.failed",
    JobState.DEAD: "response.failed",
    JobState.EXPIRED: "response.failed",
    JobState.CANCELLED: "response.cancelled",
}
# What a statement that ends jobs has to return of them.
COLUMNS = (Job.id, Job.batch_id, Job.tenant_id, Job.endpoint, Job.job_class)


class EndedJob(Protocol):
    """A job of any kind, or a row with these columns."""

    @property
    def id(self) -> int: ...
    @property
    def batch_id(self) -> str | None: ...
    @property
    def tenant_id(self) -> str: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def job_class(self) -> JobClass: ...


def announce(db: Session, job: EndedJob, state: JobState, body: Mapping[str, Any] | None = None) -> None:
    """Put the end of a job into the outbox, if it is a response that ran by itself. body: of one that succeeded.

    In the transaction that ends it.
    """
    if job.endpoint != RESPONSES or job.batch_id is not None or job.job_class is not JobClass.BULK:
        return
    event = EVENTS.get(state) or f"response.{(body or {}).get('status', 'completed')}"
    deliveries.announce(db, job.tenant_id, event, response_id(job.id))
