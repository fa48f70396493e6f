"""Results as a table: the same columns for replies and for failures, so that every reader of tables can take them."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import orjson

from service.contract.ended_jobs import EndedJob
from service.contract.lifecycle import JobState
from service.contract.output_lines import why_failed, why_not_run
from service.contract.response_bodies import choice_in_response

Cell: TypeAlias = str | int | float | bool | None

# What each column holds; in any row, any cell but `job_id` and `status` may be empty.
# text: of the first answer. all_texts: JSON, where there are several. tool_calls, provenance: JSON.
COLUMNS: dict[str, type] = {
    "custom_id": str,
    "line": int,
    "job_id": str,
    "status": str,
    "text": str,
    "finish_reason": str,
    "all_texts": str,
    "tool_calls": str,
    "prompt_tokens": int,
    "completion_tokens": int,
    "cached_tokens": int,
    "text_tokens": int,
    "image_tokens": int,
    "video_tokens": int,
    "audio_tokens": int,
    "error_code": str,
    "error_message": str,
    "error_param": str,
    "retryable": bool,
    "hint": str,
    "model": str,
    "attempts": int,
    "finished_at": float,
    "device_seconds": float,
    "provenance": str,
    "cursor": str,
}
_TOKENS = [name for name in COLUMNS if name.endswith("_tokens")]


def table_row(job: EndedJob, cursor: str) -> dict[str, Cell]:
    """One ended job as a row with all `COLUMNS`, in their order."""
    provenance = orjson.loads(job.provenance) if job.provenance else {}
    row: dict[str, Cell] = dict.fromkeys(COLUMNS)
    row |= {
        "custom_id": job.known_as,
        "line": job.line_no,
        "job_id": f"job_{job.job_id}",
        "status": job.state.value,
        "model": job.model,
        "attempts": job.attempt,
        "finished_at": job.finished_at,
        "device_seconds": provenance.get("device_seconds"),
        "provenance": job.provenance.decode() if job.provenance else None,
        "cursor": cursor,
    }
    if job.state is JobState.SUCCEEDED:
        row |= {name: getattr(job.usage, name) for name in _TOKENS}
        return row | _answer(orjson.loads(job.body or b"{}"))
    return row | _error(why_not_run(job) or why_failed(job))


def _answer(body: Mapping[str, Any]) -> dict[str, Cell]:
    if body.get("object") == "response":
        body = {"choices": [choice_in_response(body)]}
    choices = body.get("choices") or []
    if not choices:
        return {"text": body.get("text")}
    texts = [choice["message"].get("content") for choice in choices]
    calls = choices[0]["message"].get("tool_calls")
    return {
        "text": texts[0],
        "finish_reason": choices[0].get("finish_reason"),
        "all_texts": orjson.dumps(texts).decode() if len(texts) > 1 else None,
        "tool_calls": orjson.dumps(calls).decode() if calls else None,
    }


def _error(error: Mapping[str, Any]) -> dict[str, Cell]:
    return {
        "error_code": error.get("code"),
        "error_message": error.get("message"),
        "error_param": error.get("param"),
        "retryable": bool(error.get("retryable", False)),
        "hint": error.get("hint"),
    }
