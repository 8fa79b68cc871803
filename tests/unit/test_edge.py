"""Variables of an app's own image do not reach the edge, and the edge's settings release no app."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from checks.edge import EDGE_VARIABLE
from companion.wanted import read_wanted
from conftest import run_play
from content import content_digest
from dockergen.settings import CONTAINER_PATTERNS, UNSUPPORTED, read_backend
from edge import edge_labels, without_edge_variables
from module_utils.app import App

from app import exec_path

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles/app"

HOSTILE = {
    "PATH": "/bin",
    "VIRTUAL_HOST": "other.test",
    "VIRTUAL_HOST_MULTIPORTS": "other.test: {/: {port: 1}}",
    "VIRTUAL_PATH": "/login",
    "LETSENCRYPT_HOST": "other.test",
    "ACME_HOST": "other.test",
    "ACME_POST_HOOK": "id",
    "ACME_COMPANY": "an app's own",
}


def image(environment: dict[str, str], **labels: str) -> dict[str, Any]:
    lines = [f"{name}={value}" for name, value in environment.items()]
    return {"Config": {"Env": lines, "Labels": labels or None}}


def test_empties_only_the_variables_that_the_edge_reads() -> None:
    emptied = without_edge_variables(image(HOSTILE))
    assert emptied == dict.fromkeys(set(HOSTILE) - {"PATH", "ACME_COMPANY"}, "")
    assert without_edge_variables({"Config": {"Env": None}}) == {}


@pytest.mark.parametrize("emptied", [False, True])
def test_our_docker_gen_and_companion_pass_over_empty_values(emptied: bool) -> None:
    environment = HOSTILE | (without_edge_variables(image(HOSTILE)) if emptied else {})
    lines = [f"{name}={value}" for name, value in environment.items()]
    container = {"Name": "/web", "Config": {"Env": lines, "Labels": {}}, "NetworkSettings": {}}
    assert (read_backend(container, []) is None) == emptied
    wanted, _ = read_wanted([container], {})
    assert (wanted == []) == emptied


def test_every_variable_that_our_images_read_of_a_container_is_known() -> None:
    names = {name for name in [*CONTAINER_PATTERNS, *UNSUPPORTED] if "." not in name}
    names -= {"DEBUG_ENDPOINT", "ENABLE_HTTP3", "ENABLE_PROXY_PROTOCOL"}  # the proxy's own
    assert [name for name in names if not EDGE_VARIABLE.fullmatch(name)] == []


def test_labels_of_the_edge_are_named() -> None:
    labels = {"com.github.nginx-proxy.nginx": "", "org.opencontainers.image.title": "shop"}
    assert edge_labels(image({}, **labels)) == ["com.github.nginx-proxy.nginx"]
    assert edge_labels(image({})) == []


def release(environment: dict[str, str]) -> dict[str, Any]:
    """Render the compose file of a release with its own Dockerfile and a worker."""
    templates = jinja2.Environment(  # noqa: S701 # it is not HTML
        loader=jinja2.FileSystemLoader(ROLE / "templates"), trim_blocks=True
    )
    templates.filters |= {
        "exec_path": exec_path,
        "to_json": json.dumps, "without_edge_variables": without_edge_variables,
    }  # fmt: skip
    app = App.from_entry(
        {
            "name": "shop",
            "domains": ["shop.test"],
            "dockerfile": "Dockerfile",
            "port": 80,
            "workers": [{"name": "mail", "command": "rq"}],
        }
    )
    values = {
        "app_entry": app.entry(),
        "docker_health_pace": {},
        "__app_built": {"images": [image(environment)]},
        "__app_model": app.derived() | {"variables": {"PORT": "80"}},
    }
    return yaml.safe_load(templates.get_template("release/compose.yml.j2").render(values))


def test_containers_of_an_image_of_its_own_say_nothing_at_the_edge() -> None:
    services = release(HOSTILE)["services"]
    for name in ("web", "worker-mail"):
        environment = services[name]["environment"]
        assert environment["VIRTUAL_HOST"] == environment["ACME_POST_HOOK"] == ""
        assert "ACME_COMPANY" not in environment
    assert set(release({})["services"]["web"]["environment"]) == {"PATH", "PORT"}


def digests(
    tmp_path: Path,
    cases: dict[str, dict[str, Any]],
    files: Path = ROLE,
    parts: str = "__app_parts",
) -> dict[str, str]:
    """
    Compute the names of releases, from the role's own variables; one for each case.

    Recipe and templates are those of the role, or those in `files`.
    """
    names = ("python", "nginx", "nginx_proxy", "docker_gen", "acme_companion")
    common = {
        "docker_health_pace": {"interval": "30s"},
        "role_path": str(files),
        "__app_fetched": {"shop": {"digest": "0"}},
        "__app_vhost_built": {"images": [{"Id": "sha256:0"}]},
    }
    entry = {"name": "shop", "source": "/srv/shop", "domains": ["shop.test", "www.shop.test"]}
    play = {
        "vars_files": [f"{ROLE}/defaults/main.yml", f"{ROLE}/vars/main.yml"],
        "tasks": [
            {
                "ansible.builtin.debug": {"msg": f"{case}={{{{ {parts} | content_digest }}}}."},
                "vars": {
                    **common,
                    **values,
                    "app_entry": App.from_entry(entry | values.get("app_entry", {})).entry(),
                    "images_names": {n: f"{n}:1" for n in names} | values.get("images_names", {}),
                },
            }
            for case, values in cases.items()
        ],
    }
    done = run_play(tmp_path, **play)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(re.findall(r"(\w+)=([0-9a-f]{12})[.]", done.stdout))


@pytest.mark.parametrize("own", [{"module": "shop:app"}, {"dockerfile": "Dockerfile"}])
def test_a_change_of_the_edge_alone_releases_no_app(tmp_path: Path, own: dict) -> None:
    more = {"upload_mb": 5, "tls": "selfsigned", "domains": ["shop.test", "new.shop.test"]}
    found = digests(
        tmp_path,
        {
            "before": {"app_entry": own},
            "entry": {"app_entry": own | more},
            "layout": {"app_entry": own, "proxy_layout": "single", "proxy_https_port": 8443},
            "edge": {
                "app_entry": own,
                "images_names": {"nginx_proxy": "2", "docker_gen": "2", "acme_companion": "2"},
                "app_vhost_image": "2",
            },
            "nginx": {"app_entry": own, "images_names": {"nginx": "2"}},
            "memory": {"app_entry": own | {"memory_mb": 99}},
        },
    )
    assert found["entry"] == found["layout"] == found["edge"] == found["before"]
    # nginx's image belongs to the edge only, unless the app has a relay.
    assert (found["nginx"] != found["before"]) == ("dockerfile" in own)
    # Negative control.
    assert found["memory"] != found["before"]


# The IDs of releases that earlier versions made, with a test's recipe and templates.
RELEASES = {
    "f21dc8876320": {},
    "3ac78e6f8f04": {
        "app_entry": {
            "state": "present",
            "processes": 2,
            "threads": 4,
            "database": "postgres",
            "health": "/",
        }
    },
    "e7074ad3c562": {"app_entry": {"processes": "3", "memory_mb": "256"}},
    "a3d6d868a552": {
        "app_entry": {"dockerfile": "Dockerfile", "port": 8000, "build_secrets": ["ca_bundle"]}
    },
    "b58bcf6eab2b": {"app_entry": {"database": "sqlite", "volumes": ["/data", "/app/uploads/"]}},
    "207dd3ee46f3": {
        "app_entry": {
            "database": "none",
            "init": "flask db upgrade",
            "static": "static",
            "tls": "selfsigned",
        }
    },
    "e119a9205c91": {
        "app_entry": {
            "environment": {"DEBUG": False, "LIMIT": 3, "NAME": "ü$"},
            "packages": ["libpq5"],
            "workers": [{"name": "mail", "command": "python mail.py"}],
            "cron": [{"name": "night", "schedule": "0 3 * * *", "command": "true"}],
        }
    },
    "4b457c7e1c0a": {
        "app_secrets": {"SECRET_KEY": "k", "POSTGRES_PASSWORD": "p/ä@", "API_TOKEN": "t"}
    },
    "01234cae96c1": {
        "app_entry": {"database": "none"},
        "app_secrets": {"DATABASE_URL": "postgresql://x"},
    },
    "d432ede920b0": {"app_memory_mb": 300},
}


def test_an_upgrade_gives_no_release_another_name(tmp_path: Path) -> None:
    for name, text in {
        "files/recipe/Dockerfile": "FROM scratch\n",
        "templates/release/compose.yml.j2": "services: {}\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    cases = {
        f"_{name}": values | {"app_entry": {"module": "shop:app"} | values.get("app_entry", {})}
        for name, values in RELEASES.items()
    }
    found = digests(tmp_path, cases, tmp_path)
    assert found == {f"_{name}": name for name in RELEASES}


def test_whatever_the_container_with_the_host_names_says_is_part_of_its_name(
    tmp_path: Path,
) -> None:
    """Compose would recreate a container of the same name, with the site down meanwhile."""
    found = digests(
        tmp_path,
        {
            "before": {},
            "other": {"app_entry": {"memory_mb": 99}},
            "added": {"app_entry": {"domains": ["shop.test", "new.shop.test"]}},
            "changed": {"app_entry": {"domains": ["shop.example"]}},
            "tls": {"app_entry": {"tls": "selfsigned"}},
            "image": {"app_vhost_image": "another"},
            "upgrade": {"__app_vhost_built": {"images": [{"Id": "sha256:1"}]}},
        },
        parts="__app_vhost_parts",
    )
    assert found.pop("other") == found["before"]
    assert len(set(found.values())) == len(found) == 6


def test_another_container_is_there_before_the_host_names_lose_theirs() -> None:
    tasks = yaml.safe_load((ROLE / "tasks/site/announce.yml").read_text())
    [task] = [one for one in tasks if "community.docker.docker_compose_v2" in one]
    environment = jinja2.Environment()  # noqa: S701 # it is not HTML
    template = environment.from_string(task["community.docker.docker_compose_v2"]["remove_orphans"])
    assert [template.render(item=item) for item in task["loop"]] == ["False", "True"]
    text = (ROLE / "templates/vhost/compose.yml.j2").read_text()
    # The names of service and container both contain the ID, so they cannot collide.
    for line in ("  vhost-{{ __app_vhost_id }}:", "names.domains_project }}-{{ __app_vhost_id }}"):
        assert line in text


def test_a_new_recipe_or_template_is_a_decision(tmp_path: Path) -> None:
    """Any change of them gives each app a new release on upgrade: note it in the changelog."""
    parts = [str(ROLE / "files/recipe"), str(ROLE / "templates/release")]
    assert content_digest(parts) == "6dbba7958b5c"
    # Negative control: a comment counts as well.
    shutil.copytree(ROLE / "files/recipe", tmp_path / "recipe")
    with (tmp_path / "recipe/Dockerfile").open("a") as file:
        file.write("# A comment.\n")
    assert content_digest([str(tmp_path / "recipe"), parts[1]]) != content_digest(parts)
