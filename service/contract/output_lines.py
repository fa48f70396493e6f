"""The lines of a batch's output and error files, exactly as OpenAI writes them."""

from typing import Any

import orjson

from service.contract.lifecycle import JobState

_NEVER_RAN = {
    JobState.CANCELLED: {
        "code": "batch_cancelled",
        "message": "This request was not run: the batch was cancelled.",
    },
    JobState.EXPIRED: {
        "code": "batch_expired",
        "message": "This request was not run: the batch's completion window has passed.",
    },
}


def output_line(
    *, job_id: int, line_no: int | None, custom_id: str | None, state: JobState, body: bytes | None
) -> bytes:
    """One ended job as a line. body: the stored reply of a succeeded job, the stored error of a failed or dead one."""
    if state is JobState.SUCCEEDED:
        return _line(job_id, custom_id, 200, orjson.Fragment(body or b"null"))
    if state in _NEVER_RAN:
        line = {"id": _request_id(job_id), "custom_id": _known_as(custom_id, line_no)}
        return orjson.dumps(line | {"response": None, "error": _NEVER_RAN[state]}) + b"\n"
    error: dict[str, Any] = orjson.loads(body or b"{}")
    status = error.pop("status", 500)
    return _line(job_id, _known_as(custom_id, line_no), status, {"error": error | {"line": line_no}})


def _line(job_id: int, custom_id: str | None, status: int, body: Any) -> bytes:
    response = {"status_code": status, "request_id": f"req_{job_id}", "body": body}
    line = {"id": _request_id(job_id), "custom_id": custom_id, "response": response, "error": None}
    return orjson.dumps(line) + b"\n"


def _request_id(job_id: int) -> str:
    return f"batch_req_{job_id}"


def _known_as(custom_id: str | None, line_no: int | None) -> str:
    """A line whose own id could not be read, or belonged to another line, goes by its number."""
    return custom_id or f"line-{line_no}"
