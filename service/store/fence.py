"""The fence: what must hold of a running job before its worker may write about it."""

from typing import Any

from sqlalchemy import ColumnElement

from service.contract.jobs import WorkerId
from service.store.states import RUNNING
from service.store.tables import Job

# What a job that leaves `running` no longer has.
LEFT: dict[str, Any] = {"owner": None, "stage": None, "solo": False}


def held_by(owner: WorkerId, attempt: int) -> list[ColumnElement[bool]]:
    """True of a job only for the worker that holds it, in the attempt that it holds."""
    return [Job.state == RUNNING, Job.owner == owner, Job.attempt == attempt]
