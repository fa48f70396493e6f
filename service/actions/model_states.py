"""What workers say of the models that they have: ready, on the way, or failed."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from pydantic import ValidationError

from service.actions.parts import Parts
from service.contract.models import ModelFacts, ModelStatus
from service.store import workers
from service.store.workers import SeenModel

# What we say of a model that no worker has loaded yet.
USUAL_LOAD_SECONDS = 30.0
LEAST_SECONDS = 1.0
BEST_FIRST: tuple[ModelStatus, ...] = ("ready", "loading", "failed")


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model across all workers. ready_at: seconds since 1970. loading_seconds: of the worker that began first.

    facts: what the best of its workers knows of it, or knew.
    """

    name: str
    status: ModelStatus = "not_ready"
    revision: str | None = None
    ready_at: float | None = None
    loading_seconds: float = 0.0
    facts: ModelFacts | None = None


def model_states(parts: Parts) -> dict[str, ModelState]:
    """Every model that a worker has, or had until a moment ago, by name."""
    with parts.database.reading() as db:
        seen = workers.models_seen(db, parts.settings.model_grace_seconds)
    return {name: _across(name, rows) for name, rows in groupby(seen, key=attrgetter("model"))}


def estimated_seconds(parts: Parts, state: ModelState) -> float:
    """How long until a model that is not ready may be, by how long it took to load the last time."""
    with parts.database.reading() as db:
        facts = _facts(workers.last_facts(db, state.name))
    usual = (facts and facts.load_seconds) or USUAL_LOAD_SECONDS
    return round(max(LEAST_SECONDS, usual - state.loading_seconds), 1)


def _across(name: str, rows: Iterable[SeenModel]) -> ModelState:
    """rows: of one model, the latest worker's first."""
    rows = list(rows)
    alive = [row for row in rows if row.is_alive]
    status: ModelStatus = next(
        (state for state in BEST_FIRST if any(row.state == state for row in alive)), "not_ready"
    )
    best = next((row for row in alive if row.state == status), rows[0])
    facts = next((facts for row in (best, *rows) if (facts := _facts(row.facts))), None)
    begun = [row.loading_seconds for row in alive if row.state == "loading"]
    return ModelState(name, status, best.revision, best.ready_at, max(begun, default=0.0), facts)


def _facts(written: object) -> ModelFacts | None:
    """Facts as another release may have written them."""
    try:
        return None if written is None else ModelFacts.model_validate(written)
    except ValidationError:
        return None
