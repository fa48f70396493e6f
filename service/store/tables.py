"""The whole schema. Times are seconds since 1970 by the database's clock; words are the contract's."""

import datetime
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Date,
    Enum,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from service.contract.callers import Role
from service.contract.lifecycle import BatchState, JobClass, JobStage, JobState, WorkerRole

DEFAULT_TENANT = "default"

Word = TypeVar("Word", bound=StrEnum)
Seconds = Float(53)
# SQLite counts rows by itself only in a column of the type INTEGER.
RowId = BigInteger().with_variant(Integer(), "sqlite")
ONE_OF_A_KIND = text("batch_id IS NULL AND state IN ('queued', 'backoff')")


def _word(words: type[Word]) -> Enum:
    return Enum(
        words,
        native_enum=False,
        create_constraint=False,
        length=16,
        values_callable=lambda e: [w.value for w in e],
    )


def _only(predicate: str) -> dict[str, Any]:
    return {"sqlite_where": text(predicate), "postgresql_where": text(predicate)}


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own spelling
        str: String(),
        float: Seconds,
        bytes: LargeBinary(),
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
        BatchState: _word(BatchState),
        JobClass: _word(JobClass),
        JobStage: _word(JobStage),
        JobState: _word(JobState),
        Role: _word(Role),
        WorkerRole: _word(WorkerRole),
    }


class Tenant(Base):
    """Who work belongs to. weight: its share of the workers against other tenants'.

    The quotas: None leaves them to the settings, -1 is no limit whatever the settings say.
    """

    __tablename__ = "tenants"
    id: Mapped[str] = mapped_column(primary_key=True)
    weight: Mapped[float] = mapped_column(default=1.0, server_default="1")
    requests_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    tokens_per_day: Mapped[int | None] = mapped_column(BigInteger)
    queued_jobs: Mapped[int | None] = mapped_column(BigInteger)
    stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[float]


class Key(Base):
    """An API key. Only its hash is kept; prefix: its first characters, which find it. last_used_at: to the minute."""

    __tablename__ = "keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    name: Mapped[str | None]
    prefix: Mapped[str] = mapped_column(index=True)
    sha256: Mapped[str]
    role: Mapped[Role] = mapped_column(default=Role.USER, server_default="user")
    created_at: Mapped[float]
    expires_at: Mapped[float | None]
    last_used_at: Mapped[float | None]
    revoked_at: Mapped[float | None]


class Worker(Base):
    """One process's life: a new row each boot. dead: its lease ended and its jobs were taken back."""

    __tablename__ = "workers"
    id: Mapped[str] = mapped_column(primary_key=True)
    node: Mapped[str]
    role: Mapped[WorkerRole]
    device: Mapped[str | None]
    lease_until: Mapped[float]
    dead: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    exit_cause: Mapped[str | None]
    started_at: Mapped[float]
    __table_args__ = (Index("ix_workers_alive", "lease_until", **_only("NOT dead")),)


