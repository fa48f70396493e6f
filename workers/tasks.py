"""The Celery tasks. A ticket carries no work, only the news of it."""

from collections.abc import Callable

from celery import Celery

from service.actions.export_results import export_results
from service.actions.ingest_manifest import ingest_manifest
from service.actions.parts import Parts
from service.contract.tickets import TASK_NAMES, Deliver, Export, Ingest, Wake


def register(app: Celery, parts: Parts, ring: Callable[[], None]) -> None:
    """Give the app its tasks; `ring` wakes this process's desk, or its courier."""

    @app.task(name=TASK_NAMES[Wake])
    def wake(model: str) -> None:
        parts.doorbell.heard(Wake(model))
        ring()

    @app.task(name=TASK_NAMES[Deliver])
    def deliver() -> None:
        parts.doorbell.heard(Deliver())
        ring()

    @app.task(name=TASK_NAMES[Ingest])
    def ingest(batch_id: str) -> None:
        parts.doorbell.heard(Ingest(batch_id))
        ingest_manifest(parts, batch_id)

    @app.task(name=TASK_NAMES[Export])
    def export(batch_id: str) -> None:
        parts.doorbell.heard(Export(batch_id))
        export_results(parts, batch_id)
