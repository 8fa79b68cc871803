"""One line on stdout for each request that reaches Flask, tied to its response by an id.

A response that lacks ``X-Request-ID`` was not made here but by the server in front.
"""

import logging
import sys
import time
from urllib.parse import quote
from uuid import uuid4

from flask import Flask, Response, g, request

logger = logging.getLogger("my_flask_webpage.access")


def init_app(app: Flask) -> None:
    """Log each request and name it in the response.

    Parameters
    ----------
    app : flask.Flask
        The application.
    """
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler(sys.stdout))
        logger.setLevel(logging.INFO)
        logger.propagate = False

    @app.before_request
    def start() -> None:
        g.request_id = uuid4().hex
        g.started = time.perf_counter()

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        logger.info(
            "%s %s %s %d %.1fms id=%s",
            request.remote_addr or "-",
            request.method,
            # Quoted, because a decoded path may hold a line break and fake a line. The query
            # stays out: people put private things there.
            quote(request.path),
            response.status_code,
            (time.perf_counter() - g.started) * 1000,
            g.request_id,
        )
        return response
