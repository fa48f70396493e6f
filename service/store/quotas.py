"""Quotas: what a tenant may use, and what it has used of it."""

import datetime
from dataclasses import dataclass

from sqlalchemy import func, literal, select
from sqlalchemy.orm import Session

from service.contract.lifecycle import JobClass
from service.store.database import database_now
from service.store.lanes import LaneId
from service.store.tables import File, Lane, Tenant, Usage

QUOTAS = ("requests_per_minute", "tokens_per_day", "queued_jobs", "stored_bytes")


@dataclass(frozen=True, slots=True)
class Quotas:
    """A tenant's quotas. None: it says nothing; -1: no limit."""

    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    queued_jobs: int | None = None
    stored_bytes: int | None = None


def of(db: Session, tenant_id: str) -> Quotas:
    """What a tenant's own row says."""
    row = db.execute(
        select(*(getattr(Tenant, name) for name in QUOTAS)).where(Tenant.id == tenant_id)
    ).first()
    return Quotas(*row) if row is not None else Quotas()


def tokens_today(db: Session, tenant_id: str) -> int:
    """Prompt and completion tokens of a tenant's answers since midnight (UTC), those of its batches included."""
    now = db.scalar(select(database_now()))
    assert now is not None
    today = datetime.datetime.fromtimestamp(now, datetime.UTC).date()
    spent = func.sum(Usage.prompt_tokens + Usage.completion_tokens)
    mine = select(func.coalesce(spent, 0)).where(Usage.tenant_id == tenant_id, Usage.day == today)
    return int(db.scalar(mine) or 0)


def jobs_waiting(db: Session, tenant_id: str, at_most: int) -> int:
    """How many bulk jobs wait in a tenant's lanes, counted to `at_most`: the cost grows with the answer."""
    bulk = (Lane.tenant_id == tenant_id, Lane.job_class == JobClass.BULK, Lane.active)
    waiting = 0
    for model in db.scalars(select(Lane.model).where(*bulk)).all():
        lane = LaneId(tenant_id, model, JobClass.BULK)
        some = select(literal(1)).where(*lane.queued_jobs()).limit(at_most - waiting).subquery()
        waiting += db.scalar(select(func.count()).select_from(some)) or 0
        if waiting >= at_most:
            break
    return waiting


def bytes_stored(db: Session, tenant_id: str) -> int:
    """The size of a tenant's files, those included that were written for its batches."""
    return int(
        db.scalar(select(func.coalesce(func.sum(File.num_bytes), 0)).where(File.tenant_id == tenant_id)) or 0
    )
