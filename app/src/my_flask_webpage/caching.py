"""Who may keep a response, and for how long."""

from flask import Flask, Response, request, session
from flask_login import current_user

# How long a cache that serves many visitors may use a page without asking again, in seconds. A
# visitor's own browser asks each time, which costs 304 and no body.
SHARED_SECONDS = 60

# Pages without a form or anything else that is made for one visitor.
PUBLIC_BLUEPRINT = "pages"
# With the blueprints nested in them.
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
            # Who is logged in gets another page under the same address.
            response.vary.add("Cookie")
            if not response.direct_passthrough:
                response.add_etag()
                response.make_conditional(request)
        else:
            response.headers.setdefault("Cache-Control", "private, no-cache")
        return response
