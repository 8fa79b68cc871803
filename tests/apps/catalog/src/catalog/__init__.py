"""An app that is a package: it asks for its own version, and uses another package of its source."""

import sys
from importlib import metadata, util

import catalog_core
from flask import Flask

# Without the app's own metadata, this line fails.
VERSION = metadata.version("catalog")

app = Flask(__name__)


@app.get("/")
def index() -> dict:
    """Show what the app runs with."""
    return {
        "books": catalog_core.BOOKS,
        "core": metadata.version("catalog-core"),
        "extra": util.find_spec("tomli_w") is not None,
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "version": VERSION,
    }


def show_version() -> None:
    """Print the version."""
    print(VERSION)
