"""A package in the same repository."""

GREETING = "Hello"
