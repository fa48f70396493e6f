"""Lanes: whose turn it is. The active lane with the lowest virtual time goes first.

A lane's virtual time is its `vtime` plus the tokens charged to it, divided by its tenant's weight.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, exists, func, select, true, update
from sqlalchemy.orm import Session

from service.contract.lifecycle import JobClass
from service.store.database import insert_into
from service.store.states import CLEAN, QUEUED
from service.store.tables import Job, Lane, LaneCharge, Tenant


class LaneId(NamedTuple):
    """One tenant's jobs of one class for one model."""

    tenant_id: str
    model: str
    job_class: JobClass

    def queued_jobs(self) -> list[ColumnElement[bool]]:
        """The jobs that wait in this lane, suspects apart (they are claimed by other rules)."""
        return [
            Job.state == QUEUED,
            CLEAN,
            Job.model == self.model,
            Job.job_class == self.job_class,
            Job.tenant_id == self.tenant_id,
        ]

    def _row(self) -> ColumnElement[bool]:
        return and_(
            Lane.tenant_id == self.tenant_id, Lane.model == self.model, Lane.job_class == self.job_class
        )


@dataclass(frozen=True, slots=True)
class _Standing:
    lane: LaneId
    vtime: float
    charged: float

    @property
    def total(self) -> float:
        return self.vtime + self.charged


def in_turn(db: Session, models: Collection[str], job_class: JobClass | None = None) -> list[LaneId]:
    """The active lanes of these models: chat before bulk, then by virtual time."""
    wanted = [Lane.active, Lane.model.in_(models)]
    if job_class is not None:
        wanted.append(Lane.job_class == job_class)
    standings = _standings(db, and_(*wanted))
    standings.sort(key=lambda s: (s.lane.job_class is not JobClass.CHAT, s.total, s.lane))
    return [standing.lane for standing in standings]


def open_for(db: Session, lanes: Iterable[LaneId]) -> None:
    """Make lanes active, in the transaction that queues jobs in them.

    The share lock keeps `close_if_empty` from closing a lane whose new jobs it cannot see yet.
    """
    for lane in sorted(set(lanes)):
        held = select(Lane.tenant_id).where(lane._row(), Lane.active).with_for_update(read=True)
        if db.execute(held).first() is None:
            _activate(db, lane)


def close_if_empty(db: Session, lane: LaneId) -> None:
    """Stop looking into a lane that has no queued job left."""
    mine = select(Lane.tenant_id).where(lane._row(), Lane.active).with_for_update(skip_locked=True)
    if db.execute(mine).first() is None:
        return
    # A statement of its own: it sees what committed before we got the lock.
    if not db.scalar(select(exists().where(*lane.queued_jobs()))):
        db.execute(update(Lane).where(lane._row()).values(active=False))


def reopen_forgotten(db: Session) -> int:
    """Activate idle lanes that have queued jobs all the same; returns how many. A net, not a path."""
    waiting = exists().where(
        Job.state == QUEUED,
        CLEAN,
        Job.model == Lane.model,
        Job.job_class == Lane.job_class,
        Job.tenant_id == Lane.tenant_id,
    )
    idle = db.execute(select(Lane.tenant_id, Lane.model, Lane.job_class).where(~Lane.active, waiting)).all()
    open_for(db, (LaneId(*row) for row in idle))
    return len(idle)


def charge(db: Session, tokens: Mapping[LaneId, int], shard: int) -> None:
    """Count tokens against lanes; negative ones correct an earlier guess."""
    rows = [
        {"tenant_id": lane.tenant_id, "model": lane.model, "job_class": lane.job_class}
        | {"shard": shard, "tokens": tokens[lane]}
        for lane in sorted(tokens)
        if tokens[lane]
    ]
    if not rows:
        return
    added = insert_into(db, LaneCharge)
    db.execute(
        added.on_conflict_do_update(
            index_elements=["tenant_id", "model", "job_class", "shard"],
            set_={"tokens": LaneCharge.tokens + added.excluded.tokens},
        ),
        rows,
    )


def _activate(db: Session, lane: LaneId) -> None:
    # An idle lane joins where the others are: its idle time is no credit against them.
    own = next(iter(_standings(db, lane._row())), _Standing(lane, 0.0, 0.0))
    peers = _standings(db, and_(Lane.active, Lane.model == lane.model, Lane.job_class == lane.job_class))
    floor = min((peer.total for peer in peers), default=0.0)
    row = insert_into(db, Lane).values(
        tenant_id=lane.tenant_id,
        model=lane.model,
        job_class=lane.job_class,
        vtime=max(own.vtime, floor - own.charged),
        active=True,
    )
    db.execute(
        row.on_conflict_do_update(
            index_elements=["tenant_id", "model", "job_class"],
            set_={"vtime": row.excluded.vtime, "active": true()},
        )
    )


def _standings(db: Session, which: ColumnElement[bool]) -> list[_Standing]:
    charged = func.coalesce(func.sum(LaneCharge.tokens), 0) / func.coalesce(func.max(Tenant.weight), 1.0)
    rows = db.execute(
        select(Lane.tenant_id, Lane.model, Lane.job_class, Lane.vtime, charged.label("charged"))
        .outerjoin(
            LaneCharge,
            and_(
                LaneCharge.tenant_id == Lane.tenant_id,
                LaneCharge.model == Lane.model,
                LaneCharge.job_class == Lane.job_class,
            ),
        )
        .outerjoin(Tenant, Tenant.id == Lane.tenant_id)
        .where(which)
        .group_by(Lane.tenant_id, Lane.model, Lane.job_class, Lane.vtime)
    )
    return [
        _Standing(LaneId(row.tenant_id, row.model, row.job_class), row.vtime, float(row.charged))
        for row in rows
    ]
