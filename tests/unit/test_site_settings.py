"""The settings of a site: what preflight says of them, and the files that follow from them."""

import hashlib
from pathlib import Path
from typing import Any

import error_pages
import pytest
import yaml
from ansible.errors import AnsibleFilterError
from checks.domains import shared_domains
from checks.site_settings import check_logins, check_settings, top_directives
from checks.visits import Verdict, _judge_answer
from conftest import run_module
from module_utils.app import App
from module_utils.site_request import answer
from site_settings import logins, nginx_refusal

ROOT = Path(__file__).parents[2]
SHA512 = "$6$abcdefgh$" + "x" * 86
BCRYPT = "$2y$05$" + "x" * 53


def settings(tls: str = "acme", **entry: Any) -> list[str]:
    app = {"name": "shop", "domains": ["shop.dev"], "health": "/ok", **entry}
    return [str(found) for found in check_settings(app, "apps.shop", tls, True)]


def given(hashes: Any, users: Any = ("anna",)) -> list[str]:
    app = {"name": "shop", "basic_auth": list(users)}
    return [str(found) for found in check_logins([("apps.shop", app)], hashes)]


def site(**entry: Any) -> dict[str, Any]:
    app = App.from_entry({"name": "shop", "domains": ["shop.dev"], **entry})
    return app.derived()["site"]


# -- preflight ------------------------------------------------------------------------------------


def test_good_settings_pass() -> None:
    assert (
        settings(
            tls="own",
            domains=["shop.dev", "*.shop.dev"],
            redirect=["old.dev", "bücher.dev"],
            basic_auth=["anna", "ben@shop.dev"],
            basic_auth_except=["/api", "/hooks/"],
            headers={
                "Content-Security-Policy": "default-src 'self';\n  img-src *\n",
                "X-XSS-Protection": 0,
                "Strict-Transport-Security": "max-age=63072000; includeSubDomains; preload",
            },
            nginx="location /x { deny all; }\n# a server { in a comment\n",
        )
        == []
    )


def test_directives_in_blocks_and_strings_are_left_to_nginx() -> None:
    lines = """
    # return 404; server {
    location = /a { return 200 "}"; client_max_body_size 9m; }
    if ($host = "x;return") { return 301 /; }
    add_header X-A 'return 1; {' always;
    location ~ ^/b#c { deny all; }
    """
    assert top_directives(lines) == [
        "location = /a", "if ($host = )", "add_header X-A always", "location ~ ^/b#c",
    ]  # fmt: skip
    assert settings(nginx=lines) == []


def test_a_wildcard_needs_a_certificate_of_one_s_own() -> None:
    for tls in ("acme", "selfsigned"):
        [found] = settings(tls, domains=["*.shop.dev"])
        assert found.startswith("apps.shop.domains = '*.shop.dev': is a wildcard")
        assert "Set tls: own" in found
    assert settings("own", domains=["*.shop.dev"]) == []


def test_a_redirect_needs_a_target() -> None:
    [found] = settings("own", domains=["*.shop.dev"], redirect=["old.dev"])
    assert "domains has only wildcards" in found


def test_no_two_apps_claim_a_domain_in_either_list() -> None:
    apps = [
        ("apps.a", {"domains": ["a.dev"], "redirect": ["www.a.dev"]}),
        ("apps.b", {"domains": ["www.A.dev"], "redirect": ["a.dev"]}),
    ]
    found = [str(f) for f in shared_domains(apps)]
    assert [f.partition(":")[0] for f in found] == [
        "apps.b.domains = 'www.A.dev'",
        "apps.b.redirect = 'a.dev'",
    ]


def test_hashes_are_of_a_kind_that_nginx_knows() -> None:
    for good in (SHA512, BCRYPT, "$apr1$abcdefgh$" + "x" * 22, "{SSHA}" + "x" * 32):
        assert given({"shop": {"anna": good}}) == []
    for bad in ("secret", "{PLAIN}secret", "$6$abc", "$y$j9T$x$y", 7, True, SHA512 + "\n", "a:b"):
        [found] = given({"shop": {"anna": bad}})
        assert found.startswith("vault_basic_auth.shop.anna: is not the hash of a password")
        assert "secret" not in found
    assert "is missing. Did you mean ana?" in given({"shop": {"ana": SHA512}})[0]
    assert "must be a dictionary" in given({"shop": SHA512})[0]
    assert "is missing" in given(None)[0]


def test_a_hash_that_keeps_nginx_busy_is_a_warning() -> None:
    slow = {"shop": {"anna": BCRYPT.replace("$05$", "$12$")}}
    app = {"name": "shop", "basic_auth": ["anna"]}
    [found] = check_logins([("apps.shop", app)], slow)
    assert found.warning and "bcrypt with cost 12" in str(found)


