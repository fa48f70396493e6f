"""Figures for the monitor, from SQL."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.actions.parts import Parts
from service.contract.lifecycle import JobClass, JobState, WorkerRole
from service.store import gauges


@dataclass(frozen=True, slots=True)
class Gauges:
    """Open jobs by (state, class), and live workers by role."""

    jobs: Mapping[tuple[JobState, JobClass], int]
    workers: Mapping[WorkerRole, int]


def gauge_queues(parts: Parts) -> Gauges:
    """Count now."""
    with parts.database.reading() as db:
        return Gauges(jobs=gauges.open_jobs(db), workers=gauges.live_workers(db))
