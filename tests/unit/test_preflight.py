"""Preflight: a case for each rule, and the output of a run."""

import copy
import datetime
import json
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from checks.apps import check_name
from checks.domains import ascii_domain
from checks.host import Server, check_server, postgres_major
from checks.report import UNKNOWN, Finding
from checks.site import Site, check_address, check_site, concerning
from checks.spec import ROLE_FACTS, check_names
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from domains import ascii_domains
from module_utils.app import entry_options
from preflight_host import directory_error, free_mb, listening_sockets, publisher, resolve

ROOT = Path(__file__).parents[2]
NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
SECRET = "k3J9-vQ2x_Lm8Zp4Rt7Wy1Nb6Hc0Fd5Gs"
LONG = "a" * 63


def options() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in ROOT.glob("roles/*/meta/argument_specs.yml"):
        specs = yaml.safe_load(file.read_text())["argument_specs"]
        for entry_point in ("main", "inventory"):
            found.update(specs.get(entry_point, {}).get("options", {}))
    return found


OPTIONS = options()
ENTRY = entry_options()
del OPTIONS["app_entry"]
ROLES = [role.name for role in (ROOT / "roles").iterdir()]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    (folder / "static").mkdir(parents=True)
    (folder / "requirements.txt").write_text("flask\n")
    return folder


def good(source: Path) -> dict[str, Any]:
    return {
        "acme_email": "ops@shop.dev",
        "apps": [
            {
                "name": "shop",
                "source": str(source),
                "domains": ["shop.dev", "www.shop.dev"],
                "module": "shop:create_app()",
                "static": "static",
            }
        ],
        "vault_app_secrets": {"shop": {"SECRET_KEY": SECRET, "POSTGRES_PASSWORD": SECRET[::-1]}},
    }


def findings(values: dict[str, Any], environment: str = "prod", **more: Any) -> list[Finding]:
    site = Site(
        values=values,
        names=values,
        options=OPTIONS,
        entry=ENTRY,
        roles=ROLES,
        environment=environment,
        now=NOW,
        **more,
    )
    return check_site(site)


