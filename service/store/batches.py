"""Batches: their ingest, their closing and their end. A batch's jobs are counted in `progress`, not here."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, insert, or_, select, update
from sqlalchemy.orm import Session

from service.contract.endpoints import PREFLIGHT
from service.contract.lifecycle import BATCH_TERMINAL, BatchState
from service.store import deliveries
from service.store.database import database_now
from service.store.paging import newest_first
from service.store.progress import ENDED_SUM
from service.store.tables import Batch, BatchProgress

QUIET_SECONDS = 10.0
TAKES_LINES = (BatchState.VALIDATING, BatchState.IN_PROGRESS)


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What a batch starts with. manifest: the blob that holds its lines. base_dir: where relative paths start.

    dedupe: equal lines are computed once. model, defaults: for lines that do not say.
    window_seconds: after which unfinished jobs expire.
    token_budget: it stops once its results have used so many. retries: which jobs of `retry_of` become its own.
    """

    tenant_id: str
    manifest: str
    endpoint: str = "/v1/chat/completions"
    key_id: str | None = None
    model: str | None = None
    priority: int = 10
    base_dir: str | None = None
    defaults: dict[str, Any] | None = None
    input_file_id: str | None = None
    completion_window: str = "24h"
    window_seconds: float | None = 86400.0
    metadata: dict[str, Any] | None = None
    dedupe: bool = False
    retry_of: str | None = None
    output_expires_seconds: int | None = None
    retries: dict[str, Any] | None = None
    token_budget: int | None = None


def new_id() -> str:
    """A fresh batch id."""
    return f"batch_{secrets.token_hex(12)}"


def create(db: Session, new: NewBatch, batch_id: str | None = None) -> Batch:
    """Insert a batch that waits for its ingest. Ring after the commit."""
    now = database_now()
    row = insert(Batch).values(
        id=batch_id or new_id(),
        tenant_id=new.tenant_id,
        key_id=new.key_id,
        endpoint=new.endpoint,
        state=BatchState.VALIDATING,
        model=new.model,
        priority=new.priority,
        manifest=new.manifest,
        base_dir=new.base_dir,
        defaults=new.defaults,
        input_file_id=new.input_file_id,
        completion_window=new.completion_window,
        user_metadata=new.metadata,
        dedupe=new.dedupe,
        retry_of=new.retry_of,
        output_expires_seconds=new.output_expires_seconds,
        retries=new.retries,
        token_budget=new.token_budget,
        created_at=now,
        ingest_moved_at=now,
        expires_at=None if new.window_seconds is None else now + new.window_seconds,
    )
    return db.scalars(row.returning(Batch)).one()


def get(db: Session, tenant_id: str, batch_id: str) -> Batch | None:
    """A tenant's batch."""
    mine = select(Batch).where(Batch.id == batch_id, Batch.tenant_id == tenant_id)
    return db.scalar(mine.execution_options(populate_existing=True))


def find(db: Session, batch_id: str) -> Batch | None:
    """A batch of any tenant: for the workers."""
    return db.scalar(select(Batch).where(Batch.id == batch_id).execution_options(populate_existing=True))


def page(db: Session, tenant_id: str, *, after: str | None = None, limit: int = 20) -> Sequence[Batch]:
    """A tenant's batches, newest first, preflights apart. after: the last id seen."""
    batches = select(Batch).where(Batch.tenant_id == tenant_id, Batch.endpoint != PREFLIGHT)
    return db.scalars(newest_first(batches, Batch, after).limit(limit)).all()


def advance_ingest(
    db: Session,
    batch_id: str,
    from_offset: int,
    to_offset: int,
    *,
    num_lines: int,
    done: bool,
    model: str | None = None,
) -> bool:
    """Move the ingest from one byte of the manifest to another, in the transaction that inserts the lines between.

    False: another ingester has been here, or the batch takes no more lines; roll back what was inserted. model: that
    of the lines, by which a batch goes that was submitted without one.
    """
    return _moved(
        db,
        [Batch.id == batch_id, *_takes_lines(), Batch.ingest_offset == from_offset],
        state=BatchState.IN_PROGRESS,
        ingest_offset=to_offset,
        total=Batch.total + num_lines,
        ingest_moved_at=database_now(),
        in_progress_at=func.coalesce(Batch.in_progress_at, database_now()),
        model=func.coalesce(Batch.model, model),
        **({"ingested_at": database_now()} if done else {}),
    )


def fail(db: Session, batch_id: str, errors: list[dict[str, Any]]) -> bool:
    """End a batch that never got a job, since its manifest as a whole cannot be used."""
    now = database_now()
    return _ended(
        db,
        [Batch.id == batch_id, *_takes_lines(), Batch.total == 0],
        state=BatchState.FAILED,
        errors=errors,
        failed_at=now,
        ingested_at=now,
    )


def request_cancel(db: Session, tenant_id: str, batch_id: str) -> bool:
    """Stop a batch: no more lines, and the sweeps cancel the jobs that it has. False if it has ended already."""
    mine = [Batch.id == batch_id, Batch.tenant_id == tenant_id, Batch.state.in_(TAKES_LINES)]
    return _moved(db, mine, **stopping())


