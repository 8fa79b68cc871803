"""The internal area of the owner."""

from my_flask_webpage.internal.projects import blueprint

__all__ = ["blueprint"]
