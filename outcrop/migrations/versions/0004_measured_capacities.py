"""What engines were measured to do on a machine.

Revision 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op

from outcrop.store.database import Instant

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Walk the step."""
    op.create_table(
        "capacities",
        sa.Column("weights", sa.String(), primary_key=True),
        sa.Column("machine", sa.String(), primary_key=True),
        sa.Column("tokens_per_minute", sa.Integer(), nullable=False),
        sa.Column("measured", Instant(), nullable=False),
    )


def downgrade() -> None:
    """Walk it back."""
    op.drop_table("capacities")
