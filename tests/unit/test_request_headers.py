"""The request headers that nginx passes to an app, for both protocols."""

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from module_utils.app import App

ROLE = Path(__file__).parents[2] / "roles/app"
VARS = yaml.safe_load((ROLE / "vars/main.yml").read_text())
CLAIMS = VARS["__app_claims_of_anybody"] + VARS["__app_claims_of_a_proxy"]


def render(name: str) -> str:
    """Render a template of a site."""
    environment = jinja2.Environment(  # noqa: S701 # it is not HTML
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    app = App.from_entry({"name": "shop", "domains": ["shop.test", "www.shop.test"]})
    values: dict[str, Any] = {
        "app_entry": app.entry(),
        "app_releases_kept": 5,
        "__app_claims": CLAIMS,
        "__app_model": app.derived(),
    }
    return environment.get_template(name).render(values)


def headers(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the request headers that a location sets for each protocol, by their WSGI names."""
    http = re.findall(r"proxy_set_header (\S+) (.+);", text)
    uwsgi = re.findall(r"uwsgi_param HTTP_(\S+) (.+);", text)
    uwsgi, http = (
        {name.upper().replace("-", "_"): value.removesuffix(" if_not_empty") for name, value in of}
        for of in (uwsgi, http)
    )
    return uwsgi, http


@pytest.mark.parametrize("name", ["_location_override.j2", "releases.conf.j2"])
def test_no_claim_of_a_client_passes(name: str) -> None:
    text = render(f"vhost/{name}")
    found = re.finditer(r"^( *)location [/@].*?^\1\}$", text, re.DOTALL | re.MULTILINE)
    routes = [route[0] for route in found]
    assert len(routes) == text.count("location /") + text.count("location @") >= 2
    for route in routes:
        for found in filter(None, headers(route)):
            assert {claim.upper().replace("-", "_") for claim in CLAIMS} <= found.keys()
            assert all(found[claim.upper().replace("-", "_")] == '""' for claim in CLAIMS)
            assert found["HOST"] == found["X_FORWARDED_HOST"]
            assert found["HOST"].startswith("$server_name")
        assert any(headers(route)) and "$http_host" not in route


def test_the_two_protocols_say_the_same() -> None:
    uwsgi, http = headers(render("vhost/_location_override.j2"))
    # Over HTTP nginx decodes chunked bodies itself, and only HTTP supports WebSockets.
    uwsgi.pop("TRANSFER_ENCODING")
    for name in ("UPGRADE", "CONNECTION"):
        assert http.pop(name) == f"$flask_vps_{name.lower()}"
    assert uwsgi == http


def test_no_claim_is_named_twice_and_none_is_one_that_nginx_makes() -> None:
    assert len(CLAIMS) == len({claim.lower() for claim in CLAIMS})
    made = {"HOST", "X_FORWARDED_FOR", "X_FORWARDED_HOST", "X_FORWARDED_PORT", "X_FORWARDED_PROTO"}
    assert not made & {claim.upper().replace("-", "_") for claim in CLAIMS}
