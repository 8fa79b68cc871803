"""Alembic's steps from one shape of the database to the next.

Each step may run while the release before it still serves, so it only adds: nothing is renamed,
dropped or made stricter in the release that stops using it.
"""