def test_hashes_for_an_open_site_are_a_warning() -> None:
    assert "everybody sees the site" in given({"shop": {"anna": SHA512}}, users=[])[0]
    assert given({}, users=[]) == []


def test_no_finding_shows_a_hash() -> None:
    for users in ({"anna": SHA512}, [f"anna:{SHA512}"], [{"anna": SHA512}]):
        text = "".join(settings(basic_auth=users))
        assert "xxxx" not in text
    assert "vault_basic_auth.shop" in settings(basic_auth={"anna": SHA512})[0]
    assert "vault_basic_auth.shop" in settings(basic_auth=[f"anna:{SHA512}"])[0]


def test_a_front_page_as_the_health_path_is_told() -> None:
    [found] = settings(basic_auth=["anna"], health="/")
    assert "needs a password for every page" in found
    assert settings(basic_auth=["anna"], health="/ok") == []


def test_exceptions_without_users_are_told() -> None:
    assert "has no effect without basic_auth" in settings(basic_auth_except=["/api"])[0]


# -- the model ------------------------------------------------------------------------------------


def test_settings_of_the_site_make_no_new_release() -> None:
    plain = App.from_entry({"name": "shop", "domains": ["shop.dev"]})
    changed = App.from_entry(
        {
            "name": "shop",
            "domains": ["shop.dev"],
            "redirect": ["old.dev"],
            "basic_auth": ["anna"],
            "basic_auth_except": ["/api"],
            "headers": {"X-A": "1"},
            "gzip": False,
            "nginx": "gzip off;",
        }
    )
    assert plain.release_keys == changed.release_keys
    # Negative control.
    assert App.from_entry({"name": "shop", "health": "/x"}).release_keys != plain.release_keys


def test_a_rollback_leaves_the_settings_of_the_site_alone() -> None:
    tasks = yaml.safe_load((ROOT / "roles/app/tasks/site/reroute.yml").read_text())
    written = {t["ansible.builtin.template"]["src"]: t for t in tasks if "template" in str(t)}
    assert written.keys() == {"vhost/responses.j2", "vhost/_location_override.j2"}
    # Only for a site from before this file existed.
    assert written["vhost/responses.j2"]["ansible.builtin.template"]["force"] is False
    route = (ROOT / "roles/app/templates/vhost/_location_override.j2").read_text()
    for key in ("redirect", "basic_auth", "headers", "gzip", "nginx"):
        assert f"app_entry.{key}" not in route


def test_the_names_of_a_site() -> None:
    found = site(domains=["shop.dev", "*.Shop.dev"], redirect=["Bücher.dev"])
    assert found["hosts"] == ["shop.dev", r"~^[^.]+[.]shop[.]dev$", "xn--bcher-kva.dev"]
    assert found["host"] == "shop.dev"
    assert found["names"] == ["shop.dev"]
    # nginx-proxy's names: https://github.com/nginx-proxy/nginx-proxy/pull/2533
    digest = hashlib.sha1(found["hosts"][1].encode(), usedforsecurity=False).hexdigest()
    assert [file["name"] for file in found["files"]][1:4] == [
        "shop.dev_location_override",
        digest,
        f"{digest}_location_override",
    ]
    assert [file["template"] for file in found["files"]] == [
        *["server", "_location_override"] * 2,
        *["redirect", "_location_override"],
    ]
    assert found["certificates"] == ["shop.dev", "xn--bcher-kva.dev", "flask-vps-shop"]
    assert found["certificate"] == "flask-vps-shop"
    assert found["visits"] == [
        {"domain": "shop.dev", "to": ""},
        {"domain": "any.shop.dev", "to": ""},
        {"domain": "xn--bcher-kva.dev", "to": "shop.dev"},
    ]
    plain = site()
    assert (plain["certificate"], plain["certificates"]) == ("", ["shop.dev"])


def test_a_site_of_one_wildcard_has_a_host_for_its_health_check() -> None:
    app = App.from_entry({"name": "shop", "domains": ["*.shop.dev"]})
    assert app.variables([])["HEALTH_HOST"] == "any.shop.dev"
    assert site(domains=["*.shop.dev"])["names"] == ["any.shop.dev"]


