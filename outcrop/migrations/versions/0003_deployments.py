"""Custom model deployments.

Revision 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

from outcrop.store.database import Instant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Walk the step."""
    op.create_table(
        "deployments",
        sa.Column("arn", sa.String(), primary_key=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("region", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("model_arn", sa.String(), nullable=False, index=True),
        sa.Column("desired_model_arn", sa.String(), nullable=False, index=True),
        sa.Column("created", Instant(), nullable=False),
        sa.Column("modified", Instant(), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("update_status", sa.String()),
        sa.Column("failure", sa.Text()),
        sa.Column("token", sa.String()),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.UniqueConstraint("region", "name", name="deployments_name"),
        sa.UniqueConstraint("region", "token", name="deployments_token"),
    )


def downgrade() -> None:
    """Walk it back."""
    op.drop_table("deployments")
