"""Pages for projects, picture galleries, users of the internal area.

It only adds, with defaults in the database, so that the old release can still read and write.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FLAGS = ("edited", "moved", "hidden")


def upgrade() -> None:
    """Add the new columns and tables."""
    op.add_column("project", sa.Column("source", sa.String(80), nullable=True))
    op.create_index("ix_project_source", "project", ["source"], unique=True)
    op.add_column("project", sa.Column("text", sa.Text(), server_default="", nullable=False))
    op.add_column("project", sa.Column("links", sa.JSON(), server_default="[]", nullable=False))
    for name in ("highlighted", *FLAGS):
        op.add_column(
            "project", sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False)
        )
    project = sa.table("project", sa.column("id"), sa.column("link"), sa.column("links", sa.JSON()))
    connection = op.get_bind()
    for row in connection.execute(sa.select(project.c.id, project.c.link)).all():
        if row.link:
            links = [{"label": "Website", "url": row.link}]
            connection.execute(project.update().where(project.c.id == row.id).values(links=links))

    op.create_table(
        "image",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(120), nullable=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("widths", sa.JSON(), nullable=False),
        sa.Column("alt", sa.String(300), nullable=False),
        sa.Column("caption", sa.String(300), nullable=False),
        sa.Column("credit", sa.String(300), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        *(
            sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False)
            for name in FLAGS
        ),
        sa.PrimaryKeyConstraint("id", name="pk_image"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name="fk_image_project_id_project", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("project_id", "source", name="uq_image_project_id"),
    )
    op.create_index("ix_image_project_id", "image", ["project_id"])
    op.create_index("ix_image_digest", "image", ["digest"])

    op.create_table(
        "user",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("session_key", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_user"),
        sa.UniqueConstraint("email", name="uq_user_email"),
        sa.UniqueConstraint("session_key", name="uq_user_session_key"),
    )

    op.create_table(
        "login_attempt",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_login_attempt"),
    )
    op.create_index("ix_login_attempt_address_at", "login_attempt", ["address", "at"])


def downgrade() -> None:
    """Drop the new columns and tables."""
    op.drop_table("login_attempt")
    op.drop_table("user")
    op.drop_table("image")
    op.drop_index("ix_project_source", "project")
    with op.batch_alter_table("project") as project:
        for name in (*FLAGS, "highlighted", "links", "text", "source"):
            project.drop_column(name)
