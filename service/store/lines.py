"""Manifest lines becoming jobs, thousands at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from service.contract.jobs import PayloadRef
from service.contract.lifecycle import JobClass, JobState
from service.errors import BadRequest, SluiceError
from service.store import lanes, results, wishes
from service.store.database import database_now
from service.store.lanes import LaneId
from service.store.progress import NO_WORKER_SHARD
from service.store.results import Ending
from service.store.tables import Batch, Job
from service.store.wishes import Wish


class NewLine(NamedTuple):
    """One line of a manifest: a request (`body` or `payload`), or the error that it failed with.

    line_no: from 1. model: as it stands in the catalogue; '' if the line names none that we know.
    """

    line_no: int
    custom_id: str | None = None
    model: str = ""
    body: bytes | None = None
    payload: PayloadRef | None = None
    error: SluiceError | None = None


@dataclass(frozen=True, slots=True)
class Inserted:
    """What became of the lines: both kinds are jobs now, and `failed` ones have ended."""

    queued: int
    failed: int


def insert_lines(db: Session, batch: Batch, lines: Sequence[NewLine]) -> Inserted:
    """Make jobs of a batch's next lines, in the transaction that moves its ingest offset.

    A line whose custom_id is taken becomes a failed job without one, and bad lines end at once; both have a result.
    """
    if not lines:
        return Inserted(0, 0)
    now = db.scalar(select(database_now()))
    assert now is not None
    wish = wishes.of(db, batch.id)
    numbered = list(zip(_new_job_ids(db, len(lines)), lines, strict=True))
    if _insert_jobs(db, batch, wish, numbered, now) < len(lines):
        numbered = _fail_duplicates(db, batch, wish, numbered, now)
    good = [(job_id, line) for job_id, line in numbered if line.error is None]
    failed = [(job_id, line) for job_id, line in numbered if line.error is not None]
    _insert_payloads(db, good)
    # Lanes before progress, as everywhere: two that lock in opposite orders would wait for each other.
    if not wish.is_paused:
        models = {line.model for _, line in good}
        lanes.open_for(db, {LaneId(batch.tenant_id, model, JobClass.BULK) for model in models})
    results.record(db, [_failure(batch.id, job_id, line, now) for job_id, line in failed], NO_WORKER_SHARD)
    return Inserted(queued=len(good), failed=len(failed))


_Numbered = tuple[int, NewLine]

# Columns with their types in PostgreSQL's COPY, and those that a whole chunk shares.
_VARYING = {
    "id": "int8",
    "line_no": "int4",
    "custom_id": "text",
    "model": "text",
    "state": "text",
    "finished_at": "float8",
}
_CONSTANT = {
    "batch_id": "text",
    "tenant_id": "text",
    "key_id": "text",
    "endpoint": "text",
    "job_class": "text",
    "priority": "int2",
    "reuse": "bool",
    "expires_at": "float8",
    "created_at": "float8",
}
_PAYLOAD = {"job_id": "int8", "body": "bytea", "blob": "text", "start": "int8", "length": "int8"}
_ALL = ", ".join(_VARYING | _CONSTANT)
_SKIP_TAKEN = "ON CONFLICT (batch_id, custom_id) DO NOTHING"

_SQLITE_INSERT = (
    f"INSERT INTO jobs ({_ALL}) VALUES ({', '.join('?' * len(_VARYING | _CONSTANT))}) {_SKIP_TAKEN}"
)
_POSTGRES_STAGE = (
    f"CREATE TEMPORARY TABLE IF NOT EXISTS incoming_lines"
    f" ({', '.join(f'{name} {kind}' for name, kind in _VARYING.items())}) ON COMMIT DELETE ROWS"
)
_POSTGRES_INSERT = text(
    f"INSERT INTO jobs ({_ALL})"
    f" SELECT {', '.join([*_VARYING, *(f'CAST(:{name} AS {kind})' for name, kind in _CONSTANT.items())])}"
    f" FROM incoming_lines ORDER BY line_no {_SKIP_TAKEN}"
)


def _new_job_ids(db: Session, number: int) -> Iterable[int]:
    if _is_sqlite(db):
        # The write lock is ours, and AUTOINCREMENT remembers ids of rows that were deleted.
        last = db.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")) or 0
        return range(last + 1, last + 1 + number)
    block = text("SELECT nextval('jobs_id_seq') FROM generate_series(1, :number)")
    return list(db.scalars(block, {"number": number}))


def _insert_jobs(db: Session, batch: Batch, wish: Wish, numbered: Sequence[_Numbered], now: float) -> int:
    """Insert those whose custom_id is free; returns how many."""
    queued, failed = ("held" if wish.is_paused else "queued", None), ("failed", now)
    varying = [
        (job_id, line.line_no, line.custom_id, line.model, *(queued if line.error is None else failed))
        for job_id, line in numbered
    ]
    constant = (
        batch.id,
        batch.tenant_id,
        batch.key_id,
        batch.endpoint,
        JobClass.BULK.value,
        wish.priority,
        batch.dedupe,
        batch.expires_at,
        now,
    )
    connection = db.connection()
    if _is_sqlite(db):
        return connection.exec_driver_sql(_SQLITE_INSERT, [row + constant for row in varying]).rowcount
    connection.exec_driver_sql(_POSTGRES_STAGE)
    _copy(db, "incoming_lines", _VARYING, varying)
    inserted = connection.execute(_POSTGRES_INSERT, dict(zip(_CONSTANT, constant, strict=True))).rowcount
    connection.exec_driver_sql("TRUNCATE incoming_lines")
    return inserted


def _fail_duplicates(
    db: Session, batch: Batch, wish: Wish, numbered: Sequence[_Numbered], now: float
) -> list[_Numbered]:
    """Insert the lines whose custom_id was taken as failed ones without it."""
    first, last = numbered[0][1].line_no, numbered[-1][1].line_no
    there = set(
        db.scalars(select(Job.line_no).where(Job.batch_id == batch.id, Job.line_no.between(first, last)))
    )
    failed = {
        job_id: line._replace(custom_id=None, error=line.error or _duplicate(line))
        for job_id, line in numbered
        if line.line_no not in there
    }
    _insert_jobs(db, batch, wish, list(failed.items()), now)
    return [(job_id, failed.get(job_id, line)) for job_id, line in numbered]


def _duplicate(line: NewLine) -> SluiceError:
    return BadRequest(
        f"An earlier line has the custom_id {line.custom_id!r} too.",
        param="custom_id",
        code="duplicate_custom_id",
        hint="Give every line of a manifest its own custom_id.",
    )


def _insert_payloads(db: Session, good: Sequence[_Numbered]) -> None:
    rows = [
        (job_id, line.body, *((p.blob, p.offset, p.length) if (p := line.payload) else (None, None, None)))
        for job_id, line in good
    ]
    if not rows:
        return
    if _is_sqlite(db):
        insert = f"INSERT INTO job_payloads ({', '.join(_PAYLOAD)}) VALUES (?, ?, ?, ?, ?)"
        db.connection().exec_driver_sql(insert, rows)
    else:
        _copy(db, "job_payloads", _PAYLOAD, rows)


def _copy(db: Session, table: str, columns: dict[str, str], rows: Iterable[tuple[Any, ...]]) -> None:
    connection = db.connection().connection.driver_connection
    assert connection is not None
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(list(columns.values()))
        for row in rows:
            copy.write_row(row)


def _failure(batch_id: str, job_id: int, line: NewLine, now: float) -> Ending:
    assert line.error is not None
    body = results.error_body(line.error) | {"line": line.line_no}
    return Ending(job_id, batch_id, JobState.FAILED, None, 0, now, body=body)


def _is_sqlite(db: Session) -> bool:
    return db.get_bind().dialect.name == "sqlite"
