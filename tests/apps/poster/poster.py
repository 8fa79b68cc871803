"""An app whose static files and translations are made during the build."""

import gettext
import os
from pathlib import Path

import poster_words
from flask import Flask

HERE = Path(__file__).parent

app = Flask(__name__)


@app.get("/")
def index() -> dict:
    """Show what the build has made, and what it has left behind."""
    german = gettext.translation("messages", HERE / "translations", ["de"])
    return {
        "greeting": german.gettext(poster_words.GREETING),
        "node": (HERE / "node_modules").exists(),
        "token": os.environ.get("POSTER_TOKEN", ""),
    }