def change(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Set the value at a dotted path; ``...`` removes it."""
    changed = copy.deepcopy(values)
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    spot: Any = changed
    for part in way:
        spot = spot[part]
    if value is ...:
        del spot[last]
    else:
        spot[last] = value
    return changed


def test_good_values_pass(source: Path) -> None:
    assert findings(good(source)) == []


@pytest.mark.parametrize(
    ("path", "value", "variable", "wrong"),
    [
        # required values
        ("acme_email", ..., "acme_email", "is missing"),
        ("acme_email", "", "acme_email", "is missing"),
        ("acme_email", "ops", "acme_email", "is not a valid e-mail address"),
        ("acme_email", "ops@a.dev, b@a.dev", "acme_email", "is not a valid e-mail address"),
        ("acme_email", "you@example.org", "acme_email", "is an example address"),
        ("apps", ..., "apps", "must be a list"),
        ("apps", [], "apps", "must be a list"),
        ("apps", {"shop": {}}, "apps", "must be a list"),
        ("apps", "shop", "apps", "must be a list"),
        ("apps", 7, "apps", "must be a list"),
        ("apps", True, "apps", "must be a list"),
        ("apps.0", "shop", "apps[0]", "must be a dictionary"),
        ("apps.0.name", ..., "apps[0].name", "is missing"),
        ("apps.0.source", ..., "apps.shop.source", "is missing"),
        ("apps.0.domains", ..., "apps.shop.domains", "is missing"),
        ("apps.0.module", ..., "apps.shop.module", "is missing"),
        # names
        ("apps.0.name", "Shop", "apps[0].name", "is not a valid app name"),
        ("apps.0.name", "1shop", "apps[0].name", "is not a valid app name"),
        ("apps.0.name", "s" * 32, "apps[0].name", "is not a valid app name"),
        ("apps.0.name", "a b", "apps[0].name", "is not a valid app name"),
        ("apps.0.name", "shop\n", "apps[0].name", "is not a valid app name"),
        # names that Docker refuses for an image
        ("apps.0.name", "shop-", "apps[0].name", "is not a valid app name"),
        ("apps.0.name", "a___b", "apps[0].name", "is not a valid app name"),
        ("apps.0.name", "a-_b", "apps[0].name", "is not a valid app name"),
        # names that are taken
        ("apps.0.name", "edge", "apps.edge.name", "is reserved for"),
        ("apps.0.name", "shop-db", "apps.shop-db.name", "is reserved for"),
        ("apps.0.name", "shop-vhost", "apps.shop-vhost.name", "is reserved for"),
        ("apps.0.name", "postgres", "apps.postgres.name", "is reserved for"),
        ("apps.0.name", "pg_shop", "apps.pg_shop.name", "is reserved for"),
        ("apps.0.name", "nginx", "apps.nginx.name", "is reserved for"),
        # domains
        ("apps.0.domains", [], "apps.shop.domains", "empty list"),
        ("apps.0.domains", "shop.dev", "apps.shop.domains", "must be a list"),
        ("apps.0.domains", [""], "apps.shop.domains", "is empty"),
        ("apps.0.domains", [7], "apps.shop.domains", "is not text"),
        ("apps.0.domains", ["https://shop.dev"], "apps.shop.domains", "a scheme"),
        ("apps.0.domains", ["shop.dev/de"], "apps.shop.domains", "a path"),
        ("apps.0.domains", ["shop.dev:443"], "apps.shop.domains", "a port"),
        ("apps.0.domains", ["my shop.dev"], "apps.shop.domains", "white space"),
        ("apps.0.domains", ["shop.dev\n"], "apps.shop.domains", "line break"),
        ("apps.0.domains", ["*.shop.dev"], "apps.shop.domains", "wildcard"),
        ("apps.0.domains", ["*.dev"], "apps.shop.domains", "whole top-level domain"),
        ("apps.0.domains", ["a*.shop.dev"], "apps.shop.domains", "not its whole first part"),
        ("apps.0.redirect", "old.dev", "apps.shop.redirect", "must be a list"),
        ("apps.0.redirect", ["shop.dev"], "apps.shop.redirect", "also one of the app's domains"),
        ("apps.0.redirect", ["*.old.dev"], "apps.shop.redirect", "cannot be redirected"),
        ("apps.0.redirect", ["https://old.dev"], "apps.shop.redirect", "scheme"),
        ("apps.0.redirect", ["old.dev", "OLD.dev"], "apps.shop.redirect", "listed twice"),
        ("apps.0.redirect", [True], "apps.shop.redirect", "not text"),
        ("apps.0.basic_auth", "anna", "apps.shop.basic_auth", "must be a list"),
        ("apps.0.basic_auth", [7], "apps.shop.basic_auth", "number as the name"),
        ("apps.0.basic_auth", ["a:b"], "apps.shop.basic_auth", "not valid"),
        ("apps.0.basic_auth", ["anna", "anna"], "apps.shop.basic_auth", "twice"),
        ("apps.0.basic_auth", ["anna"], "vault_basic_auth.shop.anna", "is missing"),
        ("apps.0.basic_auth_except", ["api"], "apps.shop.basic_auth_except", "not a valid path"),
        ("apps.0.basic_auth_except", ["/a/../b"], "apps.shop.basic_auth_except", "not a valid"),
        ("apps.0.basic_auth_except", ["/"], "apps.shop.basic_auth_except", "the whole site"),
        ("apps.0.headers", {"X Y": "a"}, "apps.shop.headers.X Y", "not a valid name"),
        ("apps.0.headers", {"Set-Cookie": "a"}, "apps.shop.headers.Set-Cookie", "differs"),
        ("apps.0.headers", {"X-A": "1", "x-a": "2"}, "apps.shop.headers.x-a", "listed twice"),
        ("apps.0.headers", {"X-A": None}, "apps.shop.headers.X-A", "is empty"),
        ("apps.0.headers", {"X-A": True}, "apps.shop.headers.X-A", "bool in YAML"),
        ("apps.0.headers", {"X-A": 3.1}, "apps.shop.headers.X-A", "float in YAML"),
        ("apps.0.headers", {"X-A": "ü"}, "apps.shop.headers.X-A", "other than ASCII"),
        ("apps.0.headers", {"X-A": "$host"}, "apps.shop.headers.X-A", "contains $"),
        ("apps.0.headers", ["X-A: 1"], "apps.shop.headers", "must be a dictionary"),
        (
            "apps.0.headers",
            {"strict-transport-security": "1 year"},
            "apps.shop.headers.strict-transport-security",
            "is not a valid value",
        ),
        ("apps.0.gzip", "sometimes", "apps.shop.gzip", "neither true nor false"),
        ("apps.0.nginx", ["gzip on;"], "apps.shop.nginx", "not text"),
        ("apps.0.nginx", "a\x00", "apps.shop.nginx", "control character"),
        ("apps.0.nginx", " location / {\n}", "apps.shop.nginx", "that of the app"),
        ("apps.0.nginx", "server {\n}", "apps.shop.nginx", "cannot be part of a server block"),
        ("apps.0.nginx", "a; return 404;", "apps.shop.nginx", "for all requests"),
        ("apps.0.nginx", "client_max_body_size 9m;", "apps.shop.nginx", "Use upload_mb"),
        ("vault_basic_auth", "x", "vault_basic_auth", "must be a dictionary"),
        ("apps.0.domains", ["-bad.dev"], "apps.shop.domains", "'-bad'"),
        ("apps.0.domains", ["bad-.dev"], "apps.shop.domains", "'bad-'"),
        ("apps.0.domains", ["a..dev"], "apps.shop.domains", "the invalid part ''"),
        ("apps.0.domains", ["a_b.dev"], "apps.shop.domains", "'a_b'"),
        ("apps.0.domains", ["a;{}.dev"], "apps.shop.domains", "'a;{}'"),
        ("apps.0.domains", ["$(id).dev"], "apps.shop.domains", "'$(id)'"),
        ("apps.0.domains", ["shop.dev."], "apps.shop.domains", "ends with a dot"),
        ("apps.0.domains", ["shop"], "apps.shop.domains", "has no dot"),
        ("apps.0.domains", ["203.0.113.5"], "apps.shop.domains", "is an IP address"),
        ("apps.0.domains", ["2001:db8::1"], "apps.shop.domains", "is an IP address"),
        ("apps.0.domains", ["shop.12"], "apps.shop.domains", "ends with a number"),
        ("apps.0.domains", [f"a{LONG}.dev"], "apps.shop.domains", "63 characters"),
        ("apps.0.domains", [f"{LONG}.{LONG}.{LONG}.{LONG}.dev"], "apps.shop.domains", "253"),
        ("apps.0.domains", ["xn--zzzzzz99999.dev"], "apps.shop.domains", "international"),
        ("apps.0.domains", ["bü_cher.dev"], "apps.shop.domains", "international"),
        ("apps.0.domains", ["shop.dev", "SHOP.dev"], "apps.shop.domains", "twice"),
        ("apps.0.domains", [None, "shop.dev"], "apps.shop.domains", "is not text"),
        ("apps.0.domains", [True], "apps.shop.domains", "is not text"),
        ("apps.0.domains", ["shop.localhost"], "apps.shop.domains", "is a local name"),
        ("apps.0.domains", ["shop.internal"], "apps.shop.domains", "is a local name"),
        ("apps.0.domains", ["example.org"], "apps.shop.domains", "is an example name"),
        ("apps.0.domains", [f"d{n}.dev" for n in range(101)], "apps.shop.domains", "at most 100"),
        # secrets
        ("vault_app_secrets", ..., "vault_app_secrets.shop.SECRET_KEY", "is missing"),
        ("vault_app_secrets", ["x"], "vault_app_secrets", "must be a dictionary"),
        ("vault_app_secrets.shop", "x", "vault_app_secrets.shop", "must be a dictionary"),
        ("vault_app_secrets.shop.SECRET_KEY", "", "vault_app_secrets.shop.SECRET_KEY", "missing"),
        ("vault_app_secrets.shop.SECRET_KEY", 7, "vault_app_secrets.shop.SECRET_KEY", "not text"),
        (
            "vault_app_secrets.shop.POSTGRES_PASSWORD",
            ...,
            "vault_app_secrets.shop.POSTGRES_PASSWORD",
            "is missing",
        ),
        (
            "vault_app_secrets.shop.SECRET_KEY",
            "changeme",
            "vault_app_secrets.shop.SECRET_KEY",
            "a placeholder",
        ),
        (
            "vault_app_secrets.shop.SECRET_KEY",
            "Change-Me-Change-Me-Change-Me-Change-Me",
            "vault_app_secrets.shop.SECRET_KEY",
            "a placeholder",
        ),
        (
            "vault_app_secrets.shop.SECRET_KEY",
            SECRET[:31],
            "vault_app_secrets.shop.SECRET_KEY",
            "shorter than 32 characters (31)",
        ),
        (
            "vault_app_secrets.shop.SECRET_KEY",
            SECRET + "\n",
            "vault_app_secrets.shop.SECRET_KEY",
            "ends with a line break",
        ),
        (
            "vault_app_secrets.shop.SECRET_KEY",
            SECRET + "\x00" + SECRET,
            "vault_app_secrets.shop.SECRET_KEY",
            "control character",
        ),
        (
            "vault_app_secrets.shop.MAIL_PASSWORD",
            "changeme",
            "vault_app_secrets.shop.MAIL_PASSWORD",
            "a placeholder",
        ),
        ("vault_app_secrets.shop.A-B", "x", "vault_app_secrets.shop.A-B", "is not a valid name"),
        (
            "vault_app_secrets.shop.DATABASE_URL",
            "postgresql://elsewhere",
            "vault_app_secrets.shop.DATABASE_URL",
            "is made from POSTGRES_PASSWORD",
        ),
        (
            "vault_deploy_keys",
            {"shop": "ssh-rsa AAAA"},
            "vault_deploy_keys.shop",
            "is not a private key",
        ),
        ("vault_registry_logins", "hunter2", "vault_registry_logins", "must be a list"),
        ("vault_registry_logins", ["hunter2"], "vault_registry_logins", "must be a dictionary"),
        ("vault_acme_eab", "hunter2", "vault_acme_eab", "must be a dictionary"),
        ("vault_deploy_keys", ["hunter2"], "vault_deploy_keys", "must be a dictionary"),
        ("vault_acme_eab", {"kid": "k"}, "vault_acme_eab.hmac_key", "is missing"),
        (
            "vault_registry_logins",
            [{"registry": "r", "username": "u"}],
            "vault_registry_logins[0].password",
            "is missing",
        ),
        # unknown and renamed names
        ("apps.0.modul", "x", "apps.shop.modul", "Did you mean module?"),
        ("apps.0.colour", "x", "apps.shop.colour", "is an unknown"),
        ("proxy_htpp_port", 81, "proxy_htpp_port", "Did you mean proxy_http_port?"),
        ("postgress_memory_mb", 9, "postgress_memory_mb", "Did you mean postgres_memory_mb?"),
        ("image_source", "debian", "image_source", "Did you mean images_source?"),
        ("acme_emial", "x@y.dev", "acme_emial", "Did you mean acme_email?"),
        ("vault_app_secret", {}, "vault_app_secret", "Did you mean vault_app_secrets?"),
        # types and choices
        ("images_source", "dockerhub", "images_source", "not one of the choices"),
        ("images_wanted", ["python", "postgers"], "images_wanted", "Did you mean postgres?"),
        ("tls", "letsencrypt", "tls", "not one of the choices"),
        ("acme_ca", 7, "acme_ca", "neither a known authority nor a URL"),
        ("acme_email", True, "acme_email", "a boolean in YAML"),
        ("preflight_dns", "maybe", "preflight_dns", "not one of the choices"),
        ("app_memory_mb", "256M", "app_memory_mb", "not a whole number"),
        ("proxy_trusts_downstream", "maybe", "proxy_trusts_downstream", "neither true nor false"),
        ("proxy_http_port", 0, "proxy_http_port", "is not a valid port"),
        ("proxy_ipv6_subnet", "10.0.0.0/24", "proxy_ipv6_subnet", "is not a valid IPv6 network"),
        ("proxy_ipv6_subnet", "fd00::1/64", "proxy_ipv6_subnet", "is not a valid IPv6 network"),
        ("proxy_open_requests_per_client", -1, "proxy_open_requests_per_client", "is negative"),
        ("proxy_http_port", 443, "proxy_https_port", "is the same port as proxy_http_port"),
        ("images_registry", "postgres:16", "images_registry", "must be a dictionary"),
        ("images_registry", {"postgers": "p:16"}, "images_registry.postgers", "mean postgres?"),
        (
            "images_registry",
            {"nginx": "Nginx: 1"},
            "images_registry.nginx",
            "is not a valid image name",
        ),
        ("images_registry", {"nginx": None}, "images_registry.nginx", "is not a valid image name"),
        ("docker_source", "upsteam", "docker_source", "Did you mean upstream?"),
        ("docker_sorce", "upstream", "docker_sorce", "Did you mean docker_source?"),
        ("docker_registry_mirrors", "https://m.dev", "docker_registry_mirrors", "must be a list"),
        ("docker_registry_mirrors", ["m.dev"], "docker_registry_mirrors", "is not a valid URL"),
        ("docker_builds_may_reach", "10.0.0.7", "docker_builds_may_reach", "must be a list"),
        ("docker_builds_may_reach", ["pypi.dev"], "docker_builds_may_reach", "neither an address"),
        ("docker_builds_may_reach", ["10.0.0.0/33"], "docker_builds_may_reach", "neither an addr"),
        ("docker_apps_may_reach_ports", [0], "docker_apps_may_reach_ports", "is not a valid port"),
        ("docker_apps_may_reach_ports", ["25/tcp"], "docker_apps_may_reach_ports", "whole number"),
        ("docker_isolation_enabled", "maybe", "docker_isolation_enabled", "neither true nor false"),
        ("docker_daemon_options", "x", "docker_daemon_options", "must be a dictionary"),
        ("docker_upstream_url", "download.dev", "docker_upstream_url", "is not a valid URL"),
        ("docker_upstream_url", "https://d.dev/", "docker_upstream_url", "without a slash"),
        ("docker_upstream_fingerprint", "9DC8", "docker_upstream_fingerprint", "40 hexadecimal"),
        ("access_admins", "ada", "access_admins", "must be a list"),
        ("access_admins", [{"name": "ada"}], "access_admins.ada.keys", "has no key"),
        ("access_admins", ["ada"], "access_admins[0]", "is not an admin"),
        ("access_admins", [{"name": "ada", "key": "x"}], "access_admins.ada.key", "mean keys?"),
        ("access_admins", [{"name": "ada", "keys": "x"}], "access_admins.ada.keys", "be a list"),
        ("access_admins", [{"name": "ada", "keys": []}], "access_admins.ada.keys", "has no key"),
        ("access_admins", [{"name": "root", "keys": ["/x"]}], "access_admins.0.name", "the system"),
        ("access_admins", [{"name": "Ada", "keys": ["/x"]}], "access_admins.0.name", "not a valid"),
        (
            "access_admins",
            [{"name": "ada", "keys": ["~/.ssh/none.pub"]}],
            "access_admins.ada.keys[0]",
            "names a file that cannot be read",
        ),
        (
            "access_admins",
            [{"name": "ada", "keys": ["-----BEGIN OPENSSH PRIVATE KEY-----"]}],
            "access_admins.ada.keys[0]",
            "is a private key",
        ),
        ("access_other_users", ["Git"], "access_other_users", "has an invalid user name"),
        ("access_port", 0, "access_port", "is not a valid port"),
        ("access_port", 443, "access_port", "is the same port as proxy_https_port"),
        ("base_leave", ["swp"], "base_leave", "Did you mean swap?"),
        ("base_hostname", "web_1", "base_hostname", "is not a valid host name"),
        ("base_hostname", "-web", "base_hostname", "is not a valid host name"),
        ("base_locale", "german", "base_locale", "is not the name of a locale"),
        ("base_timezone", "../UTC", "base_timezone", "is not the name of a time zone"),
        ("base_reboot_time", 240, "base_reboot_time", "is not a time of day"),
        ("base_reboot_time", "24:00", "base_reboot_time", "is not a time of day"),
        ("base_journal_mb", 1, "base_journal_mb", "is out of range"),
        ("base_swap_mb", -1, "base_swap_mb", "is out of range"),
        ("base_sysctl", {"somaxconn": 1}, "base_sysctl", "has a name that no kernel setting has"),
        ("base_sysctl", {"vm.swappiness": [1]}, "base_sysctl.vm.swappiness", "is not a value"),
        ("dev_host", "vargant", "dev_host", "Did you mean vagrant?"),
        ("dev_distribution", "fedora", "dev_distribution", "is not one of the choices"),
        ("dev_release", "jammy", "dev_release", "is not one of the choices"),
        ("dev_release", "noble", "dev_release", "is not a release of debian. Choose trixie"),
        ("apps.0.database", "mysql", "apps.shop.database", "not one of the choices"),
        ("apps.0.state", "removed", "apps.shop.state", "not one of the choices"),
        ("apps.0.protocol", "fastcgi", "apps.shop.protocol", "not one of the choices"),
        ("apps.0.tls", "none", "apps.shop.tls", "not one of the choices"),
        ("apps.0.processes", "many", "apps.shop.processes", "not a whole number"),
        ("apps.0.processes", 0, "apps.shop.processes", "out of range"),
        ("apps.0.threads", 1000, "apps.shop.threads", "out of range"),
        ("apps.0.upload_mb", -1, "apps.shop.upload_mb", "out of range"),
        ("apps.0.memory_mb", 4, "apps.shop.memory_mb", "out of range"),
        ("apps.0.environment", ["A=b"], "apps.shop.environment", "must be a dictionary"),
        (
            "apps.0.environment",
            {"A-B": "c"},
            "apps.shop.environment.A-B",
            "is not a valid variable name",
        ),
        ("apps.0.environment", {"A": [1]}, "apps.shop.environment.A", "must be a single value"),
        ("apps.0.environment", {"A": None}, "apps.shop.environment.A", "is empty"),
        ("apps.0.environment", {"A": "b\0"}, "apps.shop.environment.A", "contains a NUL"),
        (
            "apps.0.environment",
            {True: "b"},
            "apps.shop.environment.True",
            "is not a valid variable name",
        ),
        ("apps.0.environment", 7, "apps.shop.environment", "must be a dictionary"),
        *(
            ("apps.0.environment", {n: "a.test"}, f"apps.shop.environment.{n}", "would override")
            for n in ("VIRTUAL_HOST", "VIRTUAL_PATH", "LETSENCRYPT_HOST", "ACME_HOST", "CERT_NAME")
        ),
        (
            "apps.0.environment",
            {"DATABASE_URL": "postgresql://elsewhere"},
            "apps.shop.environment.DATABASE_URL",
            "is already set because of `database`",
        ),
        (
            "apps.0.environment",
            {"SECRET_KEY": "c"},
            "vault_app_secrets.shop.SECRET_KEY",
            "is also in the app's environment",
        ),
        # the entry's own rules
        ("apps.0.module", "app.py", "apps.shop.module", "is a file"),
        ("apps.0.module", "shop/app.py:app", "apps.shop.module", "such as shop.app:app"),
        ("apps.0.module", "shop:app; rm", "apps.shop.module", "is not a WSGI callable"),
        (
            "apps.0.module",
            "shop:app\nattach-daemon = x",
            "apps.shop.module",
            "is not a WSGI callable",
        ),
        ("apps.0.module", "shop:create_app(", "apps.shop.module", "is not a WSGI callable"),
        ("apps.0.module", "shop:create_app('a' b)", "apps.shop.module", "is not a WSGI callable"),
        ("apps.0.module", "shop:create_app('$(HOME)')", "apps.shop.module", "contains $("),
        ("apps.0.module", "shop:create_app", "apps.shop.module", "Call it: shop:create_app()"),
        ("apps.0.health", 7, "apps.shop.health", "is not a valid path"),
        ("apps.0.source", 7, "apps.shop.source", "relative path"),
        ("apps.0.health", "healthz", "apps.shop.health", "is not a valid path"),
        ("apps.0.health", "/gesünd", "apps.shop.health", "is not a valid path"),
        ("apps.0.init", "flask a\nflask b", "apps.shop.init", "&& joins two commands"),
        ("apps.0.volumes", ["data"], "apps.shop.volumes", "must be an absolute path"),
        ("apps.0.volumes", ["/data/../etc"], "apps.shop.volumes", "must be an absolute path"),
        ("apps.0.volumes", ["/srv:/data"], "apps.shop.volumes", "must be an absolute path"),
        ("apps.0.volumes", ["/app/"], "apps.shop.volumes", "is reserved"),
        ("apps.0.volumes", ["/usr"], "apps.shop.volumes", "is reserved"),
        ("apps.0.volumes", ["/opt/venv"], "apps.shop.volumes", "is reserved"),
        ("apps.0.volumes", ["/größe"], "apps.shop.volumes", "must be an absolute path"),
        ("apps.0.volumes", ["/a/b", "/a-b"], "apps.shop.volumes", "share a volume with /a/b"),
        ("apps.0.packages", ["libpq5 curl"], "apps.shop.packages", "is not a valid package name"),
        (
            "apps.0.build_packages",
            ["$(id)"],
            "apps.shop.build_packages",
            "is not a valid package name",
        ),
        ("apps.0.source", "/nowhere/at/all", "apps.shop.source", "does not exist"),
        ("apps.0.source", "./shop", "apps.shop.source", "relative path"),
        ("apps.0.source", "/etc/passwd", "apps.shop.source", "not a folder"),
        ("apps.0.source", "/etc", "apps.shop.source", "lists no dependencies"),
        ("apps.0.source", "svn://host/shop", "apps.shop.source", "is not a supported git URL"),
        ("apps.0.folder", "web", "apps.shop.folder", "is not a folder in source"),
        ("apps.0.folder", "../..", "apps.shop.folder", "is not a folder in source"),
        ("apps.0.static", "assets", "apps.shop.static", "is not a folder in source"),
        ("apps.0.static", "/etc", "apps.shop.static", "is not a folder in source"),
        ("apps.0.static", ".", "apps.shop.static", "is not a folder in source"),
        ("apps.0.static", "x" * 300, "apps.shop.static", "is not a folder in source"),
        ("apps.0.source", "~nobody-has-this/shop", "apps.shop.source", "relative path"),
        ("apps.0.dockerfile", "Dockerfile", "apps.shop.port", "is missing"),
        ("apps.0.dockerfile", "Dockerfile", "apps.shop.dockerfile", "is not a file in source"),
        ("apps.0.dockerfile", "/etc/passwd", "apps.shop.dockerfile", "is not a file in source"),
        ("apps.0.workers", ["rq worker"], "apps.shop.workers", "must be a dictionary"),
        ("apps.0.workers", [{"name": "mail"}], "apps.shop.workers[0].command", "is missing"),
        (
            "apps.0.workers",
            [{"name": "Mail", "command": "x"}],
            "apps.shop.workers[0].name",
            "is not a valid name",
        ),
        (
            "apps.0.workers",
            [{"name": "mail", "command": "x"}, {"name": "mail", "command": "y"}],
            "apps.shop.workers[1].name",
            "is used twice",
        ),
        (
            "apps.0.cron",
            [{"name": "tidy", "command": "x", "schedul": "@daily"}],
            "apps.shop.cron[0].schedul",
            "Did you mean schedule?",
        ),
        (
            "apps.0.cron",
            [{"name": "tidy", "command": "x", "schedule": "* * * *"}],
            "apps.shop.cron[0].schedule",
            "is not a valid schedule",
        ),
        (
            "apps.0.cron",
            [{"name": "tidy", "command": "x", "schedule": "* * * * *\n* * * * * root id"}],
            "apps.shop.cron[0].schedule",
            "is not a valid schedule",
        ),
        # the site's own rules
        ("acme_ca", "letsencript", "acme_ca", "Did you mean letsencrypt?"),
        ("acme_ca", "http://ca.dev/dir", "acme_ca", "not https"),
        ("acme_ca", "letsencrypt_staging", "acme_ca", "a test authority"),
        ("acme_ca_bundle", "/nowhere.pem", "acme_ca_bundle", "not a file"),
        ("acme_ca_bundle", "~nobody-has-this/ca.pem", "acme_ca_bundle", "not a file"),
        ("build_ca_bundle", "/nowhere.pem", "build_ca_bundle", "not a file"),
        ("tls", "own", "apps.shop.certificate", "is missing"),
    ],
)
def test_refuses(source: Path, path: str, value: Any, variable: str, wrong: str) -> None:
    found = findings(change(good(source), path, value))
    hits = [f for f in found if f.variable == variable and wrong in str(f) and not f.warning]
    assert hits, "\n".join(map(str, found))
    if path.startswith("vault_") and isinstance(value, str) and value:
        assert not any(value in str(finding) for finding in found if value != "x")
    assert not any("hunter2" in str(finding) for finding in found)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("apps.0.domains", ["bücher.dev", "SHOP.dev", "xn--mnchen-3ya.dev"]),
        ("apps.0.module", "shop.web.wsgi:application"),
        ("apps.0.module", "shop:create_app('config.py', debug=False)"),
        ("apps.0.module", "shop:create_app({'TESTING': False})"),
        ("apps.0.module", "wsgi"),
        ("apps.0.processes", "3"),
        ("apps.0.source", "https://git.shop.dev/shop.git"),
        ("apps.0.source", "git@git.shop.dev:team/shop.git"),
        ("apps.0.source", "ssh://git@git.shop.dev:2222/shop.git"),
        ("apps.0.source", "file:///srv/shop.git"),
        ("apps.0.volumes", ["/data", "/data/", "/var/lib/shop/uploads", "/app/instance"]),
        ("apps.0.environment", {"DEBUG": False, "PORT": 8000, "GREETING": "$HOME\n'\""}),
        ("apps.0.environment", {"ACME_COMPANY": "roadrunner", "VIRTUAL_ENV": "/opt/venv"}),
        ("apps.0.packages", ["libpq5", "g++", "libc6:amd64"]),
        ("vault_app_secrets.shop.MAIL_PASSWORD", "short but given by others"),
        ("vault_app_secrets.shop.SECRET_KEY", "$ @:/%#'\"\\ {}" + SECRET),
        ("proxy_http_port", "8080"),
        ("apps.0.workers", [{"name": "mail-out", "command": "rq worker"}]),
        ("apps.0.cron", [{"name": "t", "command": "x && y", "schedule": "*/10  2 * jan mon-fri"}]),
        ("images_wanted", ["python", "postgres"]),
        ("images_registry", {"postgres": "postgres:16"}),
        ("images_registry", {"nginx": f"r.dev:5000/a/nginx:1.29@sha256:{'0' * 64}"}),
        ("my_own_variable", "x"),
        ("acme_ca", "https://pebble.test:14000/dir"),
        ("acme_ca", "zerossl"),
        ("apps.0.name", UNKNOWN),
        ("apps.0", UNKNOWN),
        ("apps", UNKNOWN),
        ("apps.0.domains", [UNKNOWN, "shop.dev"]),
        ("vault_app_secrets.shop.SECRET_KEY", UNKNOWN),
        ("vault_app_secrets", UNKNOWN),
    ],
)
def test_accepts(source: Path, path: str, value: Any) -> None:
    found = findings(change(good(source), path, value))
    assert [f for f in found if not f.warning] == []


@pytest.mark.parametrize("name", ["a", "a-b_c--d__e", "shop2", "s" * 31, "edges", "my_postgres"])
def test_a_good_name_passes(name: str) -> None:
    assert check_name(name, "apps[0]") == []


def test_apps_do_not_share_a_name_or_a_domain(source: Path) -> None:
    values = good(source)
    values["apps"].append({**values["apps"][0], "domains": ["WWW.shop.dev"]})
    assert "is the name of 2 entries" in str(findings(values)[0])
    values["apps"][1]["name"] = "other"
    values["vault_app_secrets"]["other"] = values["vault_app_secrets"]["shop"]
    assert "already belongs to apps.shop" in str(findings(values)[0])


def test_a_removed_app_needs_nothing_but_its_name(source: Path) -> None:
    values = good(source)
    values["apps"].append({"name": "old", "state": "absent"})
    assert findings(values) == []


def test_without_postgres_no_password_is_needed(source: Path) -> None:
    values = change(good(source), "vault_app_secrets.shop.POSTGRES_PASSWORD", ...)
    for database in ("sqlite", "none"):
        assert findings(change(values, "apps.0.database", database)) == []


def test_a_value_of_the_examples_is_refused(source: Path) -> None:
    found = findings(good(source), examples={SECRET})
    assert "an example value" in str(found[0]) and SECRET not in str(found)


@pytest.mark.parametrize(
    ("old", "value", "new"),
    [
        ("proxy_acme_ca", "https://ca.dev/dir", "acme_ca"),
        ("proxy_acme_ca_uri", "https://ca.dev/dir", "acme_ca"),
        ("proxy_acme_ca_bundle", "ca.pem", "acme_ca_bundle"),
        ("proxy_acme_eab", {"kid": "a", "hmac_key": "b"}, "vault_acme_eab"),
        ("proxy_acme_email", "ops@shop.dev", "acme_email"),
    ],
)
def test_old_names_are_told_the_new_ones(source: Path, old: str, value: Any, new: str) -> None:
    found = findings(good(source) | {old: value})
    assert [f.wrong for f in found] == [f"is now called {new}"]


def test_a_misspelt_app_among_the_secrets_is_named(source: Path) -> None:
    values = good(source)
    values["vault_app_secrets"]["shpo"] = values["vault_app_secrets"].pop("shop")
    warnings = [str(f) for f in findings(values) if f.warning]
    assert warnings == ["vault_app_secrets.shpo: does not belong to any app. Did you mean shop?"]


@pytest.mark.parametrize(
    ("environment", "warnings", "errors"),
    [("prod", 0, 1), ("production", 0, 1), ("staging", 0, 0), ("local", 0, 0), ("shop", 1, 0)],
)
def test_the_test_authority_belongs_to_test_environments(
    source: Path, environment: str, warnings: int, errors: int
) -> None:
    found = findings(good(source) | {"acme_ca": "letsencrypt_staging"}, environment)
    assert [len([f for f in found if f.warning is w]) for w in (True, False)] == [warnings, errors]


def test_an_archive_needs_its_folder(source: Path) -> None:
    known = OPTIONS | {"images_source": {"type": "str"}, "images_archive_dir": {"type": "path"}}
    site = Site(good(source) | {"images_source": "archive"}, known, ENTRY, now=NOW)
    assert "images_archive_dir: is missing" in str(check_site(site)[0])
    site.values["images_archive_dir"] = "/nowhere"
    assert "is not a folder" in str(check_site(site)[0])
    site.values["images_archive_dir"] = str(source)
    assert check_site(site) == []


def test_passwords_in_urls_are_not_shown(source: Path) -> None:
    found = findings(change(good(source), "apps.0.source", "svn://me:hunter2@host/shop"))
    assert "***@host" in str(found[0]) and "hunter2" not in str(found[0])


def test_the_example_address_is_not_waited_for() -> None:
    assert "is an example address" in str(check_address("web1", "203.0.113.10")[0])
    assert check_address("web1", "192.168.1.5") == check_address("web1", "web1.shop.dev") == []


# -- own certificates -----------------------------------------------------------------------------


class Authority:
    """Makes chains of certificates, like a CA."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca, self.ca_key = self.certify("ca", authority=True)

    def certify(self, name: str, *, authority: bool = False, days: tuple[int, int] = (-10, 80)):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if authority else self.ca.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + datetime.timedelta(days=days[0]))
            .not_valid_after(NOW + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(n) for n in (name, f"*.{name}")]), False
            )
        )
        return builder.sign(key if authority else self.ca_key, hashes.SHA256()), key

    def write(self, chain: list[x509.Certificate], key: Any, password: bytes = b"") -> dict:
        pem = serialization.Encoding.PEM
        certificate, private = self.folder / "chain.pem", self.folder / "key.pem"
        certificate.write_bytes(b"".join(c.public_bytes(pem) for c in chain))
        encryption = (
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption()
        )
        private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption))
        return {"tls": "own", "certificate": str(certificate), "certificate_key": str(private)}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def own(source: Path, files: dict[str, str]) -> list[Finding]:
    values = good(source)
    values["apps"][0].update(files)
    return findings(values)


