"""Look at a preflight: what was counted, and what the measured lines say about all of them."""

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from service.actions.parts import Parts
from service.contract.batches import BatchError, BatchErrors
from service.contract.callers import Caller
from service.contract.extrapolation import total_of
from service.contract.ids import is_preflight_id
from service.contract.lifecycle import BatchState, JobState
from service.contract.measured_lines import MeasuredLine
from service.contract.preflights import (
    MAX_NAMED_FAILURES,
    AnswerEstimate,
    FailedLine,
    LineCounts,
    LineErrors,
    MediaCounts,
    PreflightObject,
    PromptEstimate,
    SampleCounts,
    TokenEstimates,
)
from service.errors import NotFound
from service.store import batches, preflights, rates
from service.store.preflights import MeasuredJob
from service.store.tables import Batch, Preflight

MAX_WAIT_SECONDS = 60.0
_FIRST_LOOK_SECONDS, _SLOWEST_LOOK_SECONDS = 0.05, 0.5
_STATUS = {
    BatchState.VALIDATING: "scanning",
    BatchState.IN_PROGRESS: "measuring",
    BatchState.FINALIZING: "measuring",
}
_NOTHING = MeasuredLine(text=0, image=0, video=0, audio=0, most_answer=0)


def get_preflight(
    parts: Parts, caller: Caller, preflight_id: str, *, wait_seconds: float = 0.0
) -> PreflightObject:
    """One preflight. Waits up to `wait_seconds` for it to end; holds no connection meanwhile."""
    deadline = time.monotonic() + min(wait_seconds, MAX_WAIT_SECONDS)
    pause = _FIRST_LOOK_SECONDS
    while True:
        with parts.database.reading() as db:
            batch, preflight = find_preflight(db, caller, preflight_id)
            left = deadline - time.monotonic()
            if batch.state.is_terminal or left <= 0:
                return _preflight_object(db, batch, preflight)
        time.sleep(min(left, pause * random.uniform(0.8, 1.2)))
        pause = min(pause * 1.5, _SLOWEST_LOOK_SECONDS)


def find_preflight(db: Session, caller: Caller, preflight_id: str) -> tuple[Batch, Preflight]:
    """A caller's preflight; NotFound if it is unknown or another tenant's."""
    batch = batches.get(db, caller.tenant_id, preflight_id) if is_preflight_id(preflight_id) else None
    preflight = preflights.find(db, preflight_id) if batch is not None else None
    if batch is None or preflight is None:
        raise NotFound("There is no preflight of this id.", param="preflight_id", code="preflight_not_found")
    return batch, preflight


def _preflight_object(db: Session, batch: Batch, preflight: Preflight) -> PreflightObject:
    jobs = preflights.measured(db, batch.id)
    failed = [job for job in jobs if job.state is not JobState.SUCCEEDED]
    told = PreflightObject(
        id=batch.id,
        status=_STATUS.get(batch.state, batch.state.value),  # type: ignore[arg-type]
        created_at=int(batch.created_at),
        completed_at=None if batch.completed_at is None else int(batch.completed_at),
        input_file_id=batch.input_file_id or "",
        errors=BatchErrors(data=[BatchError(**error) for error in batch.errors]) if batch.errors else None,
        sample=SampleCounts(wanted=preflight.sample, measured=len(jobs), failed=len(failed)),
        failed_lines=[_failed_line(job) for job in failed[:MAX_NAMED_FAILURES]],
    )
    if preflight.scan is None:
        return told
    _add_counts(told, preflight.scan)
    if jobs:
        _add_estimates(told, db, batch.tenant_id, preflight.scan, jobs)
    return told


def _failed_line(job: MeasuredJob) -> FailedLine:
    error = {name: value for name, value in job.body.items() if name != "status"}
    return FailedLine(line=job.line_no, custom_id=job.custom_id, error=error)


def _add_counts(told: PreflightObject, scan: Mapping[str, Any]) -> None:
    told.lines = LineCounts(
        total=scan["total"],
        valid=scan["valid"],
        invalid=scan["total"] - scan["valid"],
        errors=[LineErrors(**error) for error in scan["errors"]],
    )
    told.models = scan["models"]
    told.media = MediaCounts(**scan["media"])


def _add_estimates(
    told: PreflightObject, db: Session, tenant_id: str, scan: Mapping[str, Any], jobs: Sequence[MeasuredJob]
) -> None:
    # A line that would fail costs nothing, and counts as such.
    lines = [
        MeasuredLine.from_body(job.body) if job.state is JobState.SUCCEEDED else _NOTHING for job in jobs
    ]
    num_valid: int = scan["valid"]
    prompt = _prompt_estimate(lines, num_valid)
    upper_bound = round(total_of([line.most_answer for line in lines], num_valid).estimated)
    answered = sum(line.prompt > 0 for line in lines) / len(lines)
    shares = {model: count * answered for model, count in scan["models"].items()}
    expected = _expected_answers(db, tenant_id, shares)
    if expected is not None:
        expected = min(round(expected), upper_bound)
    told.tokens = TokenEstimates(
        prompt=prompt, answer=AnswerEstimate(upper_bound=upper_bound, expected=expected)
    )
    _add_seconds(told, db, scan["models"], prompt.estimated, expected)


def _prompt_estimate(lines: Sequence[MeasuredLine], num_valid: int) -> PromptEstimate:
    prompts = [line.prompt for line in lines]
    total = total_of(prompts, num_valid)
    return PromptEstimate(
        measured=sum(prompts),
        estimated=round(total.estimated),
        low=round(total.low),
        high=round(total.high),
        text=round(total_of([line.text for line in lines], num_valid).estimated),
        image=round(total_of([line.image for line in lines], num_valid).estimated),
        video=round(total_of([line.video for line in lines], num_valid).estimated),
        audio=round(total_of([line.audio for line in lines], num_valid).estimated),
    )


def _expected_answers(db: Session, tenant_id: str, lines_of: Mapping[str, float]) -> float | None:
    """Tokens of all answers, if they are as long as each model's recent ones."""
    expected = 0.0
    for model, num_lines in lines_of.items():
        length = rates.tokens_per_answer(db, tenant_id, model)
        if length is None:
            return None
        expected += num_lines * length
    return expected


def _add_seconds(
    told: PreflightObject,
    db: Session,
    models: Mapping[str, int],
    prompt_tokens: int,
    answer_tokens: int | None,
) -> None:
    """The time that one model's lines after another's would take."""
    if answer_tokens is None:
        told.note = "The time is unknown: nothing of yours was answered by these models in the last days."
        return
    num_lines, seconds = sum(models.values()), 0.0
    for model, count in models.items():
        rate = rates.tokens_per_second(db, model)
        if rate is None:
            told.note = f"The time is unknown: {model!r} has done no bulk work since yesterday."
            return
        seconds += (prompt_tokens + answer_tokens) * count / num_lines / rate
    told.estimated_seconds = round(seconds, 1)
