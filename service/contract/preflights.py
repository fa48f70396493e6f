"""Preflights on the wire: what a manifest would come to, told without running it. Ours; OpenAI has no such object."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator

from service.contract.batches import BatchErrors, CreateBatch
from service.contract.endpoints import CHAT
from service.contract.plain_errors import Refused

DEFAULT_SAMPLE = 256
MAX_SAMPLE = 10_000
# Of the sampled lines that would fail, so many are named.
MAX_NAMED_FAILURES = 100

Sample = Annotated[int, Field(ge=1, le=MAX_SAMPLE)]


class CreatePreflight(CreateBatch):
    """POST /v1/preflight: the body that would make the batch. sample: how many lines to measure."""

    sample: Sample = DEFAULT_SAMPLE

    @field_validator("endpoint")
    @classmethod
    def _is_of_chats(cls, endpoint: str) -> str:
        if endpoint != CHAT:
            raise Refused(f"A preflight measures requests of {CHAT} alone.", code="invalid_endpoint")
        return endpoint


class LineErrors(BaseModel):
    """Lines that would fail at once, by reason. lines: the numbers of the first ones. message: of the first one."""

    code: str
    count: int
    message: str
    lines: list[int]


class LineCounts(BaseModel):
    """All lines of the manifest. Two lines with the same id are both counted as valid."""

    total: int
    valid: int
    invalid: int
    errors: list[LineErrors]


class MediaCounts(BaseModel):
    """Media that the valid lines name. unknown: uploaded files whose kind only their bytes tell."""

    image: int
    video: int
    audio: int
    unknown: int


class SampleCounts(BaseModel):
    """Lines that were measured. failed: of these, the ones that would fail."""

    wanted: int
    measured: int
    failed: int


class FailedLine(BaseModel):
    """A line that would fail, and why: its media cannot be read, or it is too long. line: its number, from 1."""

    line: int
    custom_id: str | None
    error: dict[str, Any]


class Estimate(BaseModel):
    """Tokens of all valid lines. measured: of the sample. low, high: 95 of 100 estimates are as near as that."""

    measured: int
    estimated: int
    low: int
    high: int


class PromptEstimate(Estimate):
    """The prompts' tokens, and the estimate split by modality."""

    text: int
    image: int
    video: int
    audio: int


class AnswerEstimate(BaseModel):
    """The answers' tokens. upper_bound: what the lines allow. expected: as recent answers were; null if unknown."""

    upper_bound: int
    expected: int | None


class TokenEstimates(BaseModel):
    """What would be computed."""

    prompt: PromptEstimate
    answer: AnswerEstimate


class PreflightObject(BaseModel):
    """A preflight. What is not known yet is null. estimated_seconds: at the recent speed of the models' workers.

    status: `scanning` counts the lines, `measuring` prepares the sample; then `completed`, or as a batch ends.
    note: why there is no estimate of the time.
    """

    id: str
    object: Literal["preflight"] = "preflight"
    status: Literal["scanning", "measuring", "completed", "failed", "cancelling", "cancelled", "expired"]
    created_at: int
    completed_at: int | None = None
    input_file_id: str
    errors: BatchErrors | None = None
    lines: LineCounts | None = None
    models: dict[str, int] | None = None
    media: MediaCounts | None = None
    sample: SampleCounts
    failed_lines: list[FailedLine] = Field(default_factory=list)
    tokens: TokenEstimates | None = None
    estimated_seconds: float | None = None
    note: str | None = None


class DeletedPreflight(BaseModel):
    """What deleting a preflight answers."""

    id: str
    object: Literal["preflight"] = "preflight"
    deleted: bool = True
