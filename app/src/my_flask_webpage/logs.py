"""Logs on stdout; each line has the ID of its request.

In production each line is a JSON object, elsewhere a short text. A response without
``X-Request-ID`` comes from the web server in front and not from the app.
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
    """Formats a record as one JSON object, including its ``fields``."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as JSON, which escapes line breaks, so that none can forge a line."""
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
    """Formats a record as one short line, with line breaks escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as text."""
        line = f"{record.levelname.lower()}: {record.getMessage()!r:.1000}"
        if record.name == access.name:
            line = record.getMessage().encode("unicode_escape").decode()
        return line + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class Stdout(logging.StreamHandler):
    """Writes to the current `sys.stdout`, which tests and servers may replace."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """The process's standard output."""
        return sys.stdout


def init_app(app: Flask) -> None:
    """Log each request, and send the ID of its log lines with the response."""
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
