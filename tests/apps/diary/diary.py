"""A diary like Flask's tutorial: SQLite in the instance folder, a command that drops its table."""

import logging
import os
import sqlite3
from pathlib import Path

from flask import Flask, Response, redirect, request

app = Flask(__name__, instance_relative_config=True)
# Not in git, and required.
app.config.from_pyfile("config.py")
# A relative path, so a file beside the code.
logging.basicConfig(filename="diary.log", level=logging.INFO)
app.logger.info("started")
FILE = Path(app.instance_path) / "diary.sqlite"


@app.cli.command("init-db")
def init_db() -> None:
    """Create the table; one that exists is dropped."""
    with sqlite3.connect(FILE) as base:
        base.executescript("DROP TABLE IF EXISTS page; CREATE TABLE page (text TEXT NOT NULL);")


@app.cli.command("count")
def count() -> None:
    """Print the number of pages."""
    with sqlite3.connect(FILE) as base:
        print(*base.execute("SELECT count(*) FROM page").fetchone())


@app.get("/")
def index() -> dict[str, object]:
    """List the pages."""
    with sqlite3.connect(FILE) as base:
        pages = [text for (text,) in base.execute("SELECT text FROM page ORDER BY rowid")]
    key = os.environ["PEM_KEY"].splitlines()
    return {"title": app.config["TITLE"], "pages": pages, "key": [key[0], len(key)]}


@app.post("/")
def write() -> Response:
    """Save a page."""
    with sqlite3.connect(FILE) as base:
        base.execute("INSERT INTO page (text) VALUES (?)", [request.form["text"]])
    return redirect("/")


@app.put("/measure")
def measure() -> dict[str, int]:
    """Read a body in parts, and count its bytes."""
    return {"bytes": sum(len(part) for part in iter(lambda: request.stream.read(1 << 16), b""))}
