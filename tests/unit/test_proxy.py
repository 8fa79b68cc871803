"""The edge's compose file: the needs and the limits of each image."""

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.plugins.test import core

from images import docker_gen_waits

ROLE = Path(__file__).parents[2] / "roles/proxy"
IMAGES = Path(__file__).parents[2] / "images"
DOCKER_GEN = ["docker-gen", "-watch", "-wait", "100ms:500ms", "label=$NGINX", "/app/nginx.tmpl"]
SOCKET = "/var/run/docker.sock"
# In the containers, where it is a tmpfs.
TMP = "/tmp"  # noqa: S108


def compose(layout: str, **values: Any) -> dict[str, Any]:
    """Render and parse the compose file of a layout."""
    environment = jinja2.Environment(  # noqa: S701 # it is not HTML
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "bool": bool, "docker_gen_waits": docker_gen_waits, "to_json": json.dumps,
    }  # fmt: skip
    images = ("nginx", "docker_gen", "nginx_proxy", "acme_companion")
    companion = {"Id": f"sha256:{'0' * 64}", "Config": {"Entrypoint": ["/start"], "Cmd": ["run"]}}
    text = environment.get_template("compose.yml.j2").render(
        {
            "docker_health_pace": {"interval": "30s"},
            "proxy_layout": layout,
            "proxy_http_port": 80,
            "proxy_https_port": 443,
            "__proxy_email": "admin@example.org",
            "__proxy_ca_bundle": "",
            "proxy_ipv6_subnet": "fd00:f1a5:c::/64",
            "proxy_trusts_downstream": False,
            "proxy_images": {name: f"example/{name}:1" for name in images},
            "__proxy_ca_uri": "https://ca.test/dir",
            "__proxy_companion": {"images": [companion]},
            "__proxy_docker_gen": {"images": [{"Config": {"Cmd": DOCKER_GEN}}]},
            "__proxy_eab": {},
            "__proxy_nginx": {
                "images": [{"Config": {"Entrypoint": ["/entrypoint"], "Cmd": ["forego"]}}]
            },
            "__proxy_has_ipv6": False,
            "__proxy_network": "edge",
            "__proxy_sockets": {"stat": {"exists": False}},
            "__proxy_volumes": yaml.safe_load((ROLE / "vars/main.yml").read_text())[
                "__proxy_volumes"
            ],
        }
        | values
    )
    return yaml.safe_load(text)


def writable(service: dict[str, Any]) -> set[str]:
    """Return the folders that a service can write to."""
    folders = set(service["tmpfs"])
    for volume in service["volumes"]:
        if isinstance(volume, dict):
            if not volume.get("read_only"):
                folders.add(volume["target"])
        elif not volume.endswith(":ro"):
            folders.add(volume.split(":")[1])
    return folders


def mounts(service: dict[str, Any]) -> list[str]:
    """Return what a service mounts from the server."""
    return [v.split(":")[0] for v in service["volumes"] if isinstance(v, str)]


@pytest.mark.parametrize("layout", ["split", "single"])
def test_read_only_containers_can_write_where_the_upstream_images_do(layout: str) -> None:
    services = compose(layout)["services"]
    assert all(service["read_only"] for service in services.values())
    generated = services["nginx" if layout == "single" else "docker-gen"]
    assert "/etc/nginx/conf.d" in writable(generated)
    assert {"/run", TMP, "/var/cache/nginx"} <= writable(services["nginx"])
    assert {
        "/app",
        "/etc/acme.sh",
        "/etc/nginx/certs",
        "/etc/nginx/vhost.d",
        TMP,
        "/usr/share/nginx/html",
    } <= writable(services["acme-companion"])
    # Without it, the entrypoint writes a file to the read-only root file system.
    assert generated["environment"]["DHPARAM_SKIP"] == "true"


def test_what_faces_the_network_has_no_docker_socket_in_the_split_layout() -> None:
    services = compose("split")["services"]
    assert SOCKET not in mounts(services["nginx"])
    assert "/etc/nginx/conf.d" not in writable(services["nginx"])
    assert services["docker-gen"]["network_mode"] == "none"


def test_the_companion_finds_whom_to_tell_in_each_layout() -> None:
    nginx, docker_gen = "com.github.nginx-proxy.nginx", "com.github.nginx-proxy.docker-gen"
    split, single = (compose(layout)["services"] for layout in ("split", "single"))
    assert nginx in split["nginx"]["labels"] and nginx in single["nginx"]["labels"]
    assert docker_gen in split["docker-gen"]["labels"]
    # With the label, the companion would send SIGHUP, which ends forego.
    assert docker_gen not in single["nginx"]["labels"]


def test_the_first_process_of_each_layout_knows_the_signal_that_stops_it() -> None:
    split, single = (compose(layout)["services"] for layout in ("split", "single"))
    assert split["nginx"]["stop_signal"] == "SIGQUIT"
    assert split["docker-gen"]["stop_signal"] == single["nginx"]["stop_signal"] == "SIGTERM"


def test_nginx_finishes_its_requests_where_it_shares_a_container() -> None:
    split, single = (compose(layout)["services"]["nginx"] for layout in ("split", "single"))
    assert single["entrypoint"] == ["/bin/sh", "/etc/quit-gracefully", "/entrypoint"]
    assert single["command"] == ["forego"]
    assert "entrypoint" not in split
    assert "./quit-gracefully" in mounts(single)


