"""Batches on the wire, as the openai client expects them, with a few fields of our own."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from service.contract.endpoints import BATCHED, CHAT
from service.contract.files import ExpiresAfter
from service.contract.plain_errors import Refused

DEFAULT_PRIORITY = 10
MAX_PRIORITY = 100
MAX_WINDOW_SECONDS = 30 * 24 * 3600
_WINDOW = re.compile(r"([1-9][0-9]{0,4})([hd])")

MetadataKey = Annotated[str, Field(min_length=1, max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
Priority = Annotated[int, Field(ge=1, le=MAX_PRIORITY)]
# Prompt and completion together; a whole number that every database can hold.
TokenBudget = Annotated[int, Field(ge=1, le=2**53)]


def checked_window(window: str | None) -> str | None:
    """The same, if it is hours or days and not too many of them."""
    if window is not None and not 0 < _seconds(window) <= MAX_WINDOW_SECONDS:
        raise Refused("`completion_window` is hours or days, up to 30d; for example 24h.")
    return window


def seconds_of(window: str | None) -> int | None:
    """How long a `completion_window` is, where there is one."""
    return _seconds(window) if window else None


Window = Annotated[str | None, AfterValidator(checked_window)]


class BatchOptions(BaseModel):
    """What a submission may say besides its manifest; what is not OpenAI's is ours.

    priority: 1 goes first, 100 last; chats are 0. defaults: request fields, and `prompt`, for lines that do not say.
    base_dir: a folder on the workers' machine, inside an allowed root, at which relative media paths start.
    token_budget: the batch stops once its results have used so many tokens, what is under way apart.
    dedupe: equal requests of the tenant are computed once, where their answers would be the same.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    endpoint: str = CHAT
    completion_window: Window = None
    metadata: Metadata | None = None
    priority: Priority = DEFAULT_PRIORITY
    defaults: dict[str, Any] = Field(default_factory=dict)
    base_dir: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    output_expires_after: ExpiresAfter | None = None
    token_budget: TokenBudget | None = None
    dedupe: bool = False

    @field_validator("endpoint")
    @classmethod
    def _is_ours(cls, endpoint: str) -> str:
        if endpoint not in BATCHED:
            raise Refused(f"`endpoint` must be {' or '.join(BATCHED)}.", code="invalid_endpoint")
        return endpoint

    @property
    def window_seconds(self) -> int | None:
        """How long the batch may take, where the submission says."""
        return seconds_of(self.completion_window)

    @property
    def output_expires_seconds(self) -> int | None:
        """How long the output and error files stay, where the submission says."""
        return self.output_expires_after.seconds if self.output_expires_after else None


class CreateBatch(BatchOptions):
    """POST /v1/batches."""

    input_file_id: Annotated[str, Field(min_length=1, max_length=64)]


class RequestCounts(BaseModel):
    """Lines by how they ended. failed: with an error, dead ones included. The last three are ours."""

    total: int = 0
    completed: int = 0
    failed: int = 0
    dead: int = 0
    cancelled: int = 0
    expired: int = 0


class BatchError(BaseModel):
    """Why a whole batch failed."""

    code: str | None = None
    line: int | None = None
    message: str | None = None
    param: str | None = None


class BatchErrors(BaseModel):
    """The errors of a batch that failed."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class CachedTokens(BaseModel):
    """Input tokens that were not computed again."""

    cached_tokens: int = 0


class ReasoningTokens(BaseModel):
    """Output tokens that were not shown."""

    reasoning_tokens: int = 0


class BatchUsage(BaseModel):
    """Tokens of all lines that have ended."""

    input_tokens: int = 0
    input_tokens_details: CachedTokens = Field(default_factory=CachedTokens)
    output_tokens: int = 0
    output_tokens_details: ReasoningTokens = Field(default_factory=ReasoningTokens)
    total_tokens: int = 0


class BatchObject(BaseModel):
    """OpenAI: the batch object. The `*_at` are Unix seconds."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None = None
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None = None
    priority: int = DEFAULT_PRIORITY
    paused_at: int | None = None
    token_budget: int | None = None
    dedupe: bool = False
    retry_of: str | None = None


class BatchList(BaseModel):
    """A page of batches."""

    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


def _seconds(window: str) -> int:
    match = _WINDOW.fullmatch(window)
    return int(match[1]) * (3600 if match[2] == "h" else 86400) if match else 0
