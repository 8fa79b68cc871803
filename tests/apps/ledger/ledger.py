"""An app for deploys under load: it stores rows, has slow requests, and fails on demand.

Releases differ in ``release.txt`` (their number), ``fault.txt`` (their fault), and a file in
``static/`` that only one release has.
"""

import os
import sys
import threading
import time
from pathlib import Path

import psycopg2
from flask import Flask, request

HERE = Path(__file__).parent
FAULT = (HERE / "fault.txt").read_text().strip()
RELEASE = (HERE / "release.txt").read_text().strip()
STATIC = sorted(path.name for path in (HERE / "static").iterdir())

if FAULT == "exit":
    sys.exit("This release ends before it has begun.")
if FAULT == "hang":
    time.sleep(3600)
if FAULT == "secret":
    os.environ["LEDGER_KEY_THAT_NOBODY_SET"]

app = Flask(__name__, static_folder=None)
connections = threading.local()


def execute(statement: str, values: tuple = ()) -> list[tuple]:
    """Run a statement in its own transaction on this thread's connection."""
    if getattr(connections, "open", None) is None or connections.open.closed:
        connections.open = psycopg2.connect(os.environ["DATABASE_URL"])
    with connections.open as transaction, transaction.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


@app.get("/")
def index():
    if FAULT == "error":
        return "This release is broken.", 500
    count = execute("SELECT count(*) FROM (SELECT 1 FROM entry LIMIT 100) AS few")[0][0]
    links = "".join(f'<a href="/static/{name}">{name}</a>' for name in STATIC)
    return f"<p>release {RELEASE}</p><p>{count} entries</p>{links}"


@app.post("/entries")
def add():
    execute("INSERT INTO entry (id, release) VALUES (%s, %s)", (request.form["id"], RELEASE))
    return "written", 201


@app.get("/slow")
def slow():
    time.sleep(min(float(request.args["seconds"]), 45))
    return f"release {RELEASE}"
