"""Where Alembic finds the database: the connection that `init_db` hands it, or the app's own."""

from alembic import context
from flask import current_app
from sqlalchemy import Connection

from my_flask_webpage.extensions import db


def run(connection: Connection) -> None:
    """Run the requested migrations in one transaction: the caller's, if it has one open."""
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
