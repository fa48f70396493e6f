"""Workers: who is there, until when, and which models they can answer with."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, insert, select, update
from sqlalchemy.orm import Session

from service.contract.jobs import WorkerId
from service.contract.lifecycle import WorkerRole
from service.store import requeue
from service.store.database import database_now, insert_into
from service.store.states import RUNNING
from service.store.tables import Job, Worker, WorkerModel

LEASE_SECONDS = 30.0
READY = "ready"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a live worker serves. ready_at: seconds since 1970."""

    model: str
    revision: str | None
    device: str | None
    worker_id: WorkerId
    ready_at: float | None


def register(
    db: Session,
    role: WorkerRole,
    node: str,
    models: Iterable[str],
    device: str | None,
    lease_seconds: float = LEASE_SECONDS,
) -> WorkerId:
    """Enter a worker with its first lease; its models are loading. A process takes a new id each time it boots."""
    worker_id = f"worker_{secrets.token_hex(12)}"
    now = database_now()
    db.execute(
        insert(Worker).values(
            id=worker_id,
            role=role,
            node=node,
            device=device,
            lease_until=now + lease_seconds,
            dead=False,
            started_at=now,
        )
    )
    for model in sorted(set(models)):
        set_model_state(db, worker_id, model, "loading", None)
    return worker_id


def heartbeat(db: Session, worker_id: WorkerId, lease_seconds: float = LEASE_SECONDS) -> bool:
    """Renew the lease. False: it was lost, its jobs are others' now, and whatever still runs must be dropped."""
    renewed = (
        update(Worker)
        .where(Worker.id == worker_id, ~Worker.dead, Worker.lease_until > database_now())
        .values(lease_until=database_now() + lease_seconds)
        .returning(Worker.id)
    )
    return db.execute(renewed).first() is not None


def set_model_state(
    db: Session, worker_id: WorkerId, model: str, state: str, revision: str | None = None
) -> None:
    """Say that a model is `loading`, `ready` or `failed` in a worker."""
    device = select(Worker.device).where(Worker.id == worker_id).scalar_subquery()
    row = insert_into(db, WorkerModel).values(
        worker_id=worker_id,
        model=model,
        revision=revision,
        device=device,
        state=state,
        ready_at=database_now() if state == READY else None,
    )
    db.execute(
        row.on_conflict_do_update(
            index_elements=["worker_id", "model"],
            set_={name: row.excluded[name] for name in ("revision", "state", "ready_at")},
        )
    )


def ready_models(db: Session) -> list[ServedModel]:
    """What live workers can answer with, by model and worker."""
    served = (
        select(
            WorkerModel.model,
            WorkerModel.revision,
            WorkerModel.device,
            WorkerModel.worker_id,
            WorkerModel.ready_at,
        )
        .join(Worker, Worker.id == WorkerModel.worker_id)
        .where(WorkerModel.state == READY, ~Worker.dead, Worker.lease_until > database_now())
        .order_by(WorkerModel.model, WorkerModel.worker_id)
    )
    return [ServedModel(*row) for row in db.execute(served)]


def retire(db: Session, worker_id: WorkerId, exit_cause: str) -> int:
    """A worker leaves of its own accord: what it still holds goes back without blame; returns how many jobs."""
    if not _end_life(db, worker_id, exit_cause):
        return 0
    held = (
        update(Job)
        .where(Job.state == RUNNING, Job.owner == worker_id)
        .values(**requeue.taken_back(), attempt=Job.attempt - 1)
        .returning(*requeue.RETURNED)
    )
    rows = db.execute(held).all()
    requeue.settle(db, rows)
    return len(rows)


def lose(db: Session, worker_id: WorkerId, exit_cause: str) -> bool:
    """A worker's process is known to have died: end its lease, so that the reaper need not wait for it."""
    ended = (
        update(Worker)
        .where(Worker.id == worker_id, ~Worker.dead)
        .values(lease_until=0.0, exit_cause=exit_cause)
    )
    return _num_changed(db, ended) == 1


def _end_life(db: Session, worker_id: WorkerId, exit_cause: str) -> bool:
    ended = (
        update(Worker)
        .where(Worker.id == worker_id, ~Worker.dead)
        .values(dead=True, lease_until=database_now(), exit_cause=exit_cause)
    )
    return _num_changed(db, ended) == 1


def _num_changed(db: Session, statement: Any) -> int:
    return cast("CursorResult[Any]", db.execute(statement)).rowcount
