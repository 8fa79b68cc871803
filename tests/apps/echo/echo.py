"""An app that echoes requests, without a database or dependencies beyond its Dockerfile's."""

import os

from catalog_core import BOOKS
from flask import Flask, jsonify, request

app = Flask(__name__)


@app.get("/")
def index() -> object:
    """Describe the request."""
    return jsonify(
        books=BOOKS,
        greeting=os.environ["GREETING"],
        host=request.host,
        scheme=request.scheme,
        forwarded_for=request.headers.get("X-Forwarded-For"),
        uid=os.getuid(),
    )