def test_an_own_certificate_with_its_chain_passes(source: Path, authority: Authority) -> None:
    leaf, key = authority.certify("shop.dev")
    assert own(source, authority.write([leaf, authority.ca], key)) == []


def test_an_own_certificate_in_the_wrong_order(source: Path, authority: Authority) -> None:
    leaf, key = authority.certify("shop.dev")
    found = own(source, authority.write([authority.ca, leaf], key))
    assert any("did not sign" in str(f) and not f.warning for f in found)
    assert any("is not the key" in str(f) for f in found)


def test_an_own_certificate_with_the_key_of_another(source: Path, authority: Authority) -> None:
    leaf, _ = authority.certify("shop.dev")
    _, other = authority.certify("shop.dev")
    found = own(source, authority.write([leaf, authority.ca], other))
    assert [f.variable for f in found] == ["apps.shop.certificate_key"]


@pytest.mark.parametrize(
    ("days", "wrong", "warning"),
    [
        ((-90, -1), "expired on 2026-05-31", False),
        ((1, 90), "is not valid before 2026-06-02", False),
        ((-80, 5), "expires on 2026-06-06", True),
    ],
)
def test_an_own_certificate_out_of_its_dates(
    source: Path, authority: Authority, days: tuple[int, int], wrong: str, warning: bool
) -> None:
    leaf, key = authority.certify("shop.dev", days=days)
    found = own(source, authority.write([leaf, authority.ca], key))
    assert [wrong in str(f) and f.warning is warning for f in found] == [True]


