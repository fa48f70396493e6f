"""Look at responses: whole ones, as far as they have come, and what they were asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import orjson

from service.actions.parts import Parts
from service.contract.callers import Caller
from service.contract.lifecycle import JobState
from service.contract.response_bodies import response_body
from service.contract.response_failures import failure, failure_of
from service.contract.response_inputs import input_objects
from service.contract.response_objects import (
    InputItemList,
    ResponseStatus,
    response_number,
    unknown_response,
)
from service.contract.responses import KeptRequest, kept_request
from service.errors import BadRequest, SluiceError
from service.store import responses
from service.store.jobs import JobView

UNFINISHED: dict[JobState, ResponseStatus] = {
    JobState.QUEUED: "queued",
    JobState.BACKOFF: "queued",
    JobState.RUNNING: "in_progress",
    JobState.CANCELLED: "cancelled",
}


@dataclass(frozen=True)
class FoundResponse:
    """A response's job, and what it was asked. asked: JSON that was a `KeptRequest` when it was accepted."""

    job: JobView
    asked: Mapping[str, Any]

    @cached_property
    def request(self) -> KeptRequest:
        """What it was asked, read once more: an answer that is there can be shown without."""
        return kept_request(self.asked)

    @property
    def is_stored(self) -> bool:
        """Whether it can be read again, and continued by another."""
        return self.asked.get("store") is not False

    @property
    def runs_by_itself(self) -> bool:
        """Whether it was made to run in the background."""
        return bool(self.asked.get("background"))

    @property
    def body(self) -> dict[str, Any]:
        """The response as it stands."""
        job = self.job
        if job.state is JobState.SUCCEEDED:
            return self.as_answered(job.result or {})
        if job.state in UNFINISHED:
            return self.as_body(UNFINISHED[job.state])
        return self.as_body("failed", error=failure(job.state, job.result))

    def as_begun(self) -> dict[str, Any]:
        """The response as it was made."""
        return self.as_body("queued" if self.runs_by_itself else "in_progress")

    def as_answered(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        """The response with its job's reply, which does not know when it was asked for."""
        return {**reply, "created_at": int(self.job.created_at)}

    def as_ended_by(self, error: SluiceError) -> dict[str, Any]:
        """The response as it ends for a listener who hears this error."""
        if error.code == "cancelled":
            return self.as_body("cancelled")
        return self.as_body("failed", error=failure_of(error))

    def as_body(self, status: ResponseStatus, **rest: Any) -> dict[str, Any]:
        """The response with another status, and without an output."""
        job = self.job
        created = int(job.created_at)
        return response_body(
            self.request, job_id=job.id, created=created, model=job.model, status=status, **rest
        )


def find_response(parts: Parts, caller: Caller, response_id: str) -> FoundResponse:
    """A response that is kept; NotFound for all others."""
    number = response_number(response_id)
    with parts.database.reading() as db:
        kept = responses.find(db, caller.tenant_id, number)
    if kept is None:
        raise unknown_response()
    where = kept.payload
    raw = kept.body if where is None else parts.blobs.read_range(where.blob, where.offset, where.length)
    found = FoundResponse(kept.job, orjson.loads(raw or b"{}"))
    if not found.is_stored:
        raise unknown_response()
    return found


def get_response(parts: Parts, caller: Caller, response_id: str) -> dict[str, Any]:
    """One response, as far as it has come."""
    return find_response(parts, caller, response_id).body


def list_input_items(
    parts: Parts,
    caller: Caller,
    response_id: str,
    *,
    after: str | None = None,
    limit: int = 20,
    order: Literal["asc", "desc"] = "desc",
) -> InputItemList:
    """A page of what a response was asked."""
    found = find_response(parts, caller, response_id)
    items = input_objects(found.request.input, found.job.id)
    if order == "desc":
        items.reverse()
    if after is not None:
        ids = [item.id for item in items]
        if after not in ids:
            raise BadRequest("There is no input item of this id.", param="after", code="item_not_found")
        items = items[ids.index(after) + 1 :]
    page = InputItemList(data=items[:limit], has_more=len(items) > limit)
    if page.data:
        page.first_id, page.last_id = page.data[0].id, page.data[-1].id
    return page
