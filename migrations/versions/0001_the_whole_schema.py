"""The whole schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# Those that others refer to last.
TABLES = (
    "worker_models",
    "keys",
    "files",
    "batches",
    "workers",
    "usage",
    "tenants",
    "results",
    "lanes",
    "lane_charges",
    "jobs",
    "job_payloads",
    "idempotency",
    "batch_progress",
)


def upgrade() -> None:
    op.create_table(
        "batch_progress",
        sa.Column("batch_id", sa.String(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("succeeded", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("dead", sa.BigInteger(), nullable=False),
        sa.Column("cancelled", sa.BigInteger(), nullable=False),
        sa.Column("expired", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "shard"),
        postgresql_with={"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0.01},
    )
    op.create_table(
        "idempotency",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("body_sha256", sa.String(), nullable=False),
        sa.Column("object_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "route", "key"),
    )
    op.create_table(
        "job_payloads",
        sa.Column(
            "job_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("blob", sa.String(), nullable=True),
        sa.Column("start", sa.BigInteger(), nullable=True),
        sa.Column("length", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("batch_id", sa.String(), nullable=True),
        sa.Column("line_no", sa.Integer(), nullable=True),
        sa.Column("custom_id", sa.String(), nullable=True),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column(
            "job_class",
            sa.Enum("chat", "bulk", name="jobclass", native_enum=False, length=16),
            nullable=False,
        ),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "queued",
                "running",
                "backoff",
                "succeeded",
                "failed",
                "cancelled",
                "expired",
                "dead",
                name="jobstate",
                native_enum=False,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("attempt", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("failures", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("crashes", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column(
            "stage",
            sa.Enum("claimed", "started", name="jobstage", native_enum=False, length=16),
            nullable=True,
        ),
        sa.Column("solo", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("streams", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("run_at", sa.Float(precision=53), nullable=True),
        sa.Column("expires_at", sa.Float(precision=53), nullable=True),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("finished_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("batch_id", "custom_id", name="uq_jobs_custom_id"),
        sa.UniqueConstraint("batch_id", "line_no", name="uq_jobs_line"),
        postgresql_with={"fillfactor": 85, "autovacuum_vacuum_scale_factor": 0.01},
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(
            "ix_jobs_expiry",
            ["expires_at"],
            unique=False,
            sqlite_where=sa.text("batch_id IS NULL AND state IN ('queued', 'backoff')"),
            postgresql_where=sa.text("batch_id IS NULL AND state IN ('queued', 'backoff')"),
        )
        batch_op.create_index(
            "ix_jobs_owner",
            ["owner"],
            unique=False,
            sqlite_where=sa.text("state = 'running'"),
            postgresql_where=sa.text("state = 'running'"),
        )
        batch_op.create_index(
            "ix_jobs_ready",
            ["model", "job_class", "tenant_id", "priority", "id"],
            unique=False,
            sqlite_where=sa.text("state = 'queued' AND crashes = 0"),
            postgresql_where=sa.text("state = 'queued' AND crashes = 0"),
        )
        batch_op.create_index(
            "ix_jobs_single",
            ["tenant_id", "id"],
            unique=False,
            sqlite_where=sa.text("batch_id IS NULL"),
            postgresql_where=sa.text("batch_id IS NULL"),
        )
        batch_op.create_index(
            "ix_jobs_suspect",
            ["model", "crashes", "id"],
            unique=False,
            sqlite_where=sa.text("state = 'queued' AND crashes > 0"),
            postgresql_where=sa.text("state = 'queued' AND crashes > 0"),
        )
        batch_op.create_index(
            "ix_jobs_wait",
            ["run_at"],
            unique=False,
            sqlite_where=sa.text("state = 'backoff'"),
            postgresql_where=sa.text("state = 'backoff'"),
        )

    op.create_table(
        "lane_charges",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column(
            "job_class",
            sa.Enum("chat", "bulk", name="jobclass", native_enum=False, length=16),
            nullable=False,
        ),
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "model", "job_class", "shard"),
    )
    op.create_table(
        "lanes",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column(
            "job_class",
            sa.Enum("chat", "bulk", name="jobclass", native_enum=False, length=16),
            nullable=False,
        ),
        sa.Column("vtime", sa.Float(precision=53), server_default="0", nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "model", "job_class"),
    )
    with op.batch_alter_table("lanes", schema=None) as batch_op:
        batch_op.create_index(
            "ix_lanes_active",
            ["model", "job_class"],
            unique=False,
            sqlite_where=sa.text("active"),
            postgresql_where=sa.text("active"),
        )

    op.create_table(
        "results",
        sa.Column(
            "job_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("batch_id", sa.String(), nullable=True),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("provenance", sa.LargeBinary(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("text_tokens", sa.Integer(), nullable=False),
        sa.Column("image_tokens", sa.Integer(), nullable=False),
        sa.Column("video_tokens", sa.Integer(), nullable=False),
        sa.Column("audio_tokens", sa.Integer(), nullable=False),
        sa.Column("prompt_seconds", sa.Float(precision=53), nullable=False),
        sa.Column("completion_seconds", sa.Float(precision=53), nullable=False),
        sa.Column("finished_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("job_id"),
        sa.UniqueConstraint("batch_id", "shard", "seq", name="uq_results_seq"),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("weight", sa.Float(precision=53), server_default="1", nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "usage",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("image_tokens", sa.BigInteger(), nullable=False),
        sa.Column("video_tokens", sa.BigInteger(), nullable=False),
        sa.Column("audio_tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "key_id", "model", "day", "shard"),
        postgresql_with={"fillfactor": 70},
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("node", sa.String(), nullable=False),
        sa.Column(
            "role", sa.Enum("io", "engine", name="workerrole", native_enum=False, length=16), nullable=False
        ),
        sa.Column("device", sa.String(), nullable=True),
        sa.Column("lease_until", sa.Float(precision=53), nullable=False),
        sa.Column("dead", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("exit_cause", sa.String(), nullable=True),
        sa.Column("started_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.create_index(
            "ix_workers_alive",
            ["lease_until"],
            unique=False,
            sqlite_where=sa.text("NOT dead"),
            postgresql_where=sa.text("NOT dead"),
        )

    op.create_table(
        "batches",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "validating",
                "failed",
                "in_progress",
                "finalizing",
                "completed",
                "expired",
                "cancelling",
                "cancelled",
                name="batchstate",
                native_enum=False,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("manifest", sa.String(), nullable=False),
        sa.Column("base_dir", sa.String(), nullable=True),
        sa.Column("defaults", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("input_file_id", sa.String(), nullable=True),
        sa.Column("output_file_id", sa.String(), nullable=True),
        sa.Column("error_file_id", sa.String(), nullable=True),
        sa.Column("completion_window", sa.String(), nullable=False),
        sa.Column("metadata", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("errors", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("retry_of", sa.String(), nullable=True),
        sa.Column("ingest_offset", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("sweep_line", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("ingest_moved_at", sa.Float(precision=53), nullable=False),
        sa.Column("ingested_at", sa.Float(precision=53), nullable=True),
        sa.Column("in_progress_at", sa.Float(precision=53), nullable=True),
        sa.Column("expires_at", sa.Float(precision=53), nullable=True),
        sa.Column("closed_at", sa.Float(precision=53), nullable=True),
        sa.Column("finalizing_at", sa.Float(precision=53), nullable=True),
        sa.Column("completed_at", sa.Float(precision=53), nullable=True),
        sa.Column("failed_at", sa.Float(precision=53), nullable=True),
        sa.Column("expired_at", sa.Float(precision=53), nullable=True),
        sa.Column("cancelling_at", sa.Float(precision=53), nullable=True),
        sa.Column("cancelled_at", sa.Float(precision=53), nullable=True),
        sa.Column("paused_at", sa.Float(precision=53), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenants.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("batches", schema=None) as batch_op:
        batch_op.create_index(
            "ix_batches_open",
            ["state", "id"],
            unique=False,
            sqlite_where=sa.text("state IN ('validating', 'in_progress', 'cancelling', 'finalizing')"),
            postgresql_where=sa.text("state IN ('validating', 'in_progress', 'cancelling', 'finalizing')"),
        )
        batch_op.create_index("ix_batches_tenant", ["tenant_id", "created_at", "id"], unique=False)

    op.create_table(
        "files",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False),
        sa.Column("blob", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("expires_at", sa.Float(precision=53), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenants.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("files", schema=None) as batch_op:
        batch_op.create_index("ix_files_tenant", ["tenant_id", "created_at", "id"], unique=False)

    op.create_table(
        "keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("revoked_at", sa.Float(precision=53), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenants.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("keys", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_keys_prefix"), ["prefix"], unique=False)

    op.create_table(
        "worker_models",
        sa.Column("worker_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("revision", sa.String(), nullable=True),
        sa.Column("device", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("ready_at", sa.Float(precision=53), nullable=True),
        sa.ForeignKeyConstraint(
            ["worker_id"],
            ["workers.id"],
        ),
        sa.PrimaryKeyConstraint("worker_id", "model"),
    )
    op.execute(f"INSERT INTO tenants (id, weight, created_at) VALUES ('default', 1, {_now()})")


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)


def _now() -> str:
    if op.get_bind().dialect.name == "sqlite":
        return "unixepoch('subsec')"
    return "extract(epoch FROM statement_timestamp())"
