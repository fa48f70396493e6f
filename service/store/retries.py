"""Retries: a batch whose lines are what another one, which has ended, did not answer."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Select, and_, exists, insert, literal, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from service.contract.lifecycle import JobClass, JobState
from service.store import lanes, wishes
from service.store.database import AnyRow, database_now
from service.store.lanes import LaneId
from service.store.tables import Batch, Job, JobPayload, Result

UNANSWERED = (JobState.FAILED, JobState.DEAD, JobState.EXPIRED, JobState.CANCELLED)
# As `results` writes errors; inside a string it could not stand like this, for its quotes would be escaped.
RETRYABLE = b'"retryable":true'

FailedLine: TypeAlias = AnyRow


@dataclass(frozen=True, slots=True)
class Retries:
    """Which jobs of a batch are tried again. only_retryable: not those whose error says that a retry cannot help."""

    states: tuple[JobState, ...] = UNANSWERED
    only_retryable: bool = False

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> "Retries":
        """Read the column `batches.retries`."""
        return cls(tuple(JobState(state) for state in kept["states"]), kept["only_retryable"])

    def as_dict(self) -> dict[str, Any]:
        """The column `batches.retries`."""
        return {"states": list(self.states), "only_retryable": self.only_retryable}


def any_lines(db: Session, parent_id: str, wanted: Retries) -> bool:
    """Whether a batch has a job to try again. A line that never became a request is none."""
    return bool(db.scalar(select(exists(_lines(parent_id, wanted).with_only_columns(Job.id)))))


def next_lines(
    db: Session, parent_id: str, wanted: Retries, after_line: int, limit: int
) -> Sequence[FailedLine]:
    """The next jobs of a batch to be tried again, with their lines and models."""
    lines = _lines(parent_id, wanted).where(Job.line_no > after_line)
    return db.execute(lines.order_by(Job.line_no).limit(limit)).all()


def copy_lines(db: Session, child: Batch, lines: Sequence[FailedLine]) -> None:
    """Make jobs of a child batch's next lines, in the transaction that moves its ingest."""
    wish = wishes.of(db, child.id)
    sources = [line.id for line in lines]
    _copy_jobs(db, child, wish, sources)
    _copy_payloads(db, child.id, sources)
    if not wish.is_paused:
        lanes.open_for(db, {LaneId(child.tenant_id, line.model, JobClass.BULK) for line in lines})


def _lines(parent_id: str, wanted: Retries) -> Select[int, int | None, str]:
    # A job without a payload was a line that could not be read.
    lines = (
        select(Job.id, Job.line_no, Job.model)
        .join(JobPayload, JobPayload.job_id == Job.id)
        .where(Job.batch_id == parent_id, Job.state.in_(wanted.states))
    )
    if not wanted.only_retryable:
        return lines
    never_ran = Job.state.in_((JobState.CANCELLED, JobState.EXPIRED))
    can_help = exists().where(Result.job_id == Job.id, has_bytes(Result.body, literal(RETRYABLE)))
    return lines.where(or_(never_ran, can_help))


def _copy_jobs(db: Session, child: Batch, wish: wishes.Wish, sources: Collection[int]) -> None:
    own = {
        "batch_id": child.id,
        "tenant_id": child.tenant_id,
        "key_id": child.key_id,
        "job_class": JobClass.BULK,
        "priority": wish.priority,
        "state": JobState.HELD if wish.is_paused else JobState.QUEUED,
        "expires_at": child.expires_at,
    }
    kept = (Job.line_no, Job.custom_id, Job.model, Job.endpoint, Job.reuse)
    values = [literal(value, getattr(Job, name).type) for name, value in own.items()]
    copies = select(*values, database_now(), *kept).where(Job.id.in_(sources)).order_by(Job.line_no)
    names = [*own, "created_at", *(column.key for column in kept)]
    db.execute(insert(Job).from_select(names, copies))


def _copy_payloads(db: Session, child_id: str, sources: Collection[int]) -> None:
    ours, theirs = aliased(Job), aliased(Job)
    copies = (
        select(ours.id, JobPayload.body, JobPayload.blob, JobPayload.start, JobPayload.length)
        .join_from(theirs, ours, and_(ours.line_no == theirs.line_no, ours.batch_id == child_id))
        .join(JobPayload, JobPayload.job_id == theirs.id)
        .where(theirs.id.in_(sources))
    )
    names = ["job_id", "body", "blob", "start", "length"]
    db.execute(insert(JobPayload).from_select(names, copies))


class has_bytes(FunctionElement[bool]):  # noqa: N801 - it reads as the SQL function that it is
    """Whether bytes hold other bytes."""

    inherit_cache = True


@compiles(has_bytes, "sqlite")
def _sqlite_has(element: has_bytes, compiler: SQLCompiler, **kw: Any) -> str:
    return f"instr({compiler.process(element.clauses, **kw)}) > 0"


@compiles(has_bytes, "postgresql")
def _postgres_has(element: has_bytes, compiler: SQLCompiler, **kw: Any) -> str:
    where, what = element.clauses
    return f"position({compiler.process(what, **kw)} IN {compiler.process(where, **kw)}) > 0"
