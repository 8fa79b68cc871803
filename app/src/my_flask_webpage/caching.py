"""Which caches may store a response, and for how long."""

from flask import Flask, Response, request, session
from flask_login import current_user

# How long a shared cache may use a page without revalidation, in seconds. A visitor's own browser
# revalidates each time, which costs a 304 without a body.
SHARED_SECONDS = 60

# Pages that are the same for all visitors: they have no form.
PUBLIC_BLUEPRINT = "pages"
# Includes the blueprints nested in these.
PRIVATE_BLUEPRINTS = {"accounts", "internal"}


def init_app(app: Flask) -> None:
    """Set ``Cache-Control`` on each response, and answer conditional requests."""

    @app.after_request
    def finish(response: Response) -> Response:
        public = request.blueprint == PUBLIC_BLUEPRINT and response.status_code == 200
        if request.endpoint in ("static", "media.show"):
            response.headers.setdefault("Cache-Control", "public, no-cache")
        elif request.blueprint == "health":
            response.headers["Cache-Control"] = "no-store"
        elif current_user.is_authenticated or PRIVATE_BLUEPRINTS.intersection(request.blueprints):
            response.headers["Cache-Control"] = "private, no-store"
        elif public and not session.modified and request.method in ("GET", "HEAD"):
            response.headers["Cache-Control"] = f"public, max-age=0, s-maxage={SHARED_SECONDS}"
            # A logged-in user gets a different page under the same URL.
            response.vary.add("Cookie")
            if not response.direct_passthrough:
                response.add_etag()
                response.make_conditional(request)
        else:
            response.headers.setdefault("Cache-Control", "private, no-cache")
        return response
