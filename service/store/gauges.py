"""What a monitor wants to know: how many jobs wait or run, and how many workers are alive."""

from collections import Counter

from sqlalchemy import func, literal, select, true
from sqlalchemy.orm import Session

from service.contract.lifecycle import JobClass, JobState, WorkerRole
from service.store.database import database_now
from service.store.states import BACKOFF, HELD, QUEUED, RUNNING
from service.store.tables import Job, Worker

NONE = literal(0, literal_execute=True)
# Each is the predicate of a partial index, so that a count reads that index and not the table.
OPEN = (
    (QUEUED, Job.crashes == NONE),
    (QUEUED, Job.crashes > NONE),
    (RUNNING, true()),
    (BACKOFF, true()),
    (HELD, true()),
)


def open_jobs(db: Session) -> Counter[tuple[JobState, JobClass]]:
    """Jobs that have not ended, by state and class; its cost grows with the answer."""
    counts: Counter[tuple[JobState, JobClass]] = Counter()
    for state, condition in OPEN:
        count = select(state, Job.job_class, func.count()).where(Job.state == state, condition)
        for found, job_class, number in db.execute(count.group_by(Job.job_class)):
            counts[found, job_class] += number
    return counts


def live_workers(db: Session) -> dict[WorkerRole, int]:
    """Workers whose lease has not ended, by role."""
    alive = select(Worker.role, func.count()).where(~Worker.dead, Worker.lease_until > database_now())
    return {row[0]: row[1] for row in db.execute(alive.group_by(Worker.role))}