def test_an_own_certificate_for_other_names(source: Path, authority: Authority) -> None:
    leaf, key = authority.certify("other.dev")
    found = own(source, authority.write([leaf, authority.ca], key))
    assert "does not cover shop.dev, www.shop.dev, only *.other.dev" in str(found[0])


def test_an_own_certificate_that_is_none(source: Path, authority: Authority) -> None:
    leaf, key = authority.certify("shop.dev")
    files = authority.write([leaf, authority.ca], key, password=b"hunter2")
    assert "has a passphrase" in str(own(source, files)[0])
    Path(files["certificate"]).write_text("nothing")
    Path(files["certificate_key"]).unlink()
    text = "\n".join(map(str, own(source, files)))
    assert "no readable PEM" in text and "cannot be read on this machine" in text


# -- servers --------------------------------------------------------------------------------------

FACTS = {
    "service_mgr": "systemd",
    "distribution": "Debian",
    "distribution_version": "13.1",
    "distribution_major_version": "13",
    "architecture": "x86_64",
    "userspace_bits": "64",
    "memtotal_mb": 2000,
    "all_ipv4_addresses": ["10.0.0.5"],
    "all_ipv6_addresses": ["fe80::1%eth0"],
}
SEEN = {
    "listeners": [],
    "docker_root": "/var/lib/docker",
    "engine": {"version": "", "podman": False, "snap": False},
    "free_mb": 20000,
    "edge": False,
    "deployed": [],
    "postgres": {"shop": ""},
    "certified": [],
    "resolved": {"shop.dev": {"addresses": ["10.0.0.5"], "error": ""}},
    "directory": "",
    "directory_in_use": False,
}


