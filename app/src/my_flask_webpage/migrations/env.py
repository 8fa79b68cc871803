"""Alembic's environment: it uses the connection that `init_db` passes, or opens one."""

from alembic import context
from flask import current_app
from sqlalchemy import Connection

from my_flask_webpage.extensions import db


def run(connection: Connection) -> None:
    """Run the migrations in one transaction, or in the caller's if one is open."""
    context.configure(
        connection=connection,
        target_metadata=db.metadata,
        transaction_per_migration=False,
        **current_app.extensions["migrate"].configure_args,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with db.engine.connect() as own:
        run(own)
