"""Static files under URLs that change with their content.

The URL of a file is ``/static/<path>?v=<hash>``. The path is the same as on disk, so a web server
can serve the folder as it is. The hash lets browsers cache the file for a year.
"""

from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

ONE_YEAR_SECONDS = 365 * 24 * 60 * 60


@lru_cache(maxsize=256)
def _digest(path: Path, modified_ns: int) -> str:
    """Hash a file; `modified_ns` is part of the cache key, so that edits are noticed."""
    return sha256(path.read_bytes()).hexdigest()[:12]


def init_app(app: Flask) -> None:
    """Add a hash to the URLs of static files, and let browsers cache such files."""

    @app.url_defaults
    def add_fingerprint(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint != "static" or "v" in values or "filename" not in values:
            return
        path = Path(app.static_folder or "", values["filename"])
        if path.is_file():
            values["v"] = _digest(path, path.stat().st_mtime_ns)

    @app.after_request
    def set_cache_headers(response: Response) -> Response:
        if request.endpoint == "static" and request.args.get("v") and response.status_code == 200:
            response.headers["Cache-Control"] = f"public, max-age={ONE_YEAR_SECONDS}, immutable"
        return response
