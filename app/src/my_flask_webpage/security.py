"""Security headers, and a check that forms are sent from this site.

``Strict-Transport-Security`` is left to the server that terminates TLS.
"""

from flask import Flask, Response, abort, request
from flask_login import current_user

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "style-src 'self'",
            "img-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

UPLOAD_ENDPOINTS = {"internal.images.add"}

SAFE_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE"}


def init_app(app: Flask) -> None:
    """Set the security headers, refuse forms from other sites, and allow large uploads."""

    @app.before_request
    def refuse_foreign_forms() -> None:
        # Browsers set Sec-Fetch-Site, and no page can change it. The check replaces Flask-WTF's
        # comparison of Referer and Host, which fails behind a proxy that drops the port from Host
        # (Debian's uwsgi_params does) and for visitors who send no Referer.
        # https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
        origin = request.headers.get("Sec-Fetch-Site")
        if request.method not in SAFE_METHODS and origin in {"cross-site", "same-site"}:
            abort(403, "Forms are accepted only from pages of this site.")

    @app.before_request
    def give_uploads_room() -> None:
        # Must run before anything reads the body. Without a login the small limit applies.
        is_upload = request.method == "POST" and request.endpoint in UPLOAD_ENDPOINTS
        if is_upload and current_user.is_authenticated:
            request.max_content_length = app.config["UPLOAD_MAX_BYTES"]

    @app.after_request
    def set_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response
