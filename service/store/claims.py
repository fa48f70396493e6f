"""Claiming: how queued jobs become a worker's own.

Jobs that were being handled when a worker died are suspects. They run apart, in smaller and smaller company
(64, 8, 1), so that a job which kills its worker is found without blaming its neighbours:

    crashes  0      clean: claimed lane by lane
             1      suspect: claimed at most 8 at a time, by a worker that holds nothing else
             2..4   solo: claimed alone, by a worker that holds nothing else, chat included
             5      has crashed three times alone: dead (`recovery.py`)
"""

from collections import Counter
from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.orm import Session, aliased

from service.contract.jobs import ClaimedJob, PayloadRef, WorkerId
from service.contract.lifecycle import JobClass, JobStage, JobState
from service.store import lanes, wishes
from service.store.database import AnyRow, database_now
from service.store.lanes import LaneId
from service.store.progress import shard_of
from service.store.states import QUEUED, RUNNING, SUSPECT
from service.store.tables import Job, JobPayload, Worker, WorkerModel

SUSPECT_GROUP = 8
SOLO_CRASHES = 2
# What a claimed job is charged until its tokens are known: without it a lane could take every slot
# before its first job ends.
CLAIM_CHARGE_TOKENS = 256


def claim(
    db: Session, *, models: Collection[str], owner: WorkerId, limit: int, job_class: JobClass | None = None
) -> list[ClaimedJob]:
    """Take up to `limit` jobs: chat before bulk, then the lane whose turn it is, priority, age.

    Suspects go first, whatever their class, as soon as the worker holds nothing else. A worker without a live
    lease, one that runs suspects, and the one chosen to run waiting suspects next gets nothing.
    An empty answer does not prove an empty queue: other workers may hold the rows we skipped.
    """
    if limit < 1 or not models or not _has_live_lease(db, owner):
        return []
    num_held, runs_suspects = _held(db, owner)
    if runs_suspects:
        return []
    if (crashes := _worst_waiting_suspect(db, models)) is not None:
        if num_held == 0 and (suspects := _claim_suspects(db, models, owner, limit, crashes)):
            return _with_payloads(db, suspects, owner)
        if num_held > 0 and _is_first_of_its_models(db, models, owner):
            return []  # finish what we hold, then take the suspects
    return _with_payloads(db, _claim_in_turn(db, models, owner, limit, job_class), owner)


def _has_live_lease(db: Session, owner: WorkerId) -> bool:
    # Locked, so that the reaper cannot declare us dead while we take jobs.
    alive = select(Worker.id).where(Worker.id == owner, ~Worker.dead, Worker.lease_until > database_now())
    return db.execute(alive.with_for_update()).first() is not None


def _held(db: Session, owner: WorkerId) -> tuple[int, bool]:
    held = select(func.count(), func.coalesce(func.max(Job.crashes), 0)).where(
        Job.state == RUNNING, Job.owner == owner
    )
    num_held, most_crashes = db.execute(held).one()
    return num_held, most_crashes > 0


def _worst_waiting_suspect(db: Session, models: Collection[str]) -> int | None:
    suspects = select(func.max(Job.crashes)).where(Job.state == QUEUED, SUSPECT, Job.model.in_(models))
    return db.scalar(suspects)


def _is_first_of_its_models(db: Session, models: Collection[str], owner: WorkerId) -> bool:
    """Whether no other live worker with these models has a smaller id. One worker makes room for suspects."""
    other = aliased(Worker)
    earlier = exists().where(
        WorkerModel.worker_id == other.id,
        WorkerModel.model.in_(models),
        WorkerModel.state == "ready",
        ~other.dead,
        other.lease_until > database_now(),
        other.id < owner,
    )
    return not db.scalar(select(earlier))


def _claim_suspects(
    db: Session, models: Collection[str], owner: WorkerId, limit: int, crashes: int
) -> Sequence[AnyRow]:
    solo = crashes >= SOLO_CRASHES
    group = [Job.state == QUEUED, Job.crashes == crashes, SUSPECT, Job.model.in_(models)]
    return _take(db, group, owner, 1 if solo else min(limit, SUSPECT_GROUP), solo=solo)


def _claim_in_turn(
    db: Session, models: Collection[str], owner: WorkerId, limit: int, job_class: JobClass | None
) -> list[AnyRow]:
    taken: list[AnyRow] = []
    charges: Counter[LaneId] = Counter()
    for lane in lanes.in_turn(db, models, job_class):
        rows = _take(db, lane.queued_jobs(), owner, limit - len(taken), solo=False)
        charges[lane] = len(rows) * CLAIM_CHARGE_TOKENS
        taken.extend(rows)
        if len(taken) == limit:
            break
        lanes.close_if_empty(db, lane)
    lanes.charge(db, charges, shard_of(owner))
    return taken


def _take(
    db: Session, which: list[ColumnElement[bool]], owner: WorkerId, limit: int, *, solo: bool
) -> Sequence[AnyRow]:
    ready = (
        select(Job.id)
        .where(*which)
        .order_by(Job.priority, Job.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("ready")
        # Computed once: inlined, PostgreSQL may evaluate it again for each row and take more than the limit.
        .prefix_with("MATERIALIZED")
    )
    taken = (
        update(Job)
        .where(Job.id.in_(select(ready.c.id)))
        .values(
            state=JobState.RUNNING, owner=owner, attempt=Job.attempt + 1, stage=JobStage.CLAIMED, solo=solo
        )
        .returning(*_CLAIMED_COLUMNS)
        .execution_options(synchronize_session=False)
    )
    wanted = wishes.keep_wanted(db, db.execute(taken).all())
    return sorted(wanted, key=lambda row: (row.priority, row.id))


_CLAIMED_COLUMNS = (
    Job.id,
    Job.attempt,
    Job.batch_id,
    Job.tenant_id,
    Job.key_id,
    Job.model,
    Job.endpoint,
    Job.job_class,
    Job.priority,
    Job.custom_id,
    Job.line_no,
    Job.solo,
    Job.crashes,
    Job.streams,
    Job.reuse,
    (database_now() - Job.created_at).label("queued_seconds"),
)


def _with_payloads(db: Session, rows: Sequence[AnyRow], owner: WorkerId) -> list[ClaimedJob]:
    if not rows:
        return []
    columns = (JobPayload.job_id, JobPayload.body, JobPayload.blob, JobPayload.start, JobPayload.length)
    found = db.execute(select(*columns).where(JobPayload.job_id.in_([row.id for row in rows])))
    payloads = {payload.job_id: payload for payload in found}
    return [_claimed(row, payloads[row.id], owner) for row in rows]


def _claimed(row: AnyRow, payload: AnyRow, owner: WorkerId) -> ClaimedJob:
    where = PayloadRef(payload.blob, payload.start, payload.length) if payload.blob is not None else None
    return ClaimedJob(**row._asdict(), owner=owner, body=payload.body, payload=where)
