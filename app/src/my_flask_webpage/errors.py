"""Error pages that a person can read."""

from flask import Flask, render_template
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from my_flask_webpage.database_errors import outage

RETRY_AFTER_SECONDS = 10

# Title and explanation; the other codes use what Werkzeug says of them.
TEXTS = {
    400: ("That did not arrive in one piece", "The request was incomplete or could not be read."),
    403: ("That is not yours to see", "The site knows the page, but does not open it for you."),
    404: ("There is nothing here", "The page may have moved, or the address has a slip in it."),
    413: ("That is too large", "What you sent is larger than this site accepts."),
    429: ("That was too often", "Please wait a minute, then try again."),
    500: ("Something broke", "The fault is on this side and has been logged. Please try later."),
    503: ("Back in a moment", "The site cannot reach its data right now. Please try again soon."),
}

FORM_EXPIRED = (
    "That form has expired",
    "Please go back, reload the page and send it again. Cookies have to be allowed for that.",
)


def init_app(app: Flask) -> None:
    """Answer every error with a page."""
    app.register_error_handler(HTTPException, show_http_error)
    app.register_error_handler(SQLAlchemyError, show_database_error)


def show_http_error(error: HTTPException) -> ResponseReturnValue:
    """Render an HTTP error, with the headers it brings (such as ``Allow``)."""
    code = error.code or 500
    if code < 400:
        return error
    if isinstance(error, CSRFError):
        title, explanation = FORM_EXPIRED
    else:
        title, explanation = TEXTS.get(code, (error.name, error.description or ""))
        # What a view says of its own refusal is more to the point.
        if error.description != type(error).description:
            explanation = error.description or explanation
    page = render_template("error.html", code=code, title=title, explanation=explanation)
    headers = [header for header in error.get_headers() if header[0] != "Content-Type"]
    return page, code, headers


def show_database_error(error: SQLAlchemyError) -> ResponseReturnValue:
    """Answer 503 when the database is away; any other error is a fault of the program."""
    if outage(error) is None:
        raise error
    title, explanation = TEXTS[503]
    page = render_template("error.html", code=503, title=title, explanation=explanation)
    return page, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)}