# -- visits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "location", "right"),
    [
        (301, "https://shop.dev/ok", True),
        (301, "https://shop.dev:8443/ok", True),
        (302, "https://shop.dev/ok", False),
        (301, "https://shop.dev.evil/ok", False),
        (301, "https://shop.dev:x/", False),
        (301, "http://shop.dev/ok", False),
        (200, "", False),
        (0, "", False),
    ],
)
def test_a_redirect_is_judged_by_its_target(status: int, location: str, right: bool) -> None:
    verdict = Verdict("shop", "old.dev", "acme")
    visit = {"to": "shop.dev", "status": status, "location": location, "maintenance": True}
    _judge_answer(verdict, visit)
    assert verdict.fails is not right
    assert (verdict.answer == "301 to shop.dev") is right


def test_the_target_of_an_answer_is_read() -> None:
    class Connection:
        def __init__(self, text: bytes) -> None:
            self.parts = [text[:20], text[20:]]

        def sendall(self, request: bytes) -> None:
            assert request.startswith(b"GET /a HTTP/1.1\r\nHost: shop.dev\r\n")

        def recv(self, size: int) -> bytes:
            return self.parts.pop(0) if self.parts else b""

    text = b"HTTP/1.1 301 Moved\r\nServer: x\r\nlocation: https://a.dev/\r\n\r\nLocation: no"
    assert answer(Connection(text), "shop.dev", 443, "/a") == (301, "https://a.dev/")
    assert answer(Connection(b"HTTP/1.1 200 OK\r\n\r\nLocation: x\r\n"), "shop.dev", 443, "/a") == (
        200,
        "",
    )
    assert answer(Connection(b""), "shop.dev", 443, "/a") == (0, "")


# -- files ----------------------------------------------------------------------------------------


def test_the_file_of_users_has_those_of_the_entry() -> None:
    hashes = {"anna": SHA512, "ben": BCRYPT}
    assert logins(["anna"], hashes) == f"anna:{SHA512}\n"
    with pytest.raises(AnsibleFilterError, match=r"no hash of carl$"):
        logins(["anna", "carl"], hashes)


def test_a_refusal_of_nginx_names_the_line() -> None:
    text = "a;\nb;\n  gzipp on;\n"
    log = "2026/11/29 21:46:38 [emerg] 7#7: "
    said = 'unknown directive "gzipp" in /tmp/tmp.x/vhost.d/shop.dev:3\nnginx: ... failed'
    short = 'unknown directive "gzipp", at the line `gzipp on;`.'
    assert nginx_refusal(log + said, text) == short
    assert nginx_refusal("nginx: [emerg] " + said, text) == short
    other = "[emerg] duplicate location in /tmp/x/vhost.d/shop.dev_location_override:1"
    assert nginx_refusal(other, text) == (
        "duplicate location, in shop.dev_location_override, line 1."
    )
    assert nginx_refusal("[emerg] no servers", text) == "no servers."
    assert nginx_refusal("  the container is gone ", text) == "the container is gone"


def test_an_app_may_replace_each_page_of_the_edge() -> None:
    variables = yaml.safe_load((ROOT / "roles/proxy/vars/main.yml").read_text())
    pages = {f"{page['code']}.html" for page in variables["__proxy_error_pages"]}
    assert pages | {"maintenance.html"} == set(error_pages.NAMES)


def test_an_app_s_error_pages_are_published(tmp_path: Path) -> None:
    source, dest = tmp_path / "errors", tmp_path / "edge"
    options = {"source": str(source), "dest": str(dest)}
    # Most apps have no such folder.
    assert run_module("error_pages", **options)["changed"] is False
    assert not dest.exists()
    source.mkdir()
    (source / "413.html").write_text("too much")
    (source / "404.html").write_text("the app's own")
    (source / "handlers.py").write_text("import flask")
    (source / "502.html").write_text("{% extends 'base.html' %}")
    (source / "503.html").symlink_to("/etc/passwd")
    (source / "504.html").mkdir()
    (source / "429.html").write_bytes(b"x" * (error_pages.LARGEST + 1))
    found = run_module("error_pages", **options)
    assert (found["changed"], found["pages"]) == (True, ["413.html"])
    assert [file.name for file in dest.iterdir()] == ["413.html"]
    assert dest.stat().st_mode & 0o777 == 0o755
    assert (dest / "413.html").stat().st_mode & 0o777 == 0o644
    warnings = str(found["warnings"])
    for reason in ("template", "is a link", "is not a file", "larger than 1 MB"):
        assert reason in warnings
    assert run_module("error_pages", **options)["changed"] is False
    (source / "413.html").unlink()
    assert run_module("error_pages", **options, _ansible_check_mode=True)["changed"] is True
    assert (dest / "413.html").exists()
    assert run_module("error_pages", **options)["changed"] is True
    assert not (dest / "413.html").exists()
