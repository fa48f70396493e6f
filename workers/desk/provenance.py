"""Where a result came from: the model as it was loaded, the media as it saw them, and what the answer took."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from service.contract.jobs import Failed, Outcome, Succeeded
from workers.desk.seats import Seat


def with_provenance(outcome: Outcome, seat: Seat, model: Mapping[str, Any]) -> Outcome:
    """The outcome with its provenance; what whoever made it knows better stands. model: what it was answered with."""
    if not isinstance(outcome, Succeeded | Failed):
        return outcome
    return replace(outcome, provenance={**model, **_facts(seat), **outcome.provenance})


def _facts(seat: Seat) -> dict[str, Any]:
    """Seconds: queued, from being accepted to this claim; prepared, from there until the engine could have it.

    device_seconds: its part of the engine's steps, each step being shared evenly by the rows that it drew for.
    """
    prepared = seat.submitted_at - seat.claimed_at if seat.submitted_at else None
    ignored = {"ignored_fields": list(seat.ignored_fields)} if seat.ignored_fields else {}
    return {
        **ignored,
        "attempt": seat.job.attempt,
        "media": [dict(facts) for facts in seat.media],
        "queued_seconds": round(seat.job.queued_seconds, 3),
        "prepared_seconds": None if prepared is None else round(prepared, 3),
        "device_seconds": round(sum(answer.device_seconds for answer in seat.answers), 6),
    }
