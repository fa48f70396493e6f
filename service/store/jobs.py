"""Jobs: taken, begun, finished, handed back, cancelled and looked at. The bulk of it has modules of its own."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import CompoundSelect, Select, func, insert, select, union_all, update
from sqlalchemy.orm import Session

from service.contract.jobs import ClaimedJob, PayloadRef, Usage, WorkerId
from service.contract.lifecycle import WAITING, JobClass, JobStage, JobState
from service.store import lanes, requeue, response_news, results
from service.store.claims import claim
from service.store.database import AnyRow, database_now
from service.store.fence import held_by
from service.store.lanes import LaneId
from service.store.lines import Inserted, NewLine, insert_lines
from service.store.outcomes import finish
from service.store.progress import NO_WORKER_SHARD
from service.store.results import Ending
from service.store.states import QUEUED, RUNNING
from service.store.tables import Batch, Job, JobPayload, Result

__all__ = [
    "Inserted",
    "JobView",
    "NewJob",
    "NewLine",
    "begin",
    "cancel",
    "cancel_requested",
    "claim",
    "count_queued",
    "finish",
    "get",
    "insert_chat",
    "insert_lines",
    "page",
    "release",
]

CHAT_PRIORITY = 0
BULK_PRIORITY = 10


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request without a batch. body: JSON bytes, unless `payload` says where they lie.

    streams: somebody listens to its tokens. expires_in_seconds: how long it may wait for a worker.
    reuse: an answer that an equal request of the tenant has had may be given again.
    """

    tenant_id: str
    model: str
    body: bytes | None = None
    payload: PayloadRef | None = None
    key_id: str | None = None
    endpoint: str = "/v1/chat/completions"
    job_class: JobClass = JobClass.CHAT
    priority: int | None = None
    streams: bool = False
    reuse: bool = False
    custom_id: str | None = None
    expires_in_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its tenant sees it. result: the response body if it succeeded, the error object if it failed or died."""

    id: int
    batch_id: str | None
    line_no: int | None
    custom_id: str | None
    model: str
    endpoint: str
    job_class: JobClass
    state: JobState
    attempt: int
    cancel_requested: bool
    created_at: float
    finished_at: float | None
    result: dict[str, Any] | None
    provenance: dict[str, Any] | None
    usage: Usage


def insert_chat(db: Session, new: NewJob) -> int:
    """Queue one request that belongs to no batch, of either class; returns its id. Ring after the commit."""
    chat = new.job_class is JobClass.CHAT
    now = database_now()
    job_id = db.execute(
        insert(Job)
        .values(
            tenant_id=new.tenant_id,
            key_id=new.key_id,
            model=new.model,
            endpoint=new.endpoint,
            job_class=new.job_class,
            priority=new.priority if new.priority is not None else CHAT_PRIORITY if chat else BULK_PRIORITY,
            state=JobState.QUEUED,
            streams=new.streams,
            reuse=new.reuse,
            custom_id=new.custom_id,
            created_at=now,
            expires_at=None if new.expires_in_seconds is None else now + new.expires_in_seconds,
        )
        .returning(Job.id)
    ).scalar_one()
    where = new.payload
    db.execute(
        insert(JobPayload).values(
            job_id=job_id,
            body=new.body,
            blob=where and where.blob,
            start=where and where.offset,
            length=where and where.length,
        )
    )
    lanes.open_for(db, [LaneId(new.tenant_id, new.model, new.job_class)])
    return job_id


def begin(db: Session, jobs: Sequence[ClaimedJob], owner: WorkerId) -> set[int]:
    """Say that these jobs are about to be handled; returns those that are still ours.

    Commit it before touching them: from here on they are suspects if the worker dies.
    """
    begun: set[int] = set()
    for attempt, ids in _by_attempt(jobs).items():
        started = (
            update(Job)
            .where(Job.id.in_(ids), *held_by(owner, attempt))
            .values(stage=JobStage.STARTED)
            .returning(Job.id)
        )
        begun.update(db.scalars(started))
    return begun


def release(db: Session, jobs: Sequence[ClaimedJob], owner: WorkerId) -> int:
    """Hand jobs back unfinished, as if they had not been claimed; returns how many were still ours."""
    moved: list[AnyRow] = []
    for attempt, ids in _by_attempt(jobs).items():
        released = (
            update(Job)
            .where(Job.id.in_(ids), *held_by(owner, attempt))
            .values(**requeue.taken_back(), attempt=Job.attempt - 1)
            .returning(*requeue.RETURNED)
        )
        moved.extend(db.execute(released))
    requeue.settle(db, moved)
    return len(moved)


def release_all_but(db: Session, owner: WorkerId, held: Collection[int]) -> int:
    """Hand back what a worker owns without knowing it: the answer to a claim was lost with its connection.

    held: the ids of the jobs that it does hold. To be called by whoever claims, so that no claim is under way.
    """
    released = (
        update(Job)
        .where(Job.state == RUNNING, Job.owner == owner, Job.id.not_in(held))
        .values(**requeue.taken_back(), attempt=Job.attempt - 1)
        .returning(*requeue.RETURNED)
    )
    rows = db.execute(released).all()
    requeue.settle(db, rows)
    return len(rows)


def cancel_requested(db: Session, owner: WorkerId) -> set[int]:
    """The ids of a worker's running jobs that somebody wants stopped."""
    wanted = select(Job.id).where(Job.state == RUNNING, Job.owner == owner, Job.cancel_requested)
    return set(db.scalars(wanted))


