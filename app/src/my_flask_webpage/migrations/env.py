"""Where Alembic finds the database: the connection that `init_db` hands it, or the app's own."""

from alembic import context
from flask import current_app
from sqlalchemy import Connection

from my_flask_webpage.extensions import db


def run(connection: Connection) -> None:
    """Run the migrations that were asked for, all in one transaction.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        An open connection; a transaction that it is in is left to its owner.
    """
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