class WorkerModel(Base):
    """A model that a worker loads (`loading`), serves (`ready`) or could not load (`failed`).

    facts: what the worker knows of a model that it serves, as `ModelFacts` writes it.
    """

    __tablename__ = "worker_models"
    worker_id: Mapped[str] = mapped_column(ForeignKey("workers.id"), primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[str | None]
    device: Mapped[str | None]
    state: Mapped[str]
    ready_at: Mapped[float | None]
    facts: Mapped[dict[str, Any] | None]


class Lane(Base):
    """One tenant's jobs of one class for one model. vtime: weighted tokens, besides those in `lane_charges`."""

    __tablename__ = "lanes"
    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    job_class: Mapped[JobClass] = mapped_column(primary_key=True)
    vtime: Mapped[float] = mapped_column(default=0.0, server_default="0")
    active: Mapped[bool] = mapped_column(Boolean)
    __table_args__ = (Index("ix_lanes_active", "model", "job_class", **_only("active")),)


class LaneCharge(Base):
    """Tokens that a lane has used, by the shard that counted them: one hot row would stall every worker."""

    __tablename__ = "lane_charges"
    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    job_class: Mapped[JobClass] = mapped_column(primary_key=True)
    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    tokens: Mapped[int] = mapped_column(BigInteger)


class File(Base):
    """An uploaded or written file; its bytes are the blob."""

    __tablename__ = "files"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    key_id: Mapped[str | None]
    filename: Mapped[str]
    purpose: Mapped[str]
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    blob: Mapped[str]
    created_at: Mapped[float]
    expires_at: Mapped[float | None]
    __table_args__ = (
        Index("ix_files_tenant", "tenant_id", "created_at", "id"),
        Index("ix_files_expiry", "expires_at", **_only("expires_at IS NOT NULL")),
    )


class Idempotency(Base):
    """What a client's Idempotency-Key made the first time it was used."""

    __tablename__ = "idempotency"
    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[str]
    object_id: Mapped[str]
    created_at: Mapped[float]
    __table_args__ = (Index("ix_idempotency_age", "created_at"),)


class Webhook(Base):
    """Where a tenant wants to hear of its batches. secret: `whsec_…`, which signs; the old one signs too for a while.

    claim: counts those who took it to deliver, the fence. failures: in a row. quiet_until: nobody takes it before.
    """

    __tablename__ = "webhooks"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    key_id: Mapped[str | None]
    name: Mapped[str]
    url: Mapped[str]
    event_types: Mapped[list[Any]]
    secret: Mapped[str]
    old_secret: Mapped[str | None]
    old_secret_until: Mapped[float | None]
    claim: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    failures: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    quiet_until: Mapped[float | None]
    created_at: Mapped[float]
    updated_at: Mapped[float]
    delivered_at: Mapped[float | None]
    failed_at: Mapped[float | None]
    last_error: Mapped[str | None]
    disabled_at: Mapped[float | None]
    __table_args__ = (Index("ix_webhooks_tenant", "tenant_id", "created_at", "id"),)


class WebhookDelivery(Base):
    """An event that a webhook has yet to hear of; the row goes when it has, or when we give up.

    No foreign key: a webhook that is deleted at this moment must not stop the batch that ends.
    """

    __tablename__ = "webhook_deliveries"
    id: Mapped[str] = mapped_column(primary_key=True)
    webhook_id: Mapped[str]
    event_type: Mapped[str]
    object_id: Mapped[str]
    attempts: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    created_at: Mapped[float]
    due_at: Mapped[float]
    __table_args__ = (
        Index("ix_webhook_deliveries_due", "due_at"),
        Index("ix_webhook_deliveries_webhook", "webhook_id", "due_at"),
    )


class Batch(Base):
    """Jobs from one manifest.

    ingest_offset: bytes of the manifest that became jobs. total: jobs so far; final once `ingested_at` is set.
    closed_at: every job is terminal, the files are to be written.
    sweep_line: how far the cancelling (or expiring) of its jobs has come, again from 0 until it is closed.
    wish_line: how far its waiting jobs know whether it is paused, and its priority; None: all of them do.
    token_budget: it stops once its results have used so many. retries: which jobs of `retry_of` it takes.
    """

    __tablename__ = "batches"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    key_id: Mapped[str | None]
    endpoint: Mapped[str]
    state: Mapped[BatchState]
    model: Mapped[str | None]
    priority: Mapped[int] = mapped_column(SmallInteger)
    manifest: Mapped[str]
    base_dir: Mapped[str | None]
    defaults: Mapped[dict[str, Any] | None]
    input_file_id: Mapped[str | None]
    output_file_id: Mapped[str | None]
    error_file_id: Mapped[str | None]
    completion_window: Mapped[str]
    user_metadata: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    errors: Mapped[list[Any] | None]
    retry_of: Mapped[str | None]
    retries: Mapped[dict[str, Any] | None]
    token_budget: Mapped[int | None] = mapped_column(BigInteger)
    ingest_offset: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    total: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    sweep_line: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    wish_line: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[float]
    ingest_moved_at: Mapped[float]
    ingested_at: Mapped[float | None]
    in_progress_at: Mapped[float | None]
    expires_at: Mapped[float | None]
    closed_at: Mapped[float | None]
    finalizing_at: Mapped[float | None]
    completed_at: Mapped[float | None]
    failed_at: Mapped[float | None]
    expired_at: Mapped[float | None]
    cancelling_at: Mapped[float | None]
    cancelled_at: Mapped[float | None]
    paused_at: Mapped[float | None]
    dedupe: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    output_expires_seconds: Mapped[int | None] = mapped_column(Integer)
    __table_args__ = (
        Index("ix_batches_tenant", "tenant_id", "created_at", "id"),
        Index(
            "ix_batches_open",
            "state",
            "id",
            **_only("state IN ('validating', 'in_progress', 'cancelling', 'finalizing')"),
        ),
        Index("ix_batches_wishing", "id", **_only("wish_line IS NOT NULL")),
    )


class Job(Base):
    """One request. No foreign keys: a check for each of a million rows would halve the ingest.

    attempt: times it was claimed; (owner, attempt) is the fence. failures: retryable errors, for backoff.
    crashes: 0 clean; 1 suspect, runs among few; 2 runs alone; more: also crashed alone (`recovery.py`).
    solo: claimed to run with no other row beside it. cancel_requested: to be stopped where it runs.
    reuse: an answer that an equal request has had may be given again.
    """

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    batch_id: Mapped[str | None]
    line_no: Mapped[int | None] = mapped_column(Integer)
    custom_id: Mapped[str | None]
    tenant_id: Mapped[str]
    key_id: Mapped[str | None]
    model: Mapped[str]
    endpoint: Mapped[str]
    job_class: Mapped[JobClass]
    priority: Mapped[int] = mapped_column(SmallInteger)
    state: Mapped[JobState]
    attempt: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    failures: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    crashes: Mapped[int] = mapped_column(SmallInteger, default=0, server_default="0")
    stage: Mapped[JobStage | None]
    solo: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    streams: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    reuse: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    cancel_requested: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    owner: Mapped[str | None]
    run_at: Mapped[float | None]
    expires_at: Mapped[float | None]
    created_at: Mapped[float]
    finished_at: Mapped[float | None]
    __table_args__ = (
        UniqueConstraint("batch_id", "line_no", name="uq_jobs_line"),
        UniqueConstraint("batch_id", "custom_id", name="uq_jobs_custom_id"),
        Index(
            "ix_jobs_ready",
            "model",
            "job_class",
            "tenant_id",
            "priority",
            "id",
            **_only("state = 'queued' AND crashes = 0"),
        ),
        Index("ix_jobs_suspect", "model", "crashes", "id", **_only("state = 'queued' AND crashes > 0")),
        Index("ix_jobs_owner", "owner", **_only("state = 'running'")),
        Index("ix_jobs_wait", "run_at", **_only("state = 'backoff'")),
        Index("ix_jobs_held", "batch_id", "line_no", "job_class", **_only("state = 'held'")),
        Index("ix_jobs_single", "tenant_id", "id", **_only("batch_id IS NULL")),
        Index(
            "ix_jobs_single_custom_id",
            "tenant_id",
            "custom_id",
            **_only("batch_id IS NULL AND custom_id IS NOT NULL"),
        ),
        Index("ix_jobs_expiry", "expires_at", sqlite_where=ONE_OF_A_KIND, postgresql_where=ONE_OF_A_KIND),
        {
            "sqlite_autoincrement": True,
            "postgresql_with": {"fillfactor": 85, "autovacuum_vacuum_scale_factor": 0.01},
        },
    )


class JobPayload(Base):
    """A job's request: JSON bytes, or bytes [start, start + length) of a blob."""

    __tablename__ = "job_payloads"
    job_id: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=False)
    body: Mapped[bytes | None]
    blob: Mapped[str | None]
    start: Mapped[int | None] = mapped_column(BigInteger)
    length: Mapped[int | None] = mapped_column(BigInteger)


