"""Measurements of deploys under load."""
