"""What keys may do, and how much a tenant may ask for."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

QUOTAS = ("requests_per_minute", "tokens_per_day", "queued_jobs", "stored_bytes")


def upgrade() -> None:
    op.add_column("keys", sa.Column("role", sa.String(length=16), server_default="user", nullable=False))
    op.add_column("keys", sa.Column("expires_at", sa.Float(precision=53), nullable=True))
    op.add_column("keys", sa.Column("last_used_at", sa.Float(precision=53), nullable=True))
    for quota in QUOTAS:
        op.add_column("tenants", sa.Column(quota, sa.BigInteger(), nullable=True))
    op.create_index("ix_usage_day", "usage", ["tenant_id", "day"])


def downgrade() -> None:
    # Columns are dropped where they are: a copied table would break the keys that refer to it.
    op.drop_index("ix_usage_day", table_name="usage")
    for quota in QUOTAS:
        op.drop_column("tenants", quota)
    for column in ("last_used_at", "expires_at", "role"):
        op.drop_column("keys", column)
