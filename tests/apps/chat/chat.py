"""An app with Flask-SocketIO, a stream, and a view that takes as long as one asks."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from flask import Flask, Response, jsonify, request
from flask_socketio import SocketIO, emit

app = Flask(__name__)
app.secret_key = os.environ["SECRET_KEY"]
socketio = SocketIO(app)


@app.get("/")
def index() -> Response:
    """Describe the request."""
    return jsonify(
        address=request.remote_addr, url=request.url, mark=len(request.headers.get("X-Mark", ""))
    )


@app.get("/slow/<int:seconds>")
def slow(seconds: int) -> str:
    """Answer late."""
    time.sleep(seconds)
    return "done"


@app.get("/events")
def events() -> Response:
    """Send five events, one each half second."""

    def each() -> Iterator[str]:
        for number in range(5):
            yield f"data: {number}\n\n"
            time.sleep(0.5)

    return Response(each(), mimetype=request.args.get("type", "text/event-stream"))


@app.get("/worker")
def worker() -> str:
    """Show what the worker has written."""
    return Path("/data/worker").read_text()


@socketio.on("say")
def say(text: str) -> None:
    """Say the same to the client."""
    emit("said", text)
