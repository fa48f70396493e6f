"""What a worker knows of a model that it serves: modalities, context, quantization, how long it took to load."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    with op.batch_alter_table("worker_models") as table:
        table.add_column(sa.Column("facts", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("worker_models") as table:
        table.drop_column("facts")
