"""Logs on stdout, each line tied to the request it belongs to by an id.

In production a line is a JSON object, for programs to read; elsewhere it is short, for people.
A response that lacks ``X-Request-ID`` was not made here but by the server in front.
"""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import TextIO
from uuid import uuid4

from flask import Flask, Response, g, has_request_context, request

QUERY_MAX_LENGTH = 1000

access = logging.getLogger("my_flask_webpage.access")


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what a record has as ``fields`` is added to it."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as JSON, in which a line break cannot fake a line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": g.get("request_id") if has_request_context() else None,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


class ShortFormatter(logging.Formatter):
    """One short line; line breaks in it are shown and not made."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record for a person."""
        line = f"{record.levelname.lower()}: {record.getMessage()!r:.1000}"
        if record.name == access.name:
            line = record.getMessage().encode("unicode_escape").decode()
        return line + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class Stdout(logging.StreamHandler):
    """Writes to what is stdout at the moment, which tests and servers replace."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """The process's standard output."""
        return sys.stdout


def init_app(app: Flask) -> None:
    """Log each request, and give each response the id of its log lines."""
    logger = logging.getLogger("my_flask_webpage")
    for handler in [handler for handler in logger.handlers if isinstance(handler, Stdout)]:
        logger.removeHandler(handler)
    handler = Stdout()
    production = app.config["APP_ENV"] == "production"
    handler.setFormatter(JsonFormatter() if production else ShortFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    @app.before_request
    def start() -> None:
        g.request_id = uuid4().hex
        g.started = time.perf_counter()

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        query = request.query_string.decode("latin-1")[:QUERY_MAX_LENGTH]
        fields = {
            "remote_addr": request.remote_addr,
            "method": request.method,
            "path": request.path + (f"?{query}" if query else ""),
            "status": response.status_code,
            "duration_ms": round((time.perf_counter() - g.started) * 1000, 1),
        }
        # Flask's development server prints each request itself.
        if not request.environ.get("SERVER_SOFTWARE", "").startswith("Werkzeug/"):
            access.info(
                "%s %s %s %s %sms", *fields.values(), extra={"fields": fields}, stacklevel=1
            )
        return response
