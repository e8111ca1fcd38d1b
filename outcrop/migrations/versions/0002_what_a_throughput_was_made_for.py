"""What a throughput was made for.

Revision 0002, after 0001. Until then only the present model was kept, so that stands in for throughputs made before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Walk the step."""
    with op.batch_alter_table("throughputs") as batch_op:
        batch_op.add_column(sa.Column("made_for", sa.String(), nullable=True))
    op.execute("UPDATE throughputs SET made_for = model_arn")
    with op.batch_alter_table("throughputs") as batch_op:
        batch_op.alter_column("made_for", existing_type=sa.String(), nullable=False)


def downgrade() -> None:
    """Walk it back."""
    with op.batch_alter_table("throughputs") as batch_op:
        batch_op.drop_column("made_for")
