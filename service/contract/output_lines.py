"""Ended jobs as JSON lines: those of output and error files, as OpenAI writes them, and those of `/results`."""

from typing import Any

import orjson

from service.contract.ended_jobs import EndedJob
from service.contract.lifecycle import JobState
from service.contract.replies import usage_body

RETRY_HINT = "Retry the batch: POST /v1/batches/{batch_id}/retry."
_CAN_BE_RETRIED = {"retryable": True, "hint": RETRY_HINT}
NEVER_RAN = {
    JobState.CANCELLED: {
        "code": "batch_cancelled",
        "message": "This request was not run: the batch was cancelled.",
        **_CAN_BE_RETRIED,
    },
    JobState.EXPIRED: {
        "code": "batch_expired",
        "message": "This request was not run: the batch's completion window has passed.",
        **_CAN_BE_RETRIED,
    },
}
_OVER_BUDGET = {
    "code": "token_budget_reached",
    "message": "This request was not run: the batch had used up its token budget.",
    **_CAN_BE_RETRIED,
}


def why_not_run(job: EndedJob) -> dict[str, Any] | None:
    """The error of a job that was cancelled or has expired; None for any other."""
    return _OVER_BUDGET if job.is_over_budget else NEVER_RAN.get(job.state)


def why_failed(job: EndedJob) -> dict[str, Any]:
    """The error of a job that failed or died, and `status`, with what to do about it where we know."""
    error: dict[str, Any] = orjson.loads(job.body or b"{}")
    if error.get("retryable"):
        error.setdefault("hint", RETRY_HINT)
    return error


def output_line(job: EndedJob) -> bytes:
    """One ended job as a line of a file. Ours beside OpenAI's fields: `provenance`."""
    return orjson.dumps(_line(job)) + b"\n"


def result_line(job: EndedJob, cursor: str) -> bytes:
    """The same with more of our fields; `cursor` asks for what comes after this line."""
    ours = {
        "line": job.line_no,
        "status": job.state.value,
        "model": job.model,
        "attempts": job.attempt,
        "finished_at": None if job.finished_at is None else round(job.finished_at, 3),
        "usage": usage_body(job.usage) if job.state is JobState.SUCCEEDED else None,
        "cursor": cursor,
    }
    return orjson.dumps(_line(job) | ours) + b"\n"


def _line(job: EndedJob) -> dict[str, Any]:
    return {
        "id": f"batch_req_{job.job_id}",
        "custom_id": job.known_as,
        "response": _response(job),
        "error": why_not_run(job),
        "provenance": None if job.provenance is None else orjson.Fragment(job.provenance),
    }


def _response(job: EndedJob) -> dict[str, Any] | None:
    if job.state in NEVER_RAN:
        return None
    status: int = 200
    body: Any = orjson.Fragment(job.body or b"null")
    if job.state is not JobState.SUCCEEDED:
        error = why_failed(job)
        status = error.pop("status", 500)
        body = {"error": error | {"line": job.line_no}}
    return {"status_code": status, "request_id": f"req_{job.job_id}", "body": body}