def test_a_site_outlives_a_short_absence_of_the_container_with_its_names() -> None:
    command = compose("split")["services"]["docker-gen"]["command"]
    # Compose would interpolate a single dollar sign.
    assert command == [*DOCKER_GEN[:3], "2s:4s", "label=$$NGINX", "/app/nginx.tmpl"]
    assert docker_gen_waits(["docker-gen", "-watch"], "2s:4s") == ["docker-gen", "-watch"]
    # Our own image has the same option.
    recipe = (IMAGES / "nginx-proxy/Dockerfile").read_text()
    assert '"-wait", "' in recipe
    # In check mode there may be no image.
    assert compose("split", __proxy_docker_gen={"images": []})["services"]["docker-gen"]


def test_a_foreign_nginx_has_each_file_that_generated_configuration_includes() -> None:
    generated = IMAGES / "nginx-proxy/src/nginx.tmpl"
    assert "include /etc/nginx/network_internal.conf;" in generated.read_text()
    assert "./network_internal.conf" in mounts(compose("split")["services"]["nginx"])


@pytest.mark.parametrize("layout", ["split", "single"])
def test_files_beside_the_compose_file_are_installed(layout: str) -> None:
    tasks = (ROLE / "tasks/files.yml").read_text()
    values = {"__proxy_ca_bundle": "ca.pem", "__proxy_eab": {"ACME_EAB_KID": "a"}}
    for service in compose(layout, **values)["services"].values():
        for mount in mounts(service):
            if mount.startswith("./"):
                assert mount.removeprefix(".") in tasks, mount


def test_each_page_that_a_site_shows_for_an_error_is_written() -> None:
    sites = ROLE.parent / "app/templates/vhost"
    named = "".join((sites / f"{name}.j2").read_text() for name in ("server", "maintenance"))
    pages = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__proxy_error_pages"]
    assert {str(page["code"]) for page in pages} == set(re.findall(r"/(\d{3})\.html", named))
    template = jinja2.Template((ROLE / "templates/error.html.j2").read_text(), trim_blocks=True)
    for page in pages:
        text = template.render(item=page)
        assert text.count(page["title"]) == 2
        assert ("tries again" in text) == ('http-equiv="refresh"' in text)


@pytest.mark.parametrize(("version", "kept"), [("1.29.3", True), ("1.27.3", False), ("0", False)])
def test_connections_outlive_a_reload_where_nginx_can(version: str, kept: bool) -> None:
    assert ("keepalive_min_timeout 65s;" in shared(__proxy_nginx_version=version)) == kept


def shared(**values: Any) -> str:
    """Render the configuration that all sites share."""
    environment = jinja2.Environment(  # noqa: S701 # it is not HTML
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["bool"] = bool
    environment.tests["version"] = core.TestModule().tests()["version"]
    return environment.get_template("flask-vps.conf.j2").render(
        {
            "proxy_http_port": 80,
            "proxy_https_port": 443,
            "proxy_trusts_downstream": False,
            "proxy_open_requests_per_client": 200,
            "__proxy_has_ipv6": False,
            "__proxy_nginx_version": "0",
        }
        | values
    )


def look_up(variable: str, key: str) -> str:
    """Look up a value in one of nginx's maps."""
    rules = re.search(rf"map \S+ \${variable} \{{(.*?)\n\}}", shared(), re.DOTALL)
    assert rules
    default = key
    for line in rules[1].strip().splitlines():
        pattern, value = line.strip().rstrip(";").rsplit(" ", 1)
        if pattern == "default" and not value.startswith("$"):
            default = value.strip('"')
        elif pattern.startswith('"~*'):
            if re.search(pattern[3:-1], key, re.IGNORECASE):
                return value
        elif pattern.startswith('"~'):
            # Python has another syntax for named groups.
            found = re.search(pattern[2:-1].replace("(?<", "(?P<"), key)
            if found:
                return found[value.removeprefix("$")]
        elif pattern.strip('"') == key:
            return value.strip('"')
    return default


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("127.0.0.1", ""),
        ("::1", ""),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:"),
        ("2001:db8:1:2::9", "2001:db8:1:2:"),
        ("2001:db8::9", "2001:db8::"),
        ("2001:db8:0:1:0:1:2:3", "2001:db8:0:1:"),
        ("fd00::2", "fd00::"),
    ],
)
def test_an_ipv6_client_is_its_network(address: str, client: str) -> None:
    assert look_up("flask_vps_client", address) == client


@pytest.mark.parametrize(
    ("asked", "passed"),
    [
        ("websocket", "websocket"),
        ("WebSocket", "websocket"),
        ("", ""),
        ("h2c", ""),
        ("h2c, websocket", ""),
        ("websocket, h2c", ""),
        ("websockets", ""),
    ],
)
def test_upgrades_connections_only_to_websocket(asked: str, passed: str) -> None:
    assert look_up("flask_vps_upgrade", asked) == passed
    assert look_up("flask_vps_connection", passed) == ("upgrade" if passed else "close")


def test_an_app_s_own_word_on_https_is_the_only_one() -> None:
    assert look_up("flask_vps_hsts", "") == "max-age=31536000"
    assert look_up("flask_vps_hsts", "max-age=60") == ""
    way = (ROLE.parent / "app/templates/vhost/_location_override.j2").read_text()
    assert re.findall(r"add_header (\S+) (\S+)", way) == [
        ("Strict-Transport-Security", "$flask_vps_hsts")
    ]


def test_behind_another_proxy_the_client_is_whom_that_one_names() -> None:
    assert "map $http_x_forwarded_for $flask_vps_client_address" in shared(
        proxy_trusts_downstream=True
    )
    assert "http_x_forwarded_for" not in shared()


def test_the_limit_of_open_requests_can_be_off() -> None:
    assert "limit_conn flask_vps_clients 200;" in shared()
    assert "limit_conn" not in shared(proxy_open_requests_per_client=0)
