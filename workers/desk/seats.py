"""A seat: everything that the desk holds of one job while it runs."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.contract.jobs import ClaimedJob, Usage
from service.contract.lifecycle import JobClass
from service.contract.replies import completion_body
from workers.desk.answers import Answer
from workers.media.contents import Content

if TYPE_CHECKING:  # the desk speaks of the model's things, but must not load torch to do so
    from workers.model.prompting.prepared import Prepared, PromptCounts


@dataclass(slots=True)
class Seat:
    """One job between claim and record. Times are monotonic seconds.

    digest, contents: of the request and its media, if its answer may be given again.
    ignored_fields: of the request, which had no effect.
    media: what each of its media was, and what of it the model gets to see.
    counts: what the prompt is made of, once it is prepared. num_waiting_bytes: of its inputs, until they are taken in.
    answers: as many as the request wants; they share the prompt. reply: makes the body of them, see `Asked`.
    num_cached_tokens: of the prompt, what had been computed before the first answer began.
    """

    job: ClaimedJob
    claimed_at: float = field(default_factory=time.monotonic)
    digest: bytes | None = None
    contents: tuple[Content, ...] = ()
    ignored_fields: tuple[str, ...] = ()
    media: tuple[Mapping[str, Any], ...] = ()
    counts: "PromptCounts | None" = None
    num_waiting_bytes: int = 0
    answers: tuple[Answer, ...] = ()
    reply: Callable[..., dict[str, Any]] = completion_body
    submitted_at: float = 0.0
    first_token_at: float = 0.0
    num_cached_tokens: int = 0
    cancelled: bool = False
    ended: bool = False

    @property
    def is_chat(self) -> bool:
        """Whether somebody is waiting for this job's answer."""
        return self.job.job_class is JobClass.CHAT

    @property
    def has_all_answers(self) -> bool:
        """Whether nothing is left to write."""
        return all(answer.has_ended for answer in self.answers)

    def note_prompt(self, prompt: "Prepared") -> None:
        """It is prepared, and waits for the engine now."""
        self.counts, self.num_waiting_bytes, self.media = prompt.counts, prompt.num_bytes, prompt.media
        self.submitted_at = time.monotonic()

    def note_token(self) -> bool:
        """Tokens have come: the prompt is in. Whether they are the first."""
        if self.first_token_at:
            return False
        self.first_token_at, self.num_waiting_bytes = time.monotonic(), 0
        return True

    def usage(self) -> Usage:
        """Tokens and times as they stand now."""
        now = time.monotonic()
        first = self.first_token_at or now
        counts = self.counts
        assert counts is not None
        return Usage(
            prompt_tokens=counts.total,
            completion_tokens=sum(answer.num_tokens for answer in self.answers),
            text_tokens=counts.text,
            image_tokens=counts.image,
            video_tokens=counts.video,
            audio_tokens=counts.audio,
            cached_tokens=self.num_cached_tokens,
            prompt_seconds=max(0.0, first - self.submitted_at) if self.submitted_at else 0.0,
            completion_seconds=now - first if self.first_token_at else 0.0,
        )


class Seats:
    """The jobs in hand, by id, from their claim until their outcome is in SQL. Safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[int, Seat] = {}
        self._changed = threading.Condition(self._lock)
        self._on_room: Callable[[], None] = lambda: None
        self._on_left: Callable[[Seat], None] = lambda seat: None

    def on_room(self, tell: Callable[[], None]) -> None:
        """Whom to tell when prepared inputs were taken in, or their job has ended."""
        self._on_room = tell

    def on_left(self, tell: Callable[[Seat], None]) -> None:
        """Whom to tell of a seat that was left."""
        self._on_left = tell

    @property
    def num_waiting_bytes(self) -> int:
        """Prepared inputs that the engine has not taken in."""
        return sum(seat.num_waiting_bytes for seat in self.all())

    def note_token(self, seat: Seat) -> None:
        """Tokens of this job have come, and with the first its prompt is in."""
        if seat.note_token():
            self._on_room()

    def take(self, job: ClaimedJob) -> Seat:
        """Give the job a seat."""
        seat = Seat(job)
        with self._lock:
            self._taken[job.id] = seat
        return seat

    def leave(self, job: ClaimedJob) -> None:
        """Free the job's seat, if it is still this attempt's."""
        with self._changed:
            seat = self._taken.get(job.id)
            if seat is None or seat.job is not job:
                return
            del self._taken[job.id]
            self._changed.notify_all()
        self._on_left(seat)
        self._on_room()

    def num_of(self, model: str, *, chat: bool) -> int:
        """How many jobs of one model and class are still on their way to an outcome."""
        with self._lock:
            return sum(
                seat.is_chat is chat and not seat.ended and seat.job.model == model
                for seat in self._taken.values()
            )

    def all(self) -> list[Seat]:
        """Everything in hand, oldest claim first."""
        with self._lock:
            return list(self._taken.values())

    def wait_empty(self, seconds: float) -> bool:
        """Wait until nothing is in hand; False if the time was over first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._taken, timeout=seconds)
