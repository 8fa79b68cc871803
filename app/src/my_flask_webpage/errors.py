"""Readable error pages."""

from flask import Flask, render_template
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from my_flask_webpage.database_errors import outage

RETRY_AFTER_SECONDS = 10

# Title and explanation. All other codes use Werkzeug's texts.
TEXTS = {
    400: ("Bad request", "The request was incomplete or could not be read."),
    403: ("Access denied", "You do not have permission to see this page."),
    404: ("Page not found", "The page may have moved, or the address may be mistyped."),
    413: ("Too large", "What you sent is larger than this site accepts."),
    429: ("Too many requests", "Please wait a minute, then try again."),
    500: ("Something went wrong", "The error has been logged. Please try again later."),
    503: ("Temporarily unavailable", "The database cannot be reached. Please try again soon."),
}

FORM_EXPIRED = (
    "The form has expired",
    "Please go back, reload the page and send the form again. This needs cookies.",
)


def init_app(app: Flask) -> None:
    """Render a page for every error."""
    app.register_error_handler(HTTPException, show_http_error)
    app.register_error_handler(SQLAlchemyError, show_database_error)


def show_http_error(error: HTTPException) -> ResponseReturnValue:
    """Render an HTTP error and keep its headers, such as ``Allow``."""
    code = error.code or 500
    if code < 400:
        return error
    if isinstance(error, CSRFError):
        title, explanation = FORM_EXPIRED
    else:
        title, explanation = TEXTS.get(code, (error.name, error.description or ""))
        # A description given to `abort` is more specific.
        if error.description != type(error).description:
            explanation = error.description or explanation
    page = render_template("error.html", code=code, title=title, explanation=explanation)
    headers = [header for header in error.get_headers() if header[0] != "Content-Type"]
    return page, code, headers


def show_database_error(error: SQLAlchemyError) -> ResponseReturnValue:
    """Respond with 503 if the database is unavailable; raise any other error again."""
    if outage(error) is None:
        raise error
    title, explanation = TEXTS[503]
    page = render_template("error.html", code=503, title=title, explanation=explanation)
    return page, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)}
