"""Services beside an app: the model, what preflight refuses, and the compose file."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from checks.memory import limits, postgres_memory
from checks.running import expected
from checks.services import check_services
from checks.site import Site, check_site
from content import content_digest
from edge import edge_labels, without_edge_variables
from module_utils.app import App, entry_options, required_secrets
from module_utils.services import (
    Service,
    app_vault,
    definitions,
    service_files,
    service_kinds,
    service_leftovers,
    service_plans,
    services_of,
    unlisted_folders,
)

from app import containers_of

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles/services"
PASSWORD = "p@ss/word$with'quotes\"and#" + "x" * 20
SEARCH = {
    "name": "search",
    "image": "example/search:1.2",
    "volumes": ["/var/lib/search"],
    "environment": {"MODE": "fast$er", "NUMBER": 1},
    "secrets": ["SEARCH_KEY"],
}


def entry(name: str = "shop", **keys: Any) -> dict[str, Any]:
    return {"name": name, "domains": [f"{name}.test"], **keys}


# -- model ----------------------------------------------------------------------------------------


def test_redis_is_another_name_of_valkey() -> None:
    assert Service.of("redis") == Service.of("valkey") == Service.of({"name": "redis"})
    assert Service.of("valkey").hosts == ["valkey", "redis"]


def test_the_app_finds_its_services_in_variables() -> None:
    app = App.from_entry(entry(services=["redis", "memcached"], database="none"))
    found = app.secrets({"VALKEY_PASSWORD": PASSWORD})
    quoted = "p%40ss%2Fword%24with%27quotes%22and%23" + "x" * 20
    for name in ("REDIS_URL", "VALKEY_URL", "RQ_REDIS_URL"):
        assert found[name] == f"redis://:{quoted}@valkey:6379/0"
    assert found["MEMCACHED_SERVERS"] == "memcached:11211"
    # Without a password in the vault there is nothing to connect with; preflight has told so.
    assert "REDIS_URL" not in app.secrets({})
    # A rollback must not return to a password that the service no longer takes.
    shared = app.shared_secrets({"VALKEY_PASSWORD": PASSWORD})
    assert {"REDIS_URL", "VALKEY_PASSWORD"} <= set(shared)
    assert app.shared_secrets({}) != [] and "SECRET_KEY" not in shared
    # Values that the operator has set win.
    mine = App.from_entry(entry(services=["valkey"], environment={"REDIS_URL": "x"}))
    assert "REDIS_URL" not in mine.secrets({"VALKEY_PASSWORD": PASSWORD})
    assert app.secrets({"VALKEY_PASSWORD": PASSWORD, "REDIS_URL": "y"})["REDIS_URL"] == "y"


def test_further_variables_get_the_address() -> None:
    service = {"name": "valkey", "urls": ["CELERY_BROKER_URL"]}
    found = App.from_entry(entry(services=[service])).secrets({"VALKEY_PASSWORD": "a"})
    assert found["CELERY_BROKER_URL"] == found["REDIS_URL"] == "redis://:a@valkey:6379/0"


def test_data_are_kept_unless_the_operator_says_otherwise() -> None:
    kept, lost = Service.of("valkey"), Service.of({"name": "valkey", "persist": False})
    assert kept.plan("shop")["volumes"] == [{"name": "shop.valkey.data", "path": "/data"}]
    assert lost.plan("shop")["volumes"] == []
    # Otherwise an image that declares the folder as a volume would get an anonymous one.
    assert lost.writable == ["/data"]
    assert "appendonly yes\nmaxmemory-policy noeviction" in kept.settings({})
    assert "appendonly no\nmaxmemory-policy allkeys-lru" in lost.settings({})
    assert Service.of({"name": "valkey", "persist": "no"}) == lost
    # A rewrite of the file may need as much memory again as the data.
    assert "maxmemory 64mb" in kept.settings({})
    assert "maxmemory 96mb" in lost.settings({})


def test_settings_hold_no_password() -> None:
    text = Service.of("valkey").settings({"VALKEY_PASSWORD": PASSWORD})
    assert PASSWORD not in text
    assert f"user default on #{hashlib.sha256(PASSWORD.encode()).hexdigest()} ~* &* +@all" in text


def test_a_password_is_required_of_the_owner_only() -> None:
    assert "VALKEY_PASSWORD" in required_secrets(entry(services=["valkey"]))
    assert "VALKEY_PASSWORD" not in required_secrets(entry(services=["memcached"]))
    shared = entry("blog", services=[{"name": "valkey", "from": "shop"}])
    assert "VALKEY_PASSWORD" not in required_secrets(shared)


def test_a_shared_service_is_one_for_all_its_apps() -> None:
    shop = entry(services=[{"name": "valkey", "memory_mb": 256}])
    blog = entry("blog", services=[{"name": "redis", "from": "shop"}])
    gone = entry("gone", state="absent", services=[{"name": "redis", "from": "shop"}])
    apps = [shop, blog, gone]
    (plan,) = service_plans(shop, apps)
    assert service_plans(blog, apps) == [plan]
    assert (plan["app"], plan["apps"], plan["memory_mb"]) == ("shop", ["shop", "blog"], 256)
    vault = {"shop": {"VALKEY_PASSWORD": PASSWORD, "SECRET_KEY": "a"}, "blog": {"SECRET_KEY": "b"}}
    lent = app_vault(blog, vault, apps)
    assert lent == {"VALKEY_PASSWORD": PASSWORD, "SECRET_KEY": "b"}
    assert "@valkey:6379" in App.from_entry(blog).secrets(lent)["REDIS_URL"]
    # Negative control: an app that shares nothing gets nothing.
    assert app_vault(entry("wiki"), {**vault, "wiki": {}}, apps) == {}


def test_a_container_gets_its_own_secrets_only() -> None:
    vault = {"shop": {"SEARCH_KEY": "k", "SECRET_KEY": "s", "VALKEY_PASSWORD": PASSWORD}}
    search, valkey = service_plans(entry(services=[SEARCH, "valkey"]), [])
    assert service_files(search, vault) == {"SEARCH_KEY": "k"}
    assert sorted(service_files(valkey, vault)) == ["VALKEY_PASSWORD", "settings"]


def test_images_of_known_services_are_provided_where_they_are_used() -> None:
    apps = [
        entry(services=["redis", SEARCH]),
        entry("blog", services=[{"name": "memcached", "from": "wiki"}]),
        entry("gone", state="absent", services=["memcached"]),
    ]
    assert service_kinds(apps) == ["valkey"]
    assert service_kinds([entry(), "nonsense"]) == []
    specs = yaml.safe_load((ROOT / "roles/images/meta/argument_specs.yml").read_text())
    choices = specs["argument_specs"]["main"]["options"]["images_wanted"]["choices"]
    recipes = yaml.safe_load((ROOT / "roles/images/vars/main.yml").read_text())
    versions = yaml.safe_load((ROOT / "roles/images/defaults/main/versions.yml").read_text())
    for kind in definitions():
        assert kind in choices
        assert kind in recipes["__images_recipes"]
        assert kind in versions["images_upstream"]


@pytest.mark.parametrize("services", [None, "valkey", 7, [None, 7, {}, {"name": None}, []]])
def test_a_malformed_list_of_services_is_left_to_preflight(services: Any) -> None:
    assert services_of({"services": services}) == []


def test_services_stop_last_and_stay_at_a_deploy() -> None:
    def container(name: str, project: str, service: str, **labels: str) -> dict[str, Any]:
        compose = {"com.docker.compose.project": project, "com.docker.compose.service": service}
        return {"Names": [f"/{name}"], "Labels": {**compose, **labels}}

    release = {"flask-vps.app": "shop", "flask-vps.release": "a"}
    listed = [
        container(
            "shop-valkey-valkey-1", "shop-valkey", "valkey", **{"flask-vps.services-of": "shop"}
        ),
        container("shop-a-web-1", "shop-a", "web", **release),
        container(
            "blog-valkey-valkey-1", "blog-valkey", "valkey", **{"flask-vps.services-of": "blog"}
        ),
        container("shop-vhost-vhost-1", "shop-vhost", "vhost"),
    ]
    order = ["shop-vhost-vhost-1", "shop-a-web-1", "shop-valkey-valkey-1"]
    assert containers_of(listed, "shop") == order
    assert containers_of(listed, "shop", but="b") == ["shop-a-web-1"]
    of_shop = listed[:1]
    assert service_leftovers(of_shop, entry(services=["valkey"])) == []
    assert service_leftovers(of_shop, entry()) == ["shop-valkey-valkey-1"]


def test_status_expects_services() -> None:
    shared = [{"name": "valkey", "from": "shop"}]
    apps = [
        {"name": "shop", "live": "a", "services": ["web"], "entry": entry(services=["redis"])},
        {"name": "blog", "live": "b", "services": ["web"], "entry": entry("blog", services=shared)},
    ]
    found = expected({"edge": [], "apps": apps}, [entry(), entry("blog")])
    assert found.count(("shop-valkey", "valkey")) == 1
    assert not [project for project, _ in found if project == "blog-valkey"]


def test_memory_of_services_counts() -> None:
    apps = [
        entry(memory_mb=300, services=["valkey", {"name": "memcached", "memory_mb": 100}]),
        entry("blog", memory_mb=300, services=[{"name": "valkey", "from": "shop"}]),
    ]
    assert limits(apps, 512, 200) == {"shop": 300 + 128 + 100 + 200, "blog": 300 + 200}
    # A small service restarts no database, and a large one leaves less to them.
    plain = postgres_memory(4000, [entry(), entry("blog")])
    assert postgres_memory(4000, apps) == plain
    large = [entry(services=[{"name": "valkey", "memory_mb": 2048}]), entry("blog")]
    assert postgres_memory(4000, large) == (4000 - 2048) // 4 < plain


# -- preflight ------------------------------------------------------------------------------------


def problems(services: Any, vault: Any = None, *others: dict[str, Any], **keys: Any) -> list[str]:
    apps = [(f"apps.{e['name']}", e) for e in (entry(services=services, **keys), *others)]
    given = {"shop": {"SEARCH_KEY": "k"}} if vault is None else vault
    options = entry_options()["services"]["options"]
    return [str(finding) for finding in check_services(apps, options, given)]


@pytest.mark.parametrize(
    "services",
    [
        [],
        ["valkey"],
        ["redis", "memcached"],
        [{"name": "valkey", "persist": False, "memory_mb": 64, "urls": ["CELERY_BROKER_URL"]}],
        [SEARCH],
        [{**SEARCH, "command": "serve --dir '/a b'", "user": "1000:1000", "writable": ["/var/x"]}],
        [{**SEARCH, "command": ["serve", 1], "read_only": False, "health": "curl -f localhost"}],
        [{"name": "search", "image": "registry.example.org:5000/a/search@sha256:" + "a" * 64}],
    ],
)
def test_good_services_pass(services: list[Any]) -> None:
    assert problems(services) == []


@pytest.mark.parametrize(
    ("services", "text"),
    [
        (["valky"], "services[0] = 'valky': is not a known service. Did you mean valkey?"),
        (["rabbitmq"], "write `name: rabbitmq` and `image:`"),
        ([7], "services[0] = 7: must be a name or a dictionary"),
        ([True], "must be a name or a dictionary"),
        ([None], "must be a name or a dictionary"),
        ([["valkey"]], "must be a name or a dictionary"),
        ([{}], "services[0].name: is missing"),
        ([{"name": "Search", "image": "a:1"}], "is not a valid name of a service"),
        ([{"name": 5, "image": "a:1"}], "is not a valid name of a service"),
        ([{"name": "db", "image": "a:1"}], "is reserved for the app itself"),
        ([{"name": "web", "image": "a:1"}], "is reserved"),
        ([{"name": "x-db", "image": "a:1"}], "is reserved"),
        ([{"name": "worker-mail", "image": "a:1"}], "is reserved"),
        ([{"name": "search"}], "services[0].name = 'search': is not a known service"),
        ([{**SEARCH, "image": "a b"}], "is not a valid image name"),
        ([{**SEARCH, "image": "search"}], "has no tag"),
        (
            [{**SEARCH, "imge": "a:1"}],
            "services[0].imge = 'a:1': is an unknown key. Did you mean image?",
        ),
        ([{"name": "valkey", "image": "a:1"}], "replaces the known service valkey"),
        ([{"name": "redis", "command": "x"}], "has no effect on valkey"),
        ([{"name": "valkey", "volumes": ["/a"]}], "has no effect on valkey"),
        ([{**SEARCH, "persist": True}], "has no effect on a service by image"),
        ([{**SEARCH, "memory_mb": 1}], "is out of range"),
        ([{**SEARCH, "memory_mb": "64m"}], "is not a whole number"),
        ([{**SEARCH, "user": "search"}], "is not a user ID"),
        ([{**SEARCH, "command": "serve 'x"}], "has a quote that does not end"),
        ([{**SEARCH, "volumes": "/data"}], "must be a list"),
        ([{**SEARCH, "volumes": ["data"]}], "must be an absolute path"),
        ([{**SEARCH, "volumes": ["/"]}], "is reserved in the container"),
        ([{**SEARCH, "writable": ["/run/secrets/x"]}], "is reserved in the container"),
        ([{**SEARCH, "environment": {"A": None}}], "environment.A: is empty"),
        ([{**SEARCH, "environment": {"A": [1]}}], "must be a single value"),
        ([{**SEARCH, "environment": {True: "x"}}], "is not a valid variable name"),
        ([{**SEARCH, "environment": {"VIRTUAL_HOST": "x"}}], "docker-gen"),
        ([{**SEARCH, "environment": {"SEARCH_KEY": "x"}}], "is also in `secrets`"),
        ([{**SEARCH, "secrets": ["OTHER"]}], "needs OTHER, which vault_app_secrets.shop lacks"),
        ([{**SEARCH, "health": "a\nb"}], "contains a line break"),
        ([{"name": "valkey", "urls": ["A B"]}], "is not a valid variable name"),
        (["valkey", "redis"], "names one service twice"),
        ([SEARCH, SEARCH], "names one service twice"),
        ([{"name": "valkey", "from": "shop"}], "is the app itself"),
        ([{"name": "valkey", "from": "shpo"}], "names an app that is not present"),
        (
            [{"name": "valkey", "from": "blog", "persist": False}],
            "has no effect on a shared service",
        ),
    ],
)
def test_refuses(services: list[Any], text: str) -> None:
    found = problems(services)
    assert any(text in line for line in found), found


def test_a_shared_service_must_exist_with_its_password() -> None:
    shared = [{"name": "valkey", "from": "blog"}]
    vault = {"blog": {"VALKEY_PASSWORD": PASSWORD}}
    (text,) = problems(shared, vault, entry("blog"))
    assert "names an app without a service valkey of its own" in text
    (text,) = problems(shared, {}, entry("blog", services=["redis"]))
    assert "needs VALKEY_PASSWORD, which vault_app_secrets.blog lacks" in text
    assert problems(shared, vault, entry("blog", services=["redis"])) == []


def test_containers_and_volumes_of_two_owners_have_different_names() -> None:
    other = entry("shop-a", services=[{"name": "b", "image": "x:1"}])
    (text,) = problems([{"name": "a-b", "image": "x:1"}], None, other)
    assert "apps.shop-a.services" in text and "apps.shop's" in text
    found = problems(["valkey"], volumes=["/valkey.data"])
    assert any("would share a volume with valkey's /data" in line for line in found), found
    assert problems(["valkey"], volumes=["/data"]) == []


# -- compose file ---------------------------------------------------------------------------------


def rendered(tmp_path: Path, services: list[Any], built: dict[str, Any] | None = None) -> Any:
    """Write the compose file of one service as the role does."""
    plan = service_plans(entry(services=services), [])[0]
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [f"{ROLE}/vars/main.yml"],
        "vars": {
            "role_path": str(ROLE),
            "service": plan,
            "services_secrets": {"shop": {"VALKEY_PASSWORD": PASSWORD, "SEARCH_KEY": "key"}},
            "images_names": {"valkey": "flask-vps/valkey:1", "memcached": "flask-vps/memcached:1"},
            "__services_images": {"images": [{"Config": built or {}}]},
            "docker_health_pace": {"interval": "30s"},
        },
        "tasks": [
            {
                "ansible.builtin.template": {
                    "src": f"{ROLE}/templates/compose.yml.j2",
                    "dest": str(tmp_path / "compose.yml"),
                }
            }
        ],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    python = f"ansible_python_interpreter={sys.executable}"
    command = [
        Path(sys.executable).with_name("ansible-playbook"),
        "-i",
        "localhost,",
        "-c",
        "local",
    ]
    done = subprocess.run(
        [*command, "-e", python, str(tmp_path / "play.yml")],
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "compose.yml").read_text()
    assert PASSWORD not in text and not re.search(r"\n\s*\n\s*\n", text)
    return yaml.safe_load(text)


def test_valkey_runs_closed_in_with_its_secrets_as_files(tmp_path: Path) -> None:
    project = rendered(tmp_path, ["valkey"], {"User": "999:999"})
    service = project["services"]["valkey"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and "cap_add" not in service
    assert service["user"] == "999:999"
    assert service["mem_limit"] == "128m"
    assert service["entrypoint"] == ["valkey-server", "/run/secrets/settings"]
    assert service["secrets"] == ["settings", "VALKEY_PASSWORD"]
    assert service["networks"] == {"shop-backend": {"aliases": ["valkey", "redis"]}}
    assert project["networks"] == {"shop-backend": {"external": True}}
    assert service["volumes"] == [
        {"type": "volume", "source": "shop.valkey.data", "target": "/data"}
    ]
    assert service["labels"]["flask-vps.watchdog"] == "restart"
    # Otherwise a deploy would take it for a container of an old release.
    assert "flask-vps.app" not in service["labels"]
    # Compose turns $$ into $.
    assert "REDISCLI_AUTH=$$(cat" in service["healthcheck"]["test"][1]


def test_a_service_by_image_keeps_its_command_and_gets_its_secrets(tmp_path: Path) -> None:
    built = {"Entrypoint": ["search"], "Cmd": ["serve"], "User": "", "Env": ["VIRTUAL_HOST=x"]}
    service = rendered(tmp_path, [SEARCH], built)["services"]["search"]
    assert service["image"] == "example/search:1.2"
    assert service["entrypoint"] == ["sh", "/with-secrets"]
    assert service["command"] == ["search", "serve"]
    assert service["environment"] == {
        "VIRTUAL_HOST": "",
        "MODE": "fast$$er",
        "NUMBER": "1",
        "SEARCH_KEY_FILE": "/run/secrets/SEARCH_KEY",
    }
    assert service["cap_add"] == ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]
    plain = {"name": "search", "image": "a:1", "command": "serve 'a b'", "user": "7:8"}
    service = rendered(tmp_path, [plain])["services"]["search"]
    assert service["command"] == ["serve", "a b"]
    assert not {"entrypoint", "cap_add", "environment", "secrets", "volumes"} & set(service)


def test_a_new_password_recreates_the_container(tmp_path: Path) -> None:
    """The digest, a label, covers the contents of the secrets, and shows none."""
    text = (ROLE / "vars/main.yml").read_text()
    assert "__services_secrets | to_json" in text.partition("__services_parts")[2]
    assert content_digest(["a"]) != content_digest(["b"])


def test_tasks_with_secrets_are_not_logged() -> None:
    tasks = [
        task
        for file in (ROLE / "tasks").glob("*.yml")
        for task in yaml.safe_load(file.read_text())
        if "__services_secrets" in str(task.get("loop")) or "__services_digest" in str(task)
    ]
    assert len(tasks) == 2
    assert all(task["no_log"] for task in tasks)


def test_folders_that_an_image_keeps_must_be_listed() -> None:
    """What Docker keeps in anonymous volumes would be lost with the container."""
    assert unlisted_folders({"Config": {"Volumes": {"/d/": {}, "/e": {}}}}, ["/d"]) == ["/e"]
    assert unlisted_folders({"Config": {"Volumes": None}}, []) == []
    assert unlisted_folders({"Config": {}}, ["/d"]) == []
    tasks = yaml.safe_load((ROLE / "tasks/image.yml").read_text())
    assert any("unlisted_folders" in json.dumps(task) for task in tasks)


def test_an_image_with_labels_of_the_edge_is_refused() -> None:
    labels = {"com.github.nginx-proxy.nginx": ""}
    assert edge_labels({"Config": {"Labels": labels}})
    assert without_edge_variables({"Config": {}}) == {}
    tasks = yaml.safe_load((ROLE / "tasks/image.yml").read_text())
    assert any("edge_labels" in json.dumps(task) for task in tasks)


def test_preflight_checks_services_and_what_apps_connect_to() -> None:
    images = yaml.safe_load((ROOT / "roles/images/meta/argument_specs.yml").read_text())
    values = {
        "apps": [
            entry(services="valkey"),
            entry("blog", services=["valky"], environment={"MAIL_SERVER": "localhost"}),
            entry("wiki", services=["valkey"], internet="sometimes", database="external"),
        ],
        "docker_apps_may_reach": ["db.example.org"],
        "vault_app_secrets": {"wiki": {"SECRET_KEY": "x"}},
    }
    options = images["argument_specs"]["main"]["options"]
    found = [
        str(f) for f in check_site(Site(values=values, options=options, entry=entry_options()))
    ]
    for text in (
        "apps.shop.services = 'valkey': must be a list. Write it in brackets: [valkey]",
        "apps.blog.services[0] = 'valky': is not a known service",
        "apps.blog.environment.MAIL_SERVER: names localhost",
        "apps.wiki.internet = 'sometimes': is neither true nor false",
        "vault_app_secrets.wiki.VALKEY_PASSWORD: is missing",
        "vault_app_secrets.wiki.DATABASE_URL: is missing, but database is external",
        "docker_apps_may_reach = 'db.example.org': is neither an address nor a network",
    ):
        assert any(line.startswith(text) for line in found), (text, found)