def cancel(db: Session, tenant_id: str, job_id: int) -> bool:
    """Cancel a waiting job now, or ask its worker to stop it; False if it has ended or is not the tenant's."""
    mine = [Job.id == job_id, Job.tenant_id == tenant_id]
    waiting = (
        update(Job)
        .where(*mine, Job.state.in_(WAITING))
        .values(state=JobState.CANCELLED, finished_at=database_now())
        .returning(*response_news.COLUMNS, Job.attempt, database_now().label("now"))
    )
    if (row := db.execute(waiting).first()) is not None:
        response_news.announce(db, row, JobState.CANCELLED)
        ending = Ending(job_id, row.batch_id, JobState.CANCELLED, None, row.attempt, row.now)
        results.record(db, [ending], NO_WORKER_SHARD)
        return True
    running = update(Job).where(*mine, Job.state == RUNNING).values(cancel_requested=True).returning(Job.id)
    return db.execute(running).first() is not None


def get(db: Session, tenant_id: str, job_id: int) -> JobView | None:
    """One job of a tenant, with its result once it has one."""
    row = db.execute(_view().where(Job.id == job_id, Job.tenant_id == tenant_id)).first()
    return _seen(row) if row is not None else None


def page(
    db: Session,
    tenant_id: str,
    *,
    batch_id: str | None = None,
    custom_id: str | None = None,
    states: Collection[JobState] | None = None,
    after: int | None = None,
    limit: int = 100,
) -> list[JobView]:
    """Jobs of a batch by line; else all of one custom_id, or those that belong to no batch, oldest first.

    after: the last id seen.
    """
    jobs = _view().where(Job.tenant_id == tenant_id).limit(limit)
    if states is not None:
        jobs = jobs.where(Job.state.in_(states))
    if custom_id is not None:
        jobs = jobs.where(Job.custom_id == custom_id)
    if batch_id is None and custom_id is not None:
        jobs = jobs.where(Job.id.in_(_known_as(tenant_id, custom_id)), Job.id > (after or 0)).order_by(Job.id)
    elif batch_id is None:
        jobs = jobs.where(Job.batch_id.is_(None), Job.id > (after or 0)).order_by(Job.id)
    else:
        jobs = jobs.where(Job.batch_id == batch_id).order_by(Job.line_no)
        if after is not None:
            seen = select(Job.line_no).where(Job.id == after, Job.batch_id == batch_id)
            jobs = jobs.where(Job.line_no > seen.scalar_subquery())
    return [_seen(row) for row in db.execute(jobs)]


def _known_as(tenant_id: str, custom_id: str) -> CompoundSelect[int]:
    """Ids of a tenant's jobs of one custom_id: each batch is asked, whose ids are indexed, and the rest."""
    known = select(Job.id).where(Job.custom_id == custom_id)
    of_tenant = select(Batch.id).where(Batch.tenant_id == tenant_id)
    single = known.where(Job.tenant_id == tenant_id, Job.batch_id.is_(None))
    return union_all(known.where(Job.batch_id.in_(of_tenant)), single)


def count_queued(db: Session, models: Collection[str], job_class: JobClass | None = None) -> int:
    """How many jobs wait for these models; its cost grows with the answer."""
    waiting = select(func.count()).where(Job.state == QUEUED, Job.model.in_(models))
    if job_class is not None:
        waiting = waiting.where(Job.job_class == job_class)
    return db.scalar(waiting) or 0


def _by_attempt(jobs: Sequence[ClaimedJob]) -> dict[int, list[int]]:
    ids: defaultdict[int, list[int]] = defaultdict(list)
    for job in sorted(jobs, key=lambda job: job.id):
        ids[job.attempt].append(job.id)
    return ids


_USAGE = (
    Result.prompt_tokens,
    Result.completion_tokens,
    Result.text_tokens,
    Result.image_tokens,
    Result.video_tokens,
    Result.audio_tokens,
    Result.cached_tokens,
    Result.prompt_seconds,
    Result.completion_seconds,
)
_SEEN = (
    Job.id,
    Job.batch_id,
    Job.line_no,
    Job.custom_id,
    Job.model,
    Job.endpoint,
    Job.job_class,
    Job.state,
    Job.attempt,
    Job.cancel_requested,
    Job.created_at,
    Job.finished_at,
    Result.body,
    Result.provenance,
)


def _view() -> Select[*tuple[Any, ...]]:
    return select(*_SEEN, *_USAGE).outerjoin(Result, Result.job_id == Job.id)


def _seen(row: AnyRow) -> JobView:
    seen = row._asdict()
    spent = {column.key: seen.pop(column.key) for column in _USAGE}
    body, provenance = seen.pop("body"), seen.pop("provenance")
    return JobView(
        **seen,
        result=orjson.loads(body) if body is not None else None,
        provenance=orjson.loads(provenance) if provenance is not None else None,
        usage=Usage(**spent) if body is not None else Usage(),
    )
