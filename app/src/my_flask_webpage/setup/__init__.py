"""Preparation of the database, run once before a release serves."""
