"""Jobs on the wire: one request, in a batch or alone. Ours; OpenAI has no such object."""

import re
from typing import Any, Literal

from pydantic import BaseModel

from service.errors import NotFound

_JOB_ID = re.compile(r"job_([1-9][0-9]{0,17})")


class JobObject(BaseModel):
    """One request and, once it has ended, its reply or its error. created_at, finished_at: Unix seconds.

    response: the endpoint's response body. line: its line in the manifest. attempts: how often a worker took it.
    provenance: where the reply came from: model revision, quantization, kernels, device, the media as the model saw
    them, and seconds: queued, prepared, and of the device (its share of each step that drew for it).
    """

    id: str
    object: Literal["job"] = "job"
    status: str
    model: str
    batch_id: str | None = None
    custom_id: str | None = None
    line: int | None = None
    attempts: int = 0
    created_at: int | None = None
    finished_at: int | None = None
    response: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    provenance: dict[str, Any] | None = None


class JobList(BaseModel):
    """A page of jobs."""

    object: Literal["list"] = "list"
    data: list[JobObject]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


def wire_id(job_id: int) -> str:
    """`job_12` for 12."""
    return f"job_{job_id}"


def job_number(wire_id: str) -> int:
    """12 for `job_12`; NotFound for anything else."""
    match = _JOB_ID.fullmatch(wire_id)
    if match is None:
        raise NotFound("There is no job of this id.", param="job_id", code="job_not_found")
    return int(match[1])
