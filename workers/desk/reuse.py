"""Answers that are given again: kept ones from SQL, and those of equal requests that are being computed."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from service.actions.parts import Parts
from service.contract.chat import ChatRequest, media_refs
from service.contract.endpoints import CHAT
from service.contract.equal_requests import digest_of, is_deterministic
from service.contract.job_objects import wire_id
from service.contract.jobs import ClaimedJob, Outcome, Succeeded
from service.contract.media import MediaRef
from service.contract.replies import completion_body
from service.store import answers
from workers.away import DATABASE_AWAY, reason
from workers.desk.leaders import Given, Leaders, Waiting
from workers.desk.seats import Seat
from workers.desk.tool_calls import call_id
from workers.media.contents import Content

log = logging.getLogger(__name__)


class Reuse:
    """What one model's requests may be given again. Used by many threads.

    content_of: (ref, tenant_id) -> what tells a medium's bytes, or None where nothing does; raises as loading would.
    identity: tells the model and what belongs to it from all others.
    """

    def __init__(
        self, parts: Parts, content_of: Callable[[MediaRef, str], Content | None], identity: str
    ) -> None:
        self._parts = parts
        self._content_of = content_of
        self._identity = identity
        self._leaders = Leaders()
        self._resume: Callable[[Seat], object] = lambda seat: None

    def on_resume(self, resume: Callable[[Seat], object]) -> None:
        """Who prepares a seat that waited and is to be computed after all."""
        self._resume = resume

    def allows(self, job: ClaimedJob, request: ChatRequest) -> bool:
        """Whether an equal request's answer would do."""
        return (
            job.reuse
            and job.endpoint == CHAT
            and self._parts.settings.answer_cache_seconds > 0
            and is_deterministic(request)
        )

    def look(self, seat: Seat, request: ChatRequest) -> Succeeded | Waiting | None:
        """An answer that an equal request has had, or word that it is under way; None: the seat is to be computed.

        request: one that `allows` allows, with a kind in every part that names a file.
        """
        found = [self._content_of(ref, seat.job.tenant_id) for ref in media_refs(request)]
        contents = tuple(content for content in found if content is not None)
        if len(contents) < len(found):
            return None
        media = [content.sha256 for content in contents]
        digest = digest_of(request, media, endpoint=seat.job.endpoint, identity=self._identity)
        if seat.digest not in (None, digest):  # it leads others now, but its file has changed while it waited
            self.withdraw(seat)
        seat.digest, seat.contents = digest, contents
        if isinstance(joined := self._leaders.join(seat), Waiting):
            return joined
        given = joined or self._kept(seat.job, digest)
        return None if given is None else _again(seat.job, given)

    def check(self, seat: Seat) -> None:
        """The media are loaded: if a file has changed since we looked, what comes is no answer to that request."""
        if seat.digest is not None and any(content.has_changed() for content in seat.contents):
            self.withdraw(seat)
            seat.digest = None

    def followers_of(self, seat: Seat, outcome: Outcome) -> Iterator[tuple[Seat, Succeeded]]:
        """Those who waited for this seat, each with its answer; if there is none, one of them is computed instead."""
        if not isinstance(outcome, Succeeded):
            self.withdraw(seat)
            return iter(())
        if seat.digest is None:
            return iter(())
        given = _given(outcome, seat)
        followers = self._leaders.answer(seat, given)
        return ((follower, _again(follower.job, given)) for follower in followers)

    def withdraw(self, seat: Seat) -> None:
        """The seat will have no answer, or does not want one; who waits for it is computed instead."""
        if seat.digest is not None and (heir := self._leaders.hand_on(seat)) is not None:
            self._resume(heir)

    def forget(self, seat: Seat) -> None:
        """The seat is left: its answer is in SQL now, if it has one."""
        if seat.digest is not None:
            self._leaders.forget(seat)

    def stop_waiting(self, seat: Seat) -> bool:
        """Whether the seat waited for another one, which it does no more."""
        return seat.digest is not None and self._leaders.stop_waiting(seat)

    def _kept(self, job: ClaimedJob, digest: bytes) -> Given | None:
        seconds = self._parts.settings.answer_cache_seconds
        try:
            with self._parts.database.reading() as db:
                kept = answers.find(db, job.tenant_id, digest, max_age_seconds=seconds)
        except DATABASE_AWAY as exception:
            log.warning("kept answers cannot be looked up (%s)", reason(exception))
            return None
        if kept is None:
            return None
        return Given(kept.body, kept.usage, _facts(kept.provenance.get("media", ()), kept.job_id))


def _given(outcome: Succeeded, seat: Seat) -> Given:
    """A seat's answer for those who follow it."""
    facts = outcome.provenance if outcome.is_reused else _facts(seat.media, seat.job.id)
    return Given(outcome.body, outcome.usage, facts)


def _facts(media: Iterable[Mapping[str, Any]], job_id: int) -> dict[str, Any]:
    return {"media": [dict(each) for each in media], "reused_from": wire_id(job_id)}


def _again(job: ClaimedJob, given: Given) -> Succeeded:
    """The reply as this job's own. All of its prompt was computed before, and in no time of its own."""
    usage = replace(
        given.usage, cached_tokens=given.usage.prompt_tokens, prompt_seconds=0.0, completion_seconds=0.0
    )
    body = completion_body(
        job_id=job.id,
        created=int(time.time()),
        model=job.model,
        choices=[_own_choice(job, choice) for choice in given.body["choices"]],
        usage=usage,
    )
    return Succeeded(job, body, usage, given.provenance, is_reused=True)


def _own_choice(job: ClaimedJob, choice: dict[str, Any]) -> dict[str, Any]:
    """A choice whose calls have ids of their own: a conversation may hold both answers."""
    message = choice["message"]
    if not message.get("tool_calls"):
        return choice
    name = f"{job.id}:{choice['index']}"
    calls = [{**call, "id": call_id(name, number)} for number, call in enumerate(message["tool_calls"])]
    return {**choice, "message": {**message, "tool_calls": calls}}
