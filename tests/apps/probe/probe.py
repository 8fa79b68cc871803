"""An untrustworthy app: it echoes requests, and runs any code that it receives."""

import contextlib
import hashlib
import io
import time
import traceback

from flask import Flask, Response, jsonify, request

app = Flask(__name__)


@app.get("/health")
def health() -> str:
    """Respond while the app is running."""
    return "ok"


@app.route("/echo", methods=["GET", "POST", "PUT"])
@app.route("/echo/<path:_path>", methods=["GET", "POST", "PUT"])
def echo(_path: str = "") -> Response:
    """Describe the request, its headers and its body."""
    body = request.get_data()
    return jsonify(
        url=request.url,
        host=request.host,
        scheme=request.scheme,
        path=request.path,
        script_name=request.environ.get("SCRIPT_NAME", ""),
        server_name=request.environ.get("SERVER_NAME", ""),
        remote=request.remote_addr,
        headers=dict(request.headers),
        length=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
    )


@app.get("/headers/<int:size>")
def headers(size: int) -> Response:
    """Respond with `size` bytes of headers, in cookies of at most 4,000 bytes."""
    response = Response("ok")
    for number, start in enumerate(range(0, size, 4000)):
        response.set_cookie(f"c{number}", "x" * min(4000, size - start))
    return response


@app.get("/strict")
def strict() -> Response:
    """Respond with the app's own Strict-Transport-Security header."""
    return Response("ok", headers={"Strict-Transport-Security": "max-age=60; includeSubDomains"})


@app.get("/slow/<float:seconds>")
def slow(seconds: float) -> str:
    """Respond after some seconds."""
    time.sleep(seconds)
    return "slow"


@app.get("/static/upload/report.txt")
def uploaded() -> Response:
    """Respond below /static/, like extensions with their own files."""
    return Response("from the app\n", mimetype="text/plain")


@app.post("/static/upload/echo")
def upload() -> Response:
    """Accept a POST below /static/."""
    return Response(f"{len(request.get_data())}\n", mimetype="text/plain")


@app.post("/run")
def run() -> Response:
    """Run Python code like an attacker inside the app could, and return its output."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        try:
            exec(request.get_data(as_text=True), {})  # noqa: S102  # what this app is for
        except Exception:
            traceback.print_exc(file=output)
    return Response(output.getvalue(), mimetype="text/plain")
