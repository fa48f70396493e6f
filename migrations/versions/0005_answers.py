"""Answers that are given again to equal requests."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "digest"),
    )
    op.create_index("ix_answers_created_at", "answers", ["created_at"])
    no = sa.text("false")
    op.add_column("batches", sa.Column("dedupe", sa.Boolean(), server_default=no, nullable=False))
    op.add_column("jobs", sa.Column("reuse", sa.Boolean(), server_default=no, nullable=False))


def downgrade() -> None:
    # Columns are dropped where they are: a copied table would lose its counter of ids.
    op.drop_column("jobs", "reuse")
    op.drop_column("batches", "dedupe")
    op.drop_table("answers")
