"""Celery messages: doorbells. Losing one costs latency, duplicating one costs nothing."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

IO_QUEUE = "io"


def engine_queue(model: str) -> str:
    """The Celery queue that the engine workers of one model listen on."""
    # A queue's name becomes a file name on the filesystem broker and an item of a comma-separated list. Two models
    # that share a queue cost a needless wake.
    return "engine." + re.sub(r"[^A-Za-z0-9._-]", "-", model)


def engine_queues(models: Iterable[str]) -> str:
    """The queues of an engine worker with these models, as Celery's command line takes them."""
    return ",".join(sorted({engine_queue(model) for model in models}))


@dataclass(frozen=True, slots=True)
class Wake:
    """There is work for this model."""

    model: str


@dataclass(frozen=True, slots=True)
class Ingest:
    """A batch has lines to read."""

    batch_id: str


@dataclass(frozen=True, slots=True)
class Export:
    """A batch has ended and wants its files written."""

    batch_id: str


@dataclass(frozen=True, slots=True)
class Deliver:
    """Webhooks have something to hear."""


Ticket: TypeAlias = Wake | Ingest | Export | Deliver

# Names under which workers/tasks.py registers the tasks; payloads are the dataclasses' fields as JSON.
TASK_NAMES: dict[type[Wake] | type[Ingest] | type[Export] | type[Deliver], str] = {
    Wake: "sluice.wake",
    Ingest: "sluice.ingest_manifest",
    Export: "sluice.export_results",
    Deliver: "sluice.deliver_webhooks",
}