def server(**changed: Any) -> list[Finding]:
    facts, seen, more = dict(FACTS), dict(SEEN), {}
    for name, value in changed.items():
        kind = facts if name in facts else seen if name in seen else more
        kind[name] = value
    return check_server(
        Server(
            name="web1",
            facts=facts,
            seen=seen,
            **{
                "addresses": {"198.51.100.7"},
                "postgres": 17,
                "apps": ["shop"],
                "resolves": {"shop.dev"},
                "ca": "https://ca.dev/dir",
                **more,
            },
        )
    )


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"distribution_major_version": "12", "distribution_version": "12.9"},
        {"distribution": "Ubuntu", "distribution_version": "24.04"},
        {"architecture": "aarch64"},
        {"listeners": [{"port": 80, "kind": "container", "name": "n", "project": "edge"}]},
        {"engine": {"version": "20.10.24+dfsg1", "podman": False, "snap": False}},
        {"engine": {"version": "29.1.3", "podman": False, "snap": False}},
        {"postgres": {"shop": "17"}},
        {"resolved": {"shop.dev": {"addresses": ["198.51.100.7"], "error": ""}}},
        {"resolved": {"shop.dev": {"addresses": ["127.0.1.1"], "error": ""}}},
        {"resolved": {"shop.dev": {"addresses": [], "error": "no"}}, "dns": "skip"},
        {"resolves": {"shop.localhost"}, "resolved": {}},
        {"directory": "down", "ca": ""},
        {"edge": True, "free_mb": 4000},
        {"deployed": ["shop"]},
    ],
)
def test_a_good_server_passes(changed: dict[str, Any]) -> None:
    assert server(**changed) == []


