"""A seat: everything that the desk holds of one job while it runs."""

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.contract.jobs import ClaimedJob, Usage
from service.contract.lifecycle import JobClass
from workers.desk.answers import Answer

if TYPE_CHECKING:  # the desk speaks of the model's things, but must not load torch to do so
    from workers.model.prepared import Prepared


@dataclass(slots=True)
class Seat:
    """One job between claim and record. Times are monotonic seconds.

    answers: as many as the request wants, once it is prepared; they share the prompt.
    """

    job: ClaimedJob
    claimed_at: float = field(default_factory=time.monotonic)
    prepared: "Prepared | None" = None
    answers: tuple[Answer, ...] = ()
    submitted_at: float = 0.0
    first_token_at: float = 0.0
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

    def note_token(self) -> None:
        """Tokens have come."""
        self.first_token_at = self.first_token_at or time.monotonic()

    def usage(self) -> Usage:
        """Tokens and times as they stand now."""
        now = time.monotonic()
        first = self.first_token_at or now
        assert self.prepared is not None
        counts = self.prepared.counts
        return Usage(
            prompt_tokens=counts.total,
            completion_tokens=sum(answer.num_tokens for answer in self.answers),
            text_tokens=counts.text,
            image_tokens=counts.image,
            video_tokens=counts.video,
            audio_tokens=counts.audio,
            prompt_seconds=max(0.0, first - self.submitted_at) if self.submitted_at else 0.0,
            completion_seconds=now - first if self.first_token_at else 0.0,
        )


class Seats:
    """The jobs in hand, by id, from their claim until their outcome is in SQL. Safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[int, Seat] = {}
        self._changed = threading.Condition(self._lock)

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
            if seat is not None and seat.job is job:
                del self._taken[job.id]
                self._changed.notify_all()

    def num_of(self, *, chat: bool) -> int:
        """How many jobs of one class are still on their way to an outcome."""
        with self._lock:
            return sum(seat.is_chat is chat and not seat.ended for seat in self._taken.values())

    def all(self) -> list[Seat]:
        """Everything in hand, oldest claim first."""
        with self._lock:
            return list(self._taken.values())

    def wait_empty(self, seconds: float) -> bool:
        """Wait until nothing is in hand; False if the time was over first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._taken, timeout=seconds)
