"""What a result cost, and where it came from."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

SINGLES_WITH_A_NAME = sa.text("batch_id IS NULL AND custom_id IS NOT NULL")


def upgrade() -> None:
    op.add_column("results", sa.Column("cached_tokens", sa.Integer, nullable=False, server_default="0"))
    op.add_column(
        "batch_progress", sa.Column("cached_tokens", sa.BigInteger, nullable=False, server_default="0")
    )
    op.create_index(
        "ix_jobs_single_custom_id",
        "jobs",
        ["tenant_id", "custom_id"],
        sqlite_where=SINGLES_WITH_A_NAME,
        postgresql_where=SINGLES_WITH_A_NAME,
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_single_custom_id", "jobs")
    op.drop_column("batch_progress", "cached_tokens")
    op.drop_column("results", "cached_tokens")