class Result(Base):
    """How a job ended: a response body for succeeded, an error object for failed and dead.

    (batch_id, shard, seq) is the order of commits within a shard, which a reader can follow without a gap.
    """

    __tablename__ = "results"
    job_id: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=False)
    batch_id: Mapped[str | None]
    shard: Mapped[int] = mapped_column(SmallInteger)
    seq: Mapped[int] = mapped_column(BigInteger)
    owner: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(SmallInteger)
    body: Mapped[bytes]
    provenance: Mapped[bytes | None]
    prompt_tokens: Mapped[int] = mapped_column(Integer, default=0)
    completion_tokens: Mapped[int] = mapped_column(Integer, default=0)
    text_tokens: Mapped[int] = mapped_column(Integer, default=0)
    image_tokens: Mapped[int] = mapped_column(Integer, default=0)
    video_tokens: Mapped[int] = mapped_column(Integer, default=0)
    audio_tokens: Mapped[int] = mapped_column(Integer, default=0)
    cached_tokens: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    prompt_seconds: Mapped[float] = mapped_column(default=0.0)
    completion_seconds: Mapped[float] = mapped_column(default=0.0)
    finished_at: Mapped[float]
    __table_args__ = (UniqueConstraint("batch_id", "shard", "seq", name="uq_results_seq"),)


class Answer(Base):
    """Which job has answered a request like this one. digest: of all that decides the answer (`equal_requests.py`)."""

    __tablename__ = "answers"
    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(RowId)
    created_at: Mapped[float] = mapped_column(index=True)


class Preflight(Base):
    """A batch whose lines are looked at and not run. sample: how many of them are measured. scan: what was found."""

    __tablename__ = "preflights"
    batch_id: Mapped[str] = mapped_column(primary_key=True)
    sample: Mapped[int] = mapped_column(Integer)
    scan: Mapped[dict[str, Any] | None]


class BatchProgress(Base):
    """How many of a batch's jobs ended and how, by shard. seq: the last one given to a result."""

    __tablename__ = "batch_progress"
    batch_id: Mapped[str] = mapped_column(primary_key=True)
    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger)
    succeeded: Mapped[int] = mapped_column(BigInteger)
    failed: Mapped[int] = mapped_column(BigInteger)
    dead: Mapped[int] = mapped_column(BigInteger)
    cancelled: Mapped[int] = mapped_column(BigInteger)
    expired: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    __table_args__ = ({"postgresql_with": {"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0.01}},)


class Usage(Base):
    """Tokens of answered requests by day (UTC). key_id: '' where no key was used."""

    __tablename__ = "usage"
    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[datetime.date] = mapped_column(Date, primary_key=True)
    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    requests: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    image_tokens: Mapped[int] = mapped_column(BigInteger)
    video_tokens: Mapped[int] = mapped_column(BigInteger)
    audio_tokens: Mapped[int] = mapped_column(BigInteger)
    __table_args__ = (
        Index("ix_usage_day", "tenant_id", "day"),
        {"postgresql_with": {"fillfactor": 70}},
    )
