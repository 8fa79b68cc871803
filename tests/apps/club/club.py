"""A site for members, with a host name for each of them: what it shows depends on the host."""

from flask import Flask, request

app = Flask(__name__)


@app.get("/")
def index() -> str:
    """Greet the member that the host name names, at some length."""
    return f"<h1>{request.host.partition('.')[0]}</h1>" + "<p>Welcome to the club.</p>" * 500


@app.post("/")
def upload() -> str:
    """Tell the size of what was sent."""
    return str(len(request.get_data()))


@app.get("/healthz")
@app.get("/api/<path:name>")
def is_open(name: str = "") -> str:
    """Answer everybody."""
    return name or "well"


@app.get("/inner/<path:name>")
def inner(name: str) -> str:
    """Answer members only."""
    return name
