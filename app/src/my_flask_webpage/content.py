"""The texts and sample data in ``resource/``."""

import json
from pathlib import Path
from typing import Any

from flask import Flask

RESOURCES = Path(__file__).parent / "resource"


def load_resource(name: str) -> Any:
    """Read a JSON file of ``resource/``.

    Parameters
    ----------
    name : str
        File name, for example ``projects.json``.

    Returns
    -------
    Any
        What the file holds.
    """
    return json.loads((RESOURCES / name).read_text(encoding="utf-8"))


def init_app(app: Flask) -> None:
    """Give every template the `profile`: whose site this is.

    Parameters
    ----------
    app : flask.Flask
        The application.
    """
    app.jinja_env.globals["profile"] = load_resource("profile.json")
