"""A package in the same repository, which the app depends on."""

BOOKS = ["Walden", "Emma"]
