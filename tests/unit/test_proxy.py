"""The edge's compose file: what each image needs, and what it must not have."""

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.plugins.test import core

ROLE = Path(__file__).parents[2] / "roles/proxy"
SOCKET = "/var/run/docker.sock"
# In the containers, where it is a tmpfs.
TMP = "/tmp"  # noqa: S108


def compose(layout: str, **values: Any) -> dict[str, Any]:
    """Render and read the compose file of a layout."""
    environment = jinja2.Environment(  # noqa: S701 # it is not HTML
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"bool": bool, "to_json": json.dumps}
    images = ("nginx", "docker_gen", "nginx_proxy", "acme_companion")
    companion = {"Id": f"sha256:{'0' * 64}", "Config": {"Entrypoint": ["/start"], "Cmd": ["run"]}}
    text = environment.get_template("compose.yml.j2").render(
        {
            "docker_health_pace": {"interval": "30s"},
            "proxy_layout": layout,
            "proxy_http_port": 80,
            "proxy_https_port": 443,
            "proxy_acme_email": "admin@example.org",
            "proxy_acme_ca_bundle": "",
            "proxy_trusts_downstream": False,
            "proxy_images": {name: f"example/{name}:1" for name in images},
            "__proxy_ca_uri": "https://ca.test/dir",
            "__proxy_companion": {"images": [companion]},
            "__proxy_eab": {},
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
    # Without this their entrypoints copy a file into the image.
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
    # With the label it would only send SIGHUP, which ends forego.
    assert docker_gen not in single["nginx"]["labels"]


def test_the_first_process_of_each_layout_knows_the_signal_that_stops_it() -> None:
    split, single = (compose(layout)["services"] for layout in ("split", "single"))
    assert split["nginx"]["stop_signal"] == "SIGQUIT"
    assert split["docker-gen"]["stop_signal"] == single["nginx"]["stop_signal"] == "SIGTERM"


def test_a_foreign_nginx_has_each_file_that_generated_configuration_includes() -> None:
    generated = ROLE.parent / "images/files/nginx-proxy/nginx.tmpl"
    assert "include /etc/nginx/network_internal.conf;" in generated.read_text()
    assert "./network_internal.conf" in mounts(compose("split")["services"]["nginx"])


@pytest.mark.parametrize("layout", ["split", "single"])
def test_files_beside_the_compose_file_are_installed(layout: str) -> None:
    tasks = (ROLE / "tasks/files.yml").read_text()
    values = {"proxy_acme_ca_bundle": "ca.pem", "__proxy_eab": {"ACME_EAB_KID": "a"}}
    for service in compose(layout, **values)["services"].values():
        for mount in mounts(service):
            if mount.startswith("./"):
                assert mount.removeprefix(".") in tasks, mount


@pytest.mark.parametrize(("version", "kept"), [("1.29.3", True), ("1.27.3", False), ("0", False)])
def test_connections_outlive_a_reload_where_nginx_can(version: str, kept: bool) -> None:
    environment = jinja2.Environment(  # noqa: S701 # it is not HTML
        loader=jinja2.FileSystemLoader(ROLE / "templates"), undefined=jinja2.StrictUndefined
    )
    environment.tests["version"] = core.TestModule().tests()["version"]
    text = environment.get_template("flask-vps.conf.j2").render(
        proxy_http_port=80, proxy_https_port=443, __proxy_nginx_version=version
    )
    assert ("keepalive_min_timeout 65s;" in text) == kept