NOBODY = {"port": 80, "kind": "unknown", "name": "", "maybe": ["apache2"]}


@pytest.mark.parametrize(
    ("changed", "text", "warning"),
    [
        ({"distribution_major_version": "11"}, "web1: system = 'Debian 13.1'", False),
        ({"distribution": "Ubuntu", "distribution_version": "22.04"}, "Ubuntu 22.04", False),
        ({"distribution": "Fedora"}, "is not supported", False),
        ({"service_mgr": "sysvinit"}, "does not run systemd", True),
        ({"architecture": "armv7l"}, "web1: architecture = 'armv7l", False),
        ({"userspace_bits": "32"}, "32 bits", False),
        ({"memtotal_mb": 449}, "memory = '449 MB': is too small", False),
        ({"memtotal_mb": 899}, "memory = '899 MB': is low", True),
        ({"free_mb": 2999}, "is too small", False),
        ({"free_mb": 7999}, "is low", True),
        ({"free_mb": 2999, "edge": True}, "is low", True),
        ({"free_mb": 400, "edge": True}, "is too small", False),
        (
            {"listeners": [{"port": 80, "kind": "process", "name": "nginx (process 7)"}]},
            "port 80: is taken by nginx (process 7)",
            False,
        ),
        (
            {"listeners": [{"port": 443, "kind": "container", "name": "web", "project": ""}]},
            "port 443: is taken by the container web",
            False,
        ),
        ({"engine": {"snap": True}}, "Docker: comes from a snap", False),
        ({"engine": {"podman": True, "version": "5.4.2"}}, "Docker: is Podman", False),
        ({"engine": {"version": "19.03.15"}}, "Docker = '19.03.15': is too old", False),
        ({"listeners": [NOBODY]}, "perhaps apache2); only root can see", False),
        ({"listeners": [NOBODY], "edge": True}, "only root can see", True),
        ({"postgres": {"shop": "16"}}, "volume shop-db_data: was made by Postgres 16", False),
        (
            {"resolved": {"shop.dev": {"addresses": [], "error": "Name not known"}}},
            "domain shop.dev: does not resolve (Name not known)",
            False,
        ),
        (
            {"resolved": {"shop.dev": {"addresses": [], "error": "no"}}, "dns": "warning"},
            "does not resolve",
            True,
        ),
        (
            {"resolved": {"shop.dev": {"addresses": [], "error": "no"}}, "certified": ["shop.dev"]},
            "does not resolve",
            True,
        ),
        (
            {"resolved": {"shop.dev": {"addresses": ["9.9.9.9", "10.0.0.5"], "error": ""}}},
            "resolves to 9.9.9.9, which is not this server",
            True,
        ),
        ({"directory": "refused"}, "cannot be reached from web1: refused", False),
        (
            {"directory": "refused", "directory_in_use": True, "certified": ["shop.dev"]},
            "cannot be reached",
            True,
        ),
        ({"directory": "refused", "certified": ["shop.dev"]}, "cannot be reached", False),
        ({"deployed": ["blog", "shop"]}, "app blog: runs here, but is not in apps", True),
    ],
)
def test_a_server_is_refused(changed: dict[str, Any], text: str, warning: bool) -> None:
    found = server(**changed)
    assert [(text in str(f), f.warning) for f in found] == [(True, warning)], found


