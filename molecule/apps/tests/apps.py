"""Helpers for both steps of the scenario."""

import os
from pathlib import Path

from conftest import Answer, Site


def ask(
    site: Site,
    app: str,
    path: str = "/",
    method: str = "GET",
    body: str | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Send a request to an app over HTTPS, under its own host name."""
    there = site.named(f"{app}.localhost")
    form = {"Content-Type": "application/x-www-form-urlencoded"} if method == "POST" else {}
    return there.request(path, method, body, {**form, **(headers or {})})


def shorten(site: Site, name: str, target: str) -> None:
    """Store a link, authorised by the token from the vault."""
    secret = (Path(os.environ["SITE_SECRETS"]) / "scenario").read_text().strip()
    token = secret + "$HOME ${x} $$@:/%#'\"\\ä"
    answer = ask(site, "shortener", f"/{name}", "PUT", target, {"Authorization": f"Bearer {token}"})
    assert answer.status == 201, answer


def web(site: Site, app: str) -> str:
    """Return the name of the container of an app's live release."""
    names = [n for n in site.containers() if n.startswith(f"{app}-") and "-web-" in n]
    assert len(names) == 1, names
    return names[0]


def identities(site: Site) -> dict[str, str]:
    """Return a value per container that changes if it is recreated or restarted."""
    return {name: c["Id"] + c["State"]["StartedAt"] for name, c in site.containers().items()}
