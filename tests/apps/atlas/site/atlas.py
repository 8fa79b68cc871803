"""Places in a Postgres with extensions and a locale, by SQLAlchemy and plain psycopg."""

import os

from flask import Flask
from places import NAMES
from sqlalchemy import create_engine, text

app = Flask(__name__)
engine = create_engine(os.environ["DATABASE_URL"], pool_pre_ping=True)


@app.get("/")
def index() -> dict[str, object]:
    """Sort the places, and ask the extensions."""
    sort = text("SELECT name FROM unnest(CAST(:names AS text[])) name ORDER BY name")
    with engine.connect() as base:
        return {
            "driver": engine.driver,
            "names": list(base.scalars(sort, {"names": list(NAMES)})),
            "alike": base.scalar(text("SELECT similarity('Aachen', 'Aachener')")) > 0,
            "distance": base.scalar(text("SELECT '[1,2]'::vector <-> '[1,5]'::vector")),
        }
