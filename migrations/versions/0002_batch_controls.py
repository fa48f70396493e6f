"""Batches that pause, change their priority, stop at a token budget or retry another's lines."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

HELD = sa.text("state = 'held'")
WISHING = sa.text("wish_line IS NOT NULL")


def upgrade() -> None:
    op.add_column("batches", sa.Column("wish_line", sa.BigInteger(), nullable=True))
    op.add_column("batches", sa.Column("token_budget", sa.BigInteger(), nullable=True))
    op.add_column("batches", sa.Column("retries", sa.JSON(none_as_null=True), nullable=True))
    op.create_index("ix_batches_wishing", "batches", ["id"], sqlite_where=WISHING, postgresql_where=WISHING)
    held = ["batch_id", "line_no", "job_class"]
    op.create_index("ix_jobs_held", "jobs", held, sqlite_where=HELD, postgresql_where=HELD)


def downgrade() -> None:
    # The code before this knows no held jobs, and nobody would ever take them.
    op.execute("UPDATE jobs SET state = 'queued' WHERE state = 'held'")
    op.drop_index("ix_jobs_held", table_name="jobs")
    op.drop_index("ix_batches_wishing", table_name="batches")
    for column in ("retries", "token_budget", "wish_line"):
        op.drop_column("batches", column)
