"""Why a response failed, in OpenAI's words for it."""

from collections.abc import Mapping
from typing import Any

from service.contract.lifecycle import JobState
from service.errors import SluiceError, TimedOut

# OpenAI's codes for ours, where it has one that says the same; by status for all others.
CODES = {"media_unavailable": "failed_to_download_image", "rate_limit_exceeded": "rate_limit_exceeded"}


def failure(state: JobState, error: Mapping[str, Any] | None) -> dict[str, Any]:
    """The `error` of a response whose job has ended in this state. error: as the job keeps it."""
    if state is JobState.EXPIRED:
        return failure_of(TimedOut("This request waited too long for a worker and has expired."))
    return _in_openais_words({"message": "The request failed.", "status": 500} | dict(error or {}))


def failure_of(error: SluiceError) -> dict[str, Any]:
    """The same from an error that was raised."""
    return _in_openais_words(error.as_dict() | {"status": error.status})


def _in_openais_words(error: dict[str, Any]) -> dict[str, Any]:
    status, ours = int(error.pop("status")), error.get("code")
    otherwise = "invalid_prompt" if status < 500 else "server_error"
    if str(error.get("param") or "").rpartition(".")[2] == "image_url" and status < 500:
        otherwise = "invalid_image"
    return error | {"code": CODES.get(str(ours), otherwise)}
