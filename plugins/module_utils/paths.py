"""Paths of this project on a server."""

from __future__ import annotations

SERVER_DIR = "/opt/flask-vps"
# Held by the run that changes the server.
LOCK = f"{SERVER_DIR}/lock"