def change(
    db: Session,
    tenant_id: str,
    batch_id: str,
    columns: Mapping[str, Any],
    *,
    window_seconds: int | None = None,
) -> bool:
    """Change columns of an open batch; False if there is none.

    window_seconds: a new window, from the batch's creation on; False if the one that it had is over.
    """
    mine = [Batch.id == batch_id, Batch.tenant_id == tenant_id, Batch.state.in_(TAKES_LINES)]
    window: dict[str, Any] = {}
    if window_seconds is not None:
        mine.append(or_(Batch.expires_at.is_(None), Batch.expires_at > database_now()))
        window["expires_at"] = Batch.created_at + window_seconds
    # Something has to be written for the guards to be asked.
    return _moved(db, mine, **{"priority": Batch.priority, **columns, **window})


def stopping() -> dict[str, Any]:
    """The columns of a batch that takes no more lines and whose jobs the sweeps cancel."""
    now = database_now()
    return {
        "state": BatchState.CANCELLING,
        "cancelling_at": now,
        "sweep_line": 0,
        "ingested_at": func.coalesce(Batch.ingested_at, now),
        "paused_at": None,
        "wish_line": None,
    }


def close_if_done(db: Session, batch_id: str) -> bool:
    """Close a batch whose every job has ended; True for the one caller that did, who rings for the export."""
    now = database_now()
    return _moved(
        db,
        [Batch.id == batch_id, *_is_done()],
        state=case(
            (Batch.state == BatchState.CANCELLING, BatchState.CANCELLING.value),
            else_=BatchState.FINALIZING.value,
        ),
        closed_at=now,
        finalizing_at=now,
        paused_at=None,
        wish_line=None,
    )


def complete(
    db: Session, batch_id: str, *, output_file_id: str | None = None, error_file_id: str | None = None
) -> bool:
    """End a closed batch, with the files that were written for it; False if somebody else has."""
    now = database_now()
    expired = select(func.coalesce(func.sum(BatchProgress.expired), 0) > 0)
    expired = expired.where(BatchProgress.batch_id == batch_id)
    was_cancelled = Batch.cancelling_at.is_not(None)
    ran_out = and_(~was_cancelled, expired.scalar_subquery())
    return _ended(
        db,
        [Batch.id == batch_id, Batch.closed_at.is_not(None), Batch.state.not_in(BATCH_TERMINAL)],
        state=case(
            (was_cancelled, BatchState.CANCELLED.value),
            (ran_out, BatchState.EXPIRED.value),
            else_=BatchState.COMPLETED.value,
        ),
        output_file_id=output_file_id,
        error_file_id=error_file_id,
        cancelled_at=case((was_cancelled, now)),
        expired_at=case((ran_out, now)),
        completed_at=case((or_(was_cancelled, ran_out), None), else_=now),
    )


def unfinished_ingests(db: Session, quiet_seconds: float = QUIET_SECONDS) -> list[str]:
    """Batches that still have lines to read, and whose ingest has not moved for a while."""
    return _ids(db, *_takes_lines(), Batch.ingest_moved_at < database_now() - quiet_seconds)


def batches_to_close(db: Session) -> list[str]:
    """Batches whose every job has ended without anybody having closed them."""
    return _ids(db, *_is_done())


def batches_to_export(db: Session, quiet_seconds: float = QUIET_SECONDS) -> list[str]:
    """Batches that were closed a while ago and whose files are still to be written."""
    closed = (BatchState.FINALIZING, BatchState.CANCELLING)
    return _ids(db, Batch.state.in_(closed), Batch.closed_at < database_now() - quiet_seconds)


def _takes_lines() -> list[ColumnElement[bool]]:
    return [Batch.state.in_(TAKES_LINES), Batch.ingested_at.is_(None)]


def _is_done() -> list[ColumnElement[bool]]:
    ended = select(func.coalesce(func.sum(ENDED_SUM), 0)).where(BatchProgress.batch_id == Batch.id)
    return [
        Batch.state.in_((*TAKES_LINES, BatchState.CANCELLING)),
        Batch.ingested_at.is_not(None),
        Batch.closed_at.is_(None),
        Batch.total == ended.correlate(Batch).scalar_subquery(),
    ]


def _ids(db: Session, *conditions: ColumnElement[bool]) -> list[str]:
    return list(db.scalars(select(Batch.id).where(*conditions).order_by(Batch.id)))


def _ended(db: Session, conditions: list[ColumnElement[bool]], **values: Any) -> bool:
    """One guarded move into a state that is final, of which webhooks are to hear; whether it happened."""
    moved = (
        update(Batch)
        .where(*conditions)
        .values(**values)
        .returning(Batch.id, Batch.tenant_id, Batch.state, Batch.endpoint)
    )
    ended = db.execute(moved.execution_options(synchronize_session=False)).first()
    if ended is not None and ended.endpoint != PREFLIGHT:
        deliveries.announce(db, ended.tenant_id, f"batch.{ended.state.value}", ended.id)
    return ended is not None


def _moved(db: Session, conditions: list[ColumnElement[bool]], **values: Any) -> bool:
    """One guarded move; whether it happened."""
    moved = update(Batch).where(*conditions).values(**values).returning(Batch.id)
    return db.execute(moved.execution_options(synchronize_session=False)).first() is not None
