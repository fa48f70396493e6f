"""Workers: who is there, until when, and which models they can answer with."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, Select, and_, delete, insert, select, update
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


@dataclass(frozen=True, slots=True)
class SeenModel:
    """A model as one worker has it, or had it. is_alive: whether the worker still holds its lease.

    loading_seconds: since the worker started. facts: as `ModelFacts` writes them.
    """

    model: str
    state: str
    is_alive: bool
    loading_seconds: float
    revision: str | None
    ready_at: float | None
    facts: dict[str, Any] | None


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
    db: Session,
    worker_id: WorkerId,
    model: str,
    state: str,
    revision: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Say that a model is `loading`, `ready` or `failed` in a worker. facts: as `ModelFacts` writes them."""
    device = select(Worker.device).where(Worker.id == worker_id).scalar_subquery()
    row = insert_into(db, WorkerModel).values(
        worker_id=worker_id,
        model=model,
        revision=revision,
        device=device,
        state=state,
        ready_at=database_now() if state == READY else None,
        facts=facts,
    )
    db.execute(
        row.on_conflict_do_update(
            index_elements=["worker_id", "model"],
            set_={name: row.excluded[name] for name in ("revision", "state", "ready_at", "facts")},
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


def models_seen(db: Session, grace_seconds: float) -> list[SeenModel]:
    """What workers have, or had until so many seconds ago, by model; the latest worker's comes first."""
    is_alive = and_(~Worker.dead, Worker.lease_until > database_now())
    seen = (
        select(
            WorkerModel.model,
            WorkerModel.state,
            is_alive,
            database_now() - Worker.started_at,
            WorkerModel.revision,
            WorkerModel.ready_at,
            WorkerModel.facts,
        )
        .join(Worker, Worker.id == WorkerModel.worker_id)
        .where(Worker.lease_until > database_now() - grace_seconds)
        .order_by(WorkerModel.model, Worker.started_at.desc())
    )
    return [SeenModel(*row) for row in db.execute(seen)]


def last_facts(db: Session, model: str) -> dict[str, Any] | None:
    """What the last worker that had a model ready knew of it."""
    told = (
        select(WorkerModel.facts)
        .where(WorkerModel.model == model, WorkerModel.ready_at.is_not(None), WorkerModel.facts.is_not(None))
        .order_by(WorkerModel.ready_at.desc())
        .limit(1)
    )
    return db.scalar(told)


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


def any_gone(db: Session, seconds: float) -> bool:
    """Whether a worker left longer ago than this."""
    return db.scalar(_gone(seconds).limit(1)) is not None


def forget_gone(db: Session, seconds: float, limit: int) -> int:
    """Delete up to `limit` workers that left longer ago than this; returns how many."""
    gone = db.scalars(_gone(seconds).limit(limit)).all()
    db.execute(delete(WorkerModel).where(WorkerModel.worker_id.in_(gone)))
    return _num_changed(db, delete(Worker).where(Worker.id.in_(gone)))


def _gone(seconds: float) -> Select[Any]:
    return select(Worker.id).where(Worker.dead, Worker.lease_until < database_now() - seconds)


def lose(db: Session, worker_id: WorkerId, exit_cause: str) -> bool:
    """A worker's process is known to have died: end its lease, so that the reaper need not wait for it."""
    ended = (
        update(Worker)
        .where(Worker.id == worker_id, ~Worker.dead)
        .values(lease_until=database_now() - 1, exit_cause=exit_cause)
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
