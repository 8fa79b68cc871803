"""The tables of the first releases.

Those releases created them without Alembic; existing tables are left as they are.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables that are missing."""
    present = sa.inspect(op.get_bind()).get_table_names()
    if "project" not in present:
        op.create_table(
            "project",
            sa.Column("id", sa.Integer(), nullable=False),
            sa.Column("slug", sa.String(80), nullable=False),
            sa.Column("title", sa.String(120), nullable=False),
            sa.Column("period", sa.String(40), nullable=False),
            sa.Column("summary", sa.Text(), nullable=False),
            sa.Column("link", sa.String(500), nullable=False),
            sa.Column("position", sa.Integer(), nullable=False),
            sa.PrimaryKeyConstraint("id", name="pk_project"),
            sa.UniqueConstraint("slug", name="uq_project_slug"),
        )
    if "message" not in present:
        op.create_table(
            "message",
            sa.Column("id", sa.Integer(), nullable=False),
            sa.Column("name", sa.String(80), nullable=False),
            sa.Column("body", sa.String(1000), nullable=False),
            sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
            sa.PrimaryKeyConstraint("id", name="pk_message"),
        )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("message")
    op.drop_table("project")
