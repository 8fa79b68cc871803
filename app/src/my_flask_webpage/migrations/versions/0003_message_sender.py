"""Recent senders of messages, so that one client cannot fill the page.

It only adds, so that the old release can still read and write.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the new table."""
    op.create_table(
        "message_sender",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sender", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_message_sender"),
    )
    op.create_index("ix_message_sender_sender_at", "message_sender", ["sender", "at"])


def downgrade() -> None:
    """Drop the new table."""
    op.drop_table("message_sender")