@pytest.mark.parametrize(
    ("image", "major"),
    [
        ("postgres:17-trixie", 17),
        ("postgres:17.2@sha256:0a", 17),
        ("registry.dev:5000/postgres:16", 16),
        ("postgres:latest", None),
        ("registry.dev:5000/postgres", None),
        (None, None),
    ],
)
def test_the_tag_tells_the_major_version(image: str | None, major: int | None) -> None:
    assert postgres_major(image) == major


def test_listeners_are_read_from_the_kernels_tables() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid t inode\n"
        "   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1\n"
        "   1: 0100007F:01BB 0100007F:9999 01 00000000:00000000 00:00000000 00000000 0 0 4712 1\n"
    )
    assert listening_sockets(iter([table, ""])) == {80: {"4711"}}


def test_the_container_that_publishes_a_port_is_named() -> None:
    containers = [
        {"Names": ["/db"], "Ports": [{"PrivatePort": 80}], "Labels": None},
        {"Names": ["/web"], "Ports": [{"PublicPort": 80}], "Labels": {}},
    ]
    assert publisher(containers, 80) == {"name": "web", "project": ""}
    assert publisher(containers, 443) is None


def test_the_look_at_a_server_copes_with_what_is_not_there(tmp_path: Path) -> None:
    assert free_mb(tmp_path / "not" / "there") > 0
    assert resolve(["nowhere.invalid", "localhost"], seconds=20)["localhost"]["addresses"]
    assert "refused" in directory_error("https://127.0.0.1:9/dir", "")
    assert "contains no certificate" in directory_error("https://127.0.0.1:9/dir", "nothing")


# -- what follows from good values ----------------------------------------------------------------


def test_international_domains_become_ascii() -> None:
    assert ascii_domain("Bücher.Example") == "xn--bcher-kva.example"
    assert ascii_domain("WWW.shop.dev") == "www.shop.dev"
    assert ascii_domains([{"domains": ["bücher.dev"]}, {"state": "absent"}]) == [
        {"domains": ["xn--bcher-kva.dev"]},
        {"state": "absent"},
    ]


