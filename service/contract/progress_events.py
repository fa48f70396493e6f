"""What whoever watches a batch is told, again and again, until it has ended."""

from pydantic import BaseModel, Field

from service.contract.batches import BatchObject, BatchUsage, RequestCounts
from service.contract.lifecycle import BATCH_TERMINAL


class ProgressEvent(BaseModel):
    """How far a batch is. Rates are of the last seconds: null until there are two looks, 0 where nothing moves.

    unfinished: lines that have not ended. eta_seconds: until they have, at this rate; null where nobody can say.
    """

    batch_id: str
    status: str
    request_counts: RequestCounts
    unfinished: int
    usage: BatchUsage
    jobs_per_second: float | None = None
    input_tokens_per_second: float | None = None
    output_tokens_per_second: float | None = None
    eta_seconds: float | None = Field(default=None, ge=0)

    @property
    def has_ended(self) -> bool:
        """Whether the batch will never move again."""
        return self.status in BATCH_TERMINAL


def progress_event(
    now: BatchObject, before: BatchObject, seconds: float, *, is_moving: bool
) -> ProgressEvent:
    """The event of a look and one `seconds` earlier. is_moving: all lines are there, and workers may take them."""
    ended = _num_ended(now.request_counts)
    event = ProgressEvent(
        batch_id=now.id,
        status=now.status,
        request_counts=now.request_counts,
        unfinished=max(0, now.request_counts.total - ended),
        usage=now.usage,
    )
    if seconds > 0:
        event.jobs_per_second = _rate(ended - _num_ended(before.request_counts), seconds)
        event.input_tokens_per_second = _rate(now.usage.input_tokens - before.usage.input_tokens, seconds)
        event.output_tokens_per_second = _rate(now.usage.output_tokens - before.usage.output_tokens, seconds)
        if is_moving and event.jobs_per_second:
            event.eta_seconds = round(event.unfinished / event.jobs_per_second, 1)
    return event


def _num_ended(counts: RequestCounts) -> int:
    return counts.completed + counts.failed + counts.cancelled + counts.expired


def _rate(number: int, seconds: float) -> float:
    return round(number / seconds, 3)
