"""nginx's configuration for a site's static files, and for the relay of an app."""

import re
from pathlib import Path

import jinja2
import pytest
from module_utils.app import App

ROLE = Path(__file__).parents[2] / "roles/app"


def render(name: str, folder: str = "vhost", **entry: str) -> str:
    environment = jinja2.Environment(  # noqa: S701  # it is not HTML
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    app = App.from_entry({"name": "shop", "domains": ["shop.dev"], **entry})
    return environment.get_template(f"{folder}/{name}.j2").render(
        app_entry=app.entry(),
        app_releases_kept=2,
        __app_claims=[],
        __app_id="0123456789ab",
        __app_model=app.derived(),
        __app_static_slots=["current", "kept-1", "kept-2"],
    )


def test_each_release_is_looked_through_and_then_the_app_is_asked() -> None:
    text = render("server", static="static")
    ways = re.findall(
        r"\nlocation (\S+)[^{]*\{\n    root /srv/static/shop;\n"
        r"    disable_symlinks on from=/srv/static/shop/(\S+);\n"
        r"    try_files /(\S+)/\$static_file (\S+);\n    expires ",
        text,
    )
    assert ways == [
        ("~", "current", "current", "@static_kept-1"),
        ("@static_kept-1", "kept-1", "kept-1", "@static_kept-2"),
        ("@static_kept-2", "kept-2", "kept-2", "@app"),
    ]
    override = render("_location_override", static="static")
    assert override.count("location / {") == override.count("location @app {") == 1
    assert override.count("uwsgi_pass unix:/routes/shop/current/run/app.sock;") == 2
    # The settings apply to all files, including those of earlier releases.
    assert text.count("gzip_vary on;") == 3


def test_nothing_stands_in_the_way_of_a_deploy_s_question() -> None:
    """Neither maintenance nor a limit of requests affects the check; see release_served."""
    override = render("_location_override", static="static")
    [mark] = re.findall(
        r"location ~ \^/\\\.well-known/flask-vps-release/.*?\n\}", override, re.DOTALL
    )
    assert "allow all;" in mark
    assert "limit_conn_dry_run on;" in mark
    # The limit applies to all other requests.
    assert override.count("limit_conn_dry_run") == 1


def test_a_site_without_static_files_has_none_of_it() -> None:
    assert "/static/" not in render("server")
    assert "@app" not in render("_location_override")


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("/static/.htpasswd", True),
        ("/static/sub/.env", True),
        ("/static/.git/config", True),
        ("/static/.well-known/.secret", True),
        ("/static/..a", True),
        ("/static/.well-known", True),
        ("/static/.well-known/security.txt", False),
        ("/static/sub/.well-known/x", False),
        ("/static/a.b/c.css", False),
        ("/static/a..css", False),
    ],
)
def test_recognizes_hidden_files_by_their_path(path: str, hidden: bool) -> None:
    location = re.search(r"location ~ (\S+) \{\n    return 404;", render("server", static="s"))
    assert bool(re.search(location[1], path)) is hidden


def test_a_range_that_a_file_lacks_has_the_headers_once() -> None:
    text = render("server", static="static")
    name = re.search(r"error_page 416 (@\S+);", text)[1]
    location = text.split(f"location {name} {{")[1].split("}")[0]
    assert re.findall(r"add_header \S+ (\S*);", location) == ['""']
    assert "return 416;" in location


@pytest.mark.parametrize("protocol", ["http", "uwsgi"])
def test_a_relay_that_reaches_nobody_leaves_the_page_to_the_edge(protocol: str) -> None:
    relay = render("relay.conf", "release", port="8000", protocol=protocol)
    codes, name = re.search(r"error_page ([\d ]+) (@\S+);", relay).groups()
    assert {"502", "504"} <= set(codes.split())
    # 444 makes nginx close the connection.
    assert re.search(rf"location {name} \{{\s+return 444;\s+\}}", relay)