def test_any_printable_character_of_a_secret_survives(tmp_path: Path) -> None:
    secret = "$HOME ${x} $$ @ : / % %2F # ' \" \\ \\n ü & ? + = `id` {} end"
    values = tmp_path / "values.json"
    entry = {"name": "shop", "domains": ["shop.dev"], "database": "postgres"}
    values.write_text(
        json.dumps({"app_entry": entry, "app_secrets": {"POSTGRES_PASSWORD": secret}})
    )
    done = subprocess.run(
        [
            *("ansible", "localhost", "-i", "localhost,", "-c", "local"),
            *("-e", "@roles/app/defaults/main.yml", "-e", "@roles/app/vars/main.yml"),
            *("-e", f"@{values}", "-e", f"ansible_python_interpreter={sys.executable}"),
            *("-m", "ansible.builtin.copy"),
            *("-a", f"content={{{{ __app_secrets.DATABASE_URL }}}} dest={tmp_path}/url"),
        ],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    url = urllib.parse.urlsplit((tmp_path / "url").read_text())
    assert (url.hostname, url.port, url.path, url.query) == ("db", 5432, "/shop", "")
    assert urllib.parse.unquote(url.password or "") == secret

    # The entrypoint exports the content of the file byte by byte.
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/SECRET_KEY").write_text(secret)
    script = (ROOT / "roles/app/files/recipe/runtime/entrypoint").read_text()
    (tmp_path / "entrypoint").write_text(script.replace("/run/secrets", f"{tmp_path}/secrets"))
    shown = subprocess.run(
        ["sh", tmp_path / "entrypoint", "printenv", "SECRET_KEY"], capture_output=True, text=True
    )
    assert shown.stdout == secret + "\n"


def two_apps(source: Path) -> dict[str, Any]:
    values = good(source)
    other = {"name": "blog", "source": "/nowhere", "domains": ["SHOP.dev"], "modul": "x"}
    return {**values, "apps": [*values["apps"], other]}


def test_a_run_about_one_app_is_not_stopped_by_another_one(source: Path) -> None:
    values = two_apps(source)
    site = Site(values=values, names=values, options=OPTIONS, entry=ENTRY, roles=ROLES, now=NOW)
    everything = [f.variable for f in check_site(site)]
    assert {"apps.blog.modul", "apps.blog.source", "vault_app_secrets.blog.SECRET_KEY"} <= {
        *everything
    }

    def about(names: str) -> list[str]:
        site.values = {**values, "app": names}
        broken = [Finding("apps[1].init", "cannot be computed", "")]
        return [f.variable for f in concerning(site, broken + check_site(site))]

    # A domain that it shares with another app is reported as well.
    assert about("shop") == ["apps.shop.domains"]
    assert set(about("shop, blog")) == {*everything, "apps[1].init"}
    assert "apps.blog.domains" in about("blog")


def test_an_app_that_does_not_exist_is_named(source: Path) -> None:
    found = findings({**good(source), "app": "shop,shpo"})
    assert [str(f) for f in found] == [
        "app = 'shpo': names an app that does not exist. This inventory has: shop. Separate "
        "several with commas"
    ]


# -- whole runs -----------------------------------------------------------------------------------

PREFLIGHT = "playbooks/config.yml"


def run(
    folder: Path,
    values: dict[str, Any],
    host: dict[str, Any],
    *options: str,
    playbook: str = PREFLIGHT,
) -> tuple[int, str]:
    folder.mkdir(exist_ok=True)
    inventory = {"servers": {"hosts": {"web1": host}, "vars": values}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory, allow_unicode=True))
    done = subprocess.run(
        ["ansible-playbook", "-i", folder, playbook, *options],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_one_run_reports_all_problems_and_no_secret(tmp_path: Path) -> None:
    values = {
        "acme_email": "{{ nowhere_set }}",
        "proxy_htpp_port": 81,
        "preflight_dns": "maybe",
        "app_memory_mb": "much",
        "apps": [
            {"name": "shop", "domains": ["https://shop.dev", "{{ neither }}"], "modul": "x"},
            {"name": "Blog", "source": "/nowhere"},
        ],
        "vault_app_secrets": {
            "shop": {"SECRET_KEY": "hunter2-hunter2", "POSTGRES_PASSWORD": "{{ nor_this }}"}
        },
    }
    code, text = run(tmp_path / "prod", values, {"ansible_host": "203.0.113.10"})
    assert code != 0
    for part in (
        "acme_email: cannot be computed ('nowhere_set' is undefined",
        "apps[0].domains[1]: cannot be computed ('neither' is undefined",
        "vault_app_secrets.shop.POSTGRES_PASSWORD: cannot be computed ('nor_this' is undefined",
        "Did you mean proxy_http_port?",
        "preflight_dns = 'maybe'",
        "app_memory_mb = 'much'",
        "apps.shop.domains = 'https://shop.dev'",
        "apps.shop.modul = 'x': is an unknown key. Did you mean module?",
        "apps.shop.source: is missing",
        "apps[1].name = 'Blog'",
        "vault_app_secrets.shop.SECRET_KEY: is shorter than 32 characters (15)",
        "web1.ansible_host = '203.0.113.10'",
    ):
        assert part in text, text
    assert "hunter2" not in text
    assert "Traceback" not in text
    assert text.count("TASK [") == 1


def test_a_server_that_does_not_answer_is_one_of_the_problems(tmp_path: Path) -> None:
    host = {"ansible_host": "127.0.0.1", "ansible_port": 9, "ansible_ssh_retries": 0}
    code, text = run(tmp_path / "prod", {"apps": []}, host, playbook="site.yml")
    assert code != 0
    assert "web1: ansible_host = '127.0.0.1': does not answer over SSH" in text
    assert "Connection refused" in text
    assert "apps = []" in text
    assert "PLAY [Provision]" not in text


def test_a_vaulted_value_without_its_passphrase_is_one_of_the_problems(tmp_path: Path) -> None:
    (tmp_path / "right").write_text("right\n")
    secret = VaultLib([("default", VaultSecret(b"right"))]).encrypt(SECRET).decode()
    values = {"acme_ca": "x", "vault_app_secrets": {"shop": {"SECRET_KEY": "VAULTED"}}}
    host = {"ansible_host": "203.0.113.10"}
    run(tmp_path / "prod", values, host)
    hosts = tmp_path / "prod/hosts.yml"
    lines = "".join(f"\n            {line}" for line in secret.splitlines())
    hosts.write_text(hosts.read_text().replace("VAULTED", f"!vault |{lines}"))

    def preflight(*options: str) -> str:
        done = subprocess.run(
            ["ansible-playbook", "-i", tmp_path / "prod", PREFLIGHT, *options],
            cwd=ROOT,
            env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            capture_output=True,
            text=True,
        )
        return done.stdout + done.stderr

    refused = "vault_app_secrets.shop.SECRET_KEY: cannot be decrypted with the passphrase here"
    without = preflight()
    assert refused in without
    assert "acme_ca = 'x': is neither a known authority nor a URL" in without
    # Negative control.
    assert refused not in preflight("--vault-password-file", str(tmp_path / "right"))


def test_a_build_s_agent_is_looked_for_on_the_server(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = good(source)
    values["apps"][0]["ssh_agent"] = True
    # This machine stands for the server.
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    code, text = run(tmp_path / "prod", values, host)
    assert code != 0
    assert "apps.shop.ssh_agent: is set, but this connection forwards no SSH agent" in text
    with subprocess.Popen(["ssh-agent", "-D", "-a", tmp_path / "agent"]) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        _, text = run(tmp_path / "prod", values, host)
        agent.terminate()
    assert "apps.shop.ssh_agent: is set, but your SSH agent has no keys" in text
    # Negative control: nobody asks for the agent.
    del values["apps"][0]["ssh_agent"]
    assert "ssh_agent" not in run(tmp_path / "prod", values, host)[1]


def test_an_inventory_without_servers_is_told(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("web:\n  hosts: {web1: {}}\n")
    done = subprocess.run(
        ["ansible-playbook", "-i", tmp_path / "hosts.yml", "site.yml"],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "has no host in the group servers (its groups: web)" in done.stdout + done.stderr


def test_the_shipped_inventories_hold_no_unknown_name() -> None:
    for file in ROOT.glob("inventory/*/group_vars/all/*.yml"):
        text = file.read_text()
        if text.startswith("$ANSIBLE_VAULT"):
            continue
        values = yaml.safe_load(text) or {}
        found = findings({n: v for n, v in values.items() if n != "apps"}, file.parts[-4])
        assert [str(f) for f in found if "is an unknown" in f.wrong] == []
        for app in values.get("apps", []):
            assert set(app) - set(ENTRY) == set()


@pytest.mark.parametrize("key", ["static", "folder", "dockerfile"])
@pytest.mark.parametrize("target", ["/opt/flask-vps/apps/other/releases/0123", "/etc", "../.."])
def test_a_link_out_of_the_source_is_told_from_a_typo(source: Path, key: str, target: str) -> None:
    values = good(source)
    (source / "pub").symlink_to(target)
    values["apps"][0].update({key: "pub", "port": 8000})
    text = "\n".join(map(str, findings(values)))
    assert f"apps.shop.{key} = 'pub': leads out of the folder through a link" in text


def test_builds_on_the_host_s_network_are_warned_of(source: Path) -> None:
    values = {**good(source), "build_network": "host"}
    found = [finding for finding in findings(values) if finding.variable == "build_network"]
    assert [finding.warning for finding in found] == [True]
    assert "127.0.0.1" in found[0].wrong
    # A throwaway server has nothing that a build must not reach.
    assert findings(values, environment="local") == []
    assert findings({**values, "dev_server": "flask-vps-dev"}) == []
    assert findings({**good(source), "build_network": "default"}) == []


def test_build_secrets_are_for_a_dockerfile_of_the_app_s_own(source: Path) -> None:
    values = good(source)
    (source / "Dockerfile").write_text("")
    own = {**values["apps"][0], "dockerfile": "Dockerfile", "port": 8000}
    own["build_secrets"] = ["pip_index_url"]
    assert findings({**values, "apps": [own], "build_pip_index_url": "https://p.dev/"}) == []
    wrong = {**own, "build_secrets": ["pip_index"]}
    text = str(findings({**values, "apps": [wrong]})[0])
    assert "apps.shop.build_secrets" in text
    assert "pip_index_url" in text
    ours = {**values["apps"][0], "build_secrets": ["ca_bundle"]}
    [found] = findings({**values, "apps": [ours]})
    assert found.warning
    assert "without dockerfile" in found.wrong
    # A build secret that is requested but not set would be missing in the build.
    [found] = findings({**values, "apps": [own]})
    assert (found.variable, found.warning) == ("apps.shop.build_secrets", True)


def test_facts_of_an_earlier_playbook_are_no_unknown_variables() -> None:
    files = [*ROOT.glob("roles/*/tasks/**/*.yml"), *ROOT.glob("playbooks/**/*.yml")]

    def set_by(node: Any) -> set[str]:
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        own = node.get("ansible.builtin.set_fact", {}) if isinstance(node, dict) else {}
        return set(own) | {name for value in inner for name in set_by(value)}

    facts = {name for file in files for name in set_by(yaml.safe_load(file.read_text()))}
    roles = [role.name for role in (ROOT / "roles").iterdir()]
    prefixes = tuple(f"{role}_" for role in roles)
    assert {fact for fact in facts if fact.startswith(prefixes)} == ROLE_FACTS
    given = dict.fromkeys((*ROLE_FACTS, "preflight_app"), "x")
    assert [finding.variable for finding in check_names(given, {}, roles)] == ["preflight_app"]
