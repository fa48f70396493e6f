"""Answers that are given again: kept ones from SQL, and those of equal requests that are being computed."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from service.actions.parts import Parts
from service.contract.chat import ChatRequest, media_refs
from service.contract.endpoints import CHAT
from service.contract.equal_requests import digest_of, is_deterministic
from service.contract.job_objects import wire_id
from service.contract.jobs import ClaimedJob, Outcome, Succeeded, Usage
from service.contract.media import MediaRef
from service.contract.replies import completion_body
from service.store import answers
from service.store.answers import KeptAnswer
from workers.away import DATABASE_AWAY, reason
from workers.desk.leaders import Leaders
from workers.desk.seats import Seat
from workers.desk.tool_calls import call_id
from workers.media.contents import Content

log = logging.getLogger(__name__)


class Waiting:
    """Said of a seat that waits for another one's answer."""


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
        if not self._leaders.join(seat):
            return Waiting()
        kept = self._kept(seat.job, digest)
        return None if kept is None else _from_kept(seat.job, kept)

    def check(self, seat: Seat) -> None:
        """The media are loaded: if a file has changed since we looked, what comes is no answer to that request."""
        if seat.digest is not None and any(content.has_changed() for content in seat.contents):
            self.withdraw(seat)
            seat.digest = None

    def followers_of(self, seat: Seat, outcome: Outcome) -> Iterator[tuple[Seat, Succeeded]]:
        """Those who waited for this seat, each with its answer; if there is none, one of them is computed instead."""
        if not isinstance(outcome, Succeeded):
            self.withdraw(seat)
            return
        for follower in self._leaders.leave(seat) if seat.digest is not None else ():
            yield follower, _again(follower.job, outcome.body, outcome.usage, _shared(outcome, seat))

    def withdraw(self, seat: Seat) -> None:
        """The seat will have no answer, or does not want one; who waits for it is computed instead."""
        if seat.digest is not None and (heir := self._leaders.hand_on(seat)) is not None:
            self._resume(heir)

    def stop_waiting(self, seat: Seat) -> bool:
        """Whether the seat waited for another one, which it does no more."""
        return seat.digest is not None and self._leaders.stop_waiting(seat)

    def _kept(self, job: ClaimedJob, digest: bytes) -> KeptAnswer | None:
        seconds = self._parts.settings.answer_cache_seconds
        try:
            with self._parts.database.reading() as db:
                return answers.find(db, job.tenant_id, digest, max_age_seconds=seconds)
        except DATABASE_AWAY as exception:
            log.warning("kept answers cannot be looked up (%s)", reason(exception))
            return None


def _from_kept(job: ClaimedJob, kept: KeptAnswer) -> Succeeded:
    facts = {"media": kept.provenance.get("media", []), "reused_from": wire_id(kept.job_id)}
    return _again(job, kept.body, kept.usage, facts)


def _shared(outcome: Succeeded, seat: Seat) -> dict[str, Any]:
    """The provenance of an answer that a seat shares with its followers."""
    if outcome.is_reused:
        return dict(outcome.provenance)
    return {"media": [dict(facts) for facts in seat.media], "reused_from": wire_id(seat.job.id)}


def _again(job: ClaimedJob, body: Any, usage: Usage, provenance: dict[str, Any]) -> Succeeded:
    """The reply as this job's own. All of its prompt was computed before, in no time of its own."""
    usage = replace(usage, cached_tokens=usage.prompt_tokens, prompt_seconds=0.0, completion_seconds=0.0)
    again = completion_body(
        job_id=job.id,
        created=int(time.time()),
        model=job.model,
        choices=[_own_choice(job, choice) for choice in body["choices"]],
        usage=usage,
    )
    return Succeeded(job, again, usage, provenance, is_reused=True)


def _own_choice(job: ClaimedJob, choice: dict[str, Any]) -> dict[str, Any]:
    """A choice whose calls have ids of their own: a conversation may hold both answers."""
    message = choice["message"]
    if not message.get("tool_calls"):
        return choice
    name = f"{job.id}:{choice['index']}"
    calls = [{**call, "id": call_id(name, number)} for number, call in enumerate(message["tool_calls"])]
    return {**choice, "message": {**message, "tool_calls": calls}}
