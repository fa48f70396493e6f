"""Batches that pause, change their priority or stop at a token budget."""

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
