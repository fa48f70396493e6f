"""Look at jobs: one, a page of them, or one as soon as it has ended."""

import random
import time
from collections.abc import Collection

from service.actions.parts import Parts
from service.actions.wire import filled, job_object
from service.contract.callers import Caller
from service.contract.ids import is_batch_id
from service.contract.job_objects import JobList, JobObject, job_number
from service.contract.lifecycle import JobState
from service.errors import NotFound
from service.store import jobs

MAX_WAIT_SECONDS = 60.0
_FIRST_LOOK_SECONDS = 0.05
_SLOWEST_LOOK_SECONDS = 0.5


def get_job(parts: Parts, caller: Caller, wire_id: str, *, wait_seconds: float = 0.0) -> JobObject:
    """One job. Waits up to `wait_seconds` for it to end; holds no connection meanwhile."""
    job_id = job_number(wire_id)
    deadline = time.monotonic() + min(wait_seconds, MAX_WAIT_SECONDS)
    pause = _FIRST_LOOK_SECONDS
    while True:
        with parts.database.reading() as db:
            view = jobs.get(db, caller.tenant_id, job_id)
        if view is None:
            raise NotFound("There is no job of this id.", param="job_id", code="job_not_found")
        left = deadline - time.monotonic()
        if view.state.is_terminal or left <= 0:
            return job_object(view)
        time.sleep(min(left, pause * random.uniform(0.8, 1.2)))
        pause = min(pause * 1.5, _SLOWEST_LOOK_SECONDS)


def list_jobs(
    parts: Parts,
    caller: Caller,
    *,
    batch_id: str | None = None,
    custom_id: str | None = None,
    states: Collection[JobState] | None = None,
    after: str | None = None,
    limit: int = 100,
) -> JobList:
    """A page of a batch's jobs by line, of all jobs of one custom_id, or of those that belong to no batch."""
    # PostgreSQL cannot even be asked for a text with a NUL in it.
    if (batch_id is not None and not is_batch_id(batch_id)) or "\0" in (custom_id or ""):
        return JobList(data=[])
    with parts.database.reading() as db:
        views = jobs.page(
            db,
            caller.tenant_id,
            batch_id=batch_id,
            custom_id=custom_id,
            states=states,
            after=None if after is None else job_number(after),
            limit=limit + 1,
        )
    page = JobList(data=[job_object(view) for view in views[:limit]])
    return filled(page, has_more=len(views) > limit)
