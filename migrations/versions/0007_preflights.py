"""Batches that are measured instead of run."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "preflights",
        sa.Column("batch_id", sa.String(), nullable=False),
        sa.Column("sample", sa.Integer(), nullable=False),
        sa.Column("scan", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("batch_id"),
    )


def downgrade() -> None:
    # Their batches would be run, or shown, by a service that does not know what they are.
    for table in ("results", "batch_progress"):
        op.execute(f"DELETE FROM {table} WHERE batch_id IN (SELECT batch_id FROM preflights)")
    jobs = "SELECT id FROM jobs WHERE batch_id IN (SELECT batch_id FROM preflights)"
    op.execute(f"DELETE FROM job_payloads WHERE job_id IN ({jobs})")
    for column, table in (("batch_id", "jobs"), ("id", "batches")):
        op.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT batch_id FROM preflights)")
    op.drop_table("preflights")
