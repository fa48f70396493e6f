"""Listen to a chat until its reply is in SQL, whichever attempt wrote it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from service.actions.cancel_job import cancel_job
from service.actions.parts import Parts
from service.actions.told_chat import ToldChat
from service.contract.callers import Caller
from service.contract.endpoints import told_by
from service.contract.lifecycle import JobState
from service.contract.streams import Delta, Restarted
from service.errors import Conflict, NotFound, SluiceError, TimedOut, error_from_dict
from service.store import jobs
from service.store.jobs import JobView

# How long a quiet stream is waited for before SQL is asked; shorter where there are no streams to wait for.
TICK_SECONDS = 1.0
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing to tell for a moment: the time to look whether the client is still there."""


@dataclass(frozen=True, slots=True)
class Replied:
    """The job succeeded. body: the whole completion. rest: what of its choices no delta has carried.

    is_reused: an equal request has had this answer before.
    """

    body: dict[str, Any]
    rest: tuple[Delta, ...]
    is_reused: bool = False


ChatEvent: TypeAlias = Delta | Quiet | Replied


def follow_chat(
    parts: Parts, caller: Caller, job_id: int, *, with_deltas: bool, is_needed: bool = True
) -> Iterator[ChatEvent]:
    """Deltas (if wanted) and quiet moments, and at last the reply. A failure is raised as the error it is.

    The deltas are a preview; the reply in SQL is the truth. An attempt that says something else than was told
    already is an error.
    is_needed: the job runs for this listener, and not for longer than a chat may take; else it runs by itself.
    Closing the iterator early leaves the job alone.
    """
    return _Follower(parts, caller, job_id, with_deltas, is_needed).events()


class _Follower:
    def __init__(self, parts: Parts, caller: Caller, job_id: int, with_deltas: bool, is_needed: bool) -> None:
        self._parts, self._caller, self._job_id = parts, caller, job_id
        self._with_deltas, self._is_needed = with_deltas, is_needed
        self._deadline = time.monotonic() + parts.settings.chat_timeout_seconds
        self._tick_seconds = TICK_SECONDS if parts.settings.redis_url else POLL_SECONDS
        self._listening_until = 0.0
        self._told = ToldChat()

    def events(self) -> Iterator[ChatEvent]:
        attempt = 1
        while True:
            for event in self._parts.streams.follow(self._job_id, attempt, self._tick_seconds):
                self._keep_listening()
                if isinstance(event, Delta):
                    yield self._tell(event)
                    continue
                if isinstance(event, Restarted):
                    self._told.begin_attempt()
                view = self._view()
                if view.state is JobState.SUCCEEDED:
                    yield self._replied(view)
                    return
                _raise_if_over(view)
                yield Quiet()
                if _attempt_to_follow(view) != attempt:
                    break
            self._told.begin_attempt()
            attempt = self._next_attempt(attempt)

    def _tell(self, delta: Delta) -> Delta | Quiet:
        new = self._told.new_in(delta) if self._with_deltas else None
        return new or Quiet()

    def _next_attempt(self, attempt: int) -> int:
        following = _attempt_to_follow(self._view())
        if following == attempt:
            # The stream of this attempt has ended, and the job was handed back: SQL will tell how it goes on.
            time.sleep(self._tick_seconds)
        return following

    def _keep_listening(self) -> None:
        if not self._is_needed:
            return
        now = time.monotonic()
        if now > self._deadline:
            cancel_job(self._parts, self._caller, self._job_id)
            raise TimedOut("The answer took too long and was given up. Ask for fewer tokens, or use a batch.")
        if now > self._listening_until:
            self._parts.streams.keep_alive(self._job_id)
            self._listening_until = now + TICK_SECONDS

    def _view(self) -> JobView:
        with self._parts.database.reading() as db:
            view = jobs.get(db, self._caller.tenant_id, self._job_id)
        if view is None:
            raise NotFound("This request is gone.")
        return view

    def _replied(self, view: JobView) -> Replied:
        body, is_reused = view.result or {}, "reused_from" in (view.provenance or {})
        if not self._with_deltas:
            return Replied(body, (), is_reused)
        return Replied(body, tuple(self._told.rest_of(told_by(view.endpoint, body))), is_reused)


def _attempt_to_follow(view: JobView) -> int:
    return view.attempt if view.state is JobState.RUNNING else view.attempt + 1


def _raise_if_over(view: JobView) -> None:
    match view.state:
        case JobState.FAILED | JobState.DEAD:
            raise error_from_job(view)
        case JobState.CANCELLED:
            raise Conflict("This request was cancelled.", code="cancelled")
        case JobState.EXPIRED:
            raise TimedOut("This request waited too long for a worker and has expired.", code="expired")


def error_from_job(view: JobView) -> SluiceError:
    """The error that a failed job ended with."""
    error = view.result or {}
    return error_from_dict(error, int(error.get("status", 500)))
