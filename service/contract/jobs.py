"""What crosses between the store and the desk: claimed jobs going in, outcomes coming back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from service.contract.lifecycle import JobClass
from service.errors import SluiceError

WorkerId: TypeAlias = str


@dataclass(frozen=True, slots=True)
class PayloadRef:
    """Where a long request body lies: bytes [offset, offset + length) of a blob."""

    blob: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that is ours until our lease ends. (owner, attempt) is the fence.

    body: the request as JSON bytes, or None where `payload` says where it lies.
    reuse: an answer that an equal request has had may be given again.
    queued_seconds: since it was accepted, earlier attempts included.
    """

    id: int
    attempt: int
    owner: WorkerId
    batch_id: str | None
    tenant_id: str
    key_id: str | None
    model: str
    endpoint: str
    job_class: JobClass
    priority: int
    custom_id: str | None
    line_no: int | None
    solo: bool
    crashes: int
    body: bytes | None
    payload: PayloadRef | None
    streams: bool = False
    reuse: bool = False
    queued_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request. prompt_tokens is the sum of its parts by modality.

    cached_tokens: those of the prompt that were computed before.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    text_tokens: int = 0
    image_tokens: int = 0
    video_tokens: int = 0
    audio_tokens: int = 0
    cached_tokens: int = 0
    prompt_seconds: float = 0.0
    completion_seconds: float = 0.0

    @property
    def total_tokens(self) -> int:
        """prompt_tokens + completion_tokens."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Succeeded:
    """A reply to write back: the endpoint's response body (OpenAI shape) and where it came from.

    digest: by which equal requests find it again, if they may. is_reused: it was given again, and nothing computed.
    """

    job: ClaimedJob
    body: Mapping[str, Any]
    usage: Usage
    provenance: Mapping[str, Any] = field(default_factory=dict)
    digest: bytes | None = None
    is_reused: bool = False

    @property
    def spent(self) -> Usage:
        """What was computed for it: the usage that its tenant is charged."""
        return Usage() if self.is_reused else self.usage


@dataclass(frozen=True, slots=True)
class Failed:
    """An error to write back. A retryable one sends the job to backoff while it has attempts left."""

    job: ClaimedJob
    error: SluiceError
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job was cancelled while it ran; nothing but its state is written."""

    job: ClaimedJob


Outcome: TypeAlias = Succeeded | Failed | Cancelled


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a finish wrote: `fenced` outcomes belonged to jobs that were no longer ours.

    batches: ids of the batches whose progress moved, for a look at whether they are done.
    """

    recorded: int
    fenced: int
    batches: frozenset[str] = frozenset()
