"""A link shortener: a factory in a package, Poetry's lock file, Postgres, a release command."""

import os
import subprocess
from pathlib import Path

import click
import psycopg2
from flask import Flask, Response, abort, redirect, request, url_for


def create_app(slogan: str = "") -> Flask:
    """Create the app; raise an error if a variable or secret is missing."""
    app = Flask(__name__)
    token = os.environ["API_TOKEN"]
    if Path(os.environ["API_TOKEN_FILE"]).read_text() != token:
        raise RuntimeError("API_TOKEN differs from its file")

    def execute(statement: str, *values: str) -> list[tuple[str]]:
        connection = psycopg2.connect(os.environ["DATABASE_URL"])
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    @app.cli.command("init-db")
    def init_db() -> None:
        execute("CREATE TABLE IF NOT EXISTS link (name text PRIMARY KEY, target text NOT NULL)")
        click.echo("The table is there.")

    @app.get("/healthz")
    def health() -> dict[str, str]:
        execute("SELECT name FROM link LIMIT 1")
        return {"status": "ok"}

    @app.get("/")
    def index() -> str:
        done = subprocess.run(["jq", "--version"], capture_output=True, text=True, check=True)
        style = url_for("static", filename="style.css")
        name = f"{os.environ['SITE_NAME']} {done.stdout.strip()}"
        return f"<link rel=stylesheet href={style}>{name} {slogan}"

    @app.put("/<name>")
    def add(name: str) -> Response:
        if request.headers.get("Authorization") != f"Bearer {token}":
            abort(401)
        execute(
            "INSERT INTO link VALUES (%s, %s)"
            " ON CONFLICT (name) DO UPDATE SET target = excluded.target",
            name,
            request.get_data(as_text=True),
        )
        return Response(status=201)

    @app.get("/<name>")
    def follow(name: str) -> Response:
        rows = execute("SELECT target FROM link WHERE name = %s", name)
        return redirect(rows[0][0]) if rows else abort(404)

    return app
