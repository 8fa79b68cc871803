"""Alembic's migrations of the database schema.

A migration runs while the old release still serves, so it only adds. A release that stops using a
column or table neither renames nor drops it, and adds no constraints to it.
"""
