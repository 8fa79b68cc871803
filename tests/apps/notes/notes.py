"""Notes and uploaded files: one module, SQLite, and a folder of user files."""

import os
import sqlite3
from pathlib import Path

from flask import Flask, Response, abort, redirect, request, send_from_directory
from markupsafe import escape

app = Flask(__name__)
UPLOADS = Path(app.root_path) / "uploads"


def database() -> sqlite3.Connection:
    """Open the database in DATABASE_URL, and create its table."""
    path = os.environ["DATABASE_URL"].removeprefix("sqlite:///")
    connection = sqlite3.connect(path, timeout=10)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, text TEXT NOT NULL)"
    )
    return connection


@app.get("/")
def index() -> str:
    """List all notes."""
    with database() as connection:
        rows = connection.execute("SELECT text FROM note ORDER BY id").fetchall()
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for (text,) in rows) + "</ul>"


@app.post("/")
def add() -> Response:
    """Save a note."""
    with database() as connection:
        connection.execute("INSERT INTO note (text) VALUES (?)", [request.form["text"]])
    return redirect("/")


@app.put("/files/<name>")
def upload(name: str) -> Response:
    """Save a file."""
    if not name.isidentifier():
        abort(400)
    (UPLOADS / name).write_bytes(request.get_data())
    return Response(status=201)


@app.get("/files/<name>")
def download(name: str) -> Response:
    """Send a file."""
    return send_from_directory(UPLOADS, name)
