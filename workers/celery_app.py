"""The Celery application of both roles; `SLUICE_ROLE` is `io` or `engine`. Run with `-P threads`."""

import logging
import os
from typing import Any, Protocol

from celery import Celery, bootsteps

from service.actions.parts import Parts, assemble
from service.channels.celery_config import make_celery
from service.contract.lifecycle import WorkerRole
from service.settings import Settings
from workers import tasks


class Resident(Protocol):
    """What lives in a worker process beside Celery's pool."""

    def start(self) -> None:
        """Begin, without blocking for long."""

    def ring(self) -> None:
        """A wake ticket arrived."""

    def stop(self) -> None:
        """Drain and leave."""


def make_app(settings: Settings, role: WorkerRole) -> Celery:
    """Put one worker process together."""
    parts = assemble(settings, is_waited_for=role is WorkerRole.ENGINE)
    resident = _resident(parts, role)
    app = make_celery(settings)
    tasks.register(app, parts, resident.ring)
    app.steps["worker"].add(_step(resident))
    # Two lines for each ring of a doorbell say nothing; what the jobs come to is in SQL.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return app


def _resident(parts: Parts, role: WorkerRole) -> Resident:
    # Each role imports its own rooms: an io worker never loads torch, nor anything that could.
    if role is WorkerRole.ENGINE:
        from workers.device import Device

        return Device(parts)
    from workers.clerk import Clerk

    return Clerk(parts)


def _step(resident: Resident) -> type[bootsteps.StartStopStep]:
    class ResidentStep(bootsteps.StartStopStep):
        """Starts the resident with the worker and stops it, draining, before the pool."""

        requires = ("celery.worker.components:Pool",)

        def start(self, worker: Any) -> None:
            resident.start()

        def stop(self, worker: Any) -> None:
            resident.stop()

    return ResidentStep


app = make_app(Settings(), WorkerRole(os.environ.get("SLUICE_ROLE", WorkerRole.ENGINE)))
