"""Files that an app reads beside its code: secret, mounted, and in no image and no output."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from checks.app_files import check_files
from checks.apps import check_entry
from checks.spec import check_names
from module_utils.app import App

from app import app_completed, app_configuration

ROOT = Path(__file__).parents[2]
FILES = {"instance/config.py": "SECRET = 'hunter2'\n", "/etc/shop/shop.cfg": "hunter3"}


def shop(**entry: Any) -> dict[str, Any]:
    return {"name": "shop", "domains": ["shop.test"], "module": "shop:app", **entry}


def test_contents_leave_only_their_digests() -> None:
    entry = app_completed(shop(files=FILES))
    text = yaml.safe_dump(entry) + app_configuration(entry)
    assert "hunter" not in text and "sha256:" in text
    # Completed again, from a record or a fact, it stays the same.
    assert app_completed(entry) == entry
    assert app_completed(entry["given"])["files"] == entry["files"]


def test_a_new_content_makes_a_new_release() -> None:
    first, second = (
        App.from_entry(shop(files={"a.cfg": content})).release_keys for content in ("1", "2")
    )
    assert first != second
    assert first == App.from_entry(shop(files={"a.cfg": "1"})).release_keys


def test_each_file_is_mounted_where_the_app_looks() -> None:
    assert App.from_entry(shop(files=FILES)).brought == [
        {"path": "/etc/shop/shop.cfg", "name": "0-shop.cfg", "target": "/etc/shop/shop.cfg"},
        {
            "path": "instance/config.py",
            "name": "1-config.py",
            "target": "/app/instance/config.py",
        },
    ]
    template = (ROOT / "roles/app/templates/release/compose.yml.j2").read_text()
    assert "target: {{ file.target }}, read_only: true" in template


def test_they_are_written_for_the_app_alone_and_never_shown() -> None:
    *_, write = yaml.safe_load((ROOT / "roles/app/tasks/deploy/files.yml").read_text())
    assert write["no_log"] is True
    assert write["ansible.builtin.copy"]["mode"] == "0400"
    assert write["ansible.builtin.copy"]["owner"] == "{{ __app_owner }}"
    # The build reads two folders of a release, and this is neither.
    recipe = (ROOT / "roles/app/files/recipe/Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", recipe.replace("\\\n", ""), re.MULTILINE)
    words = {word.partition("/")[0] for line in copied for word in line.split()}
    assert words == {"source", "runtime"}


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("../config.py", "x", "not a valid path"),
        ("instance/", "x", "not a valid path"),
        ("a b.cfg", "x", "not a valid path"),
        ("/etc/passwd", "x", "is reserved"),
        ("/run/secrets/X", "x", "is reserved"),
        ("config.py", None, "is empty"),
        ("config.py", {"a": 1}, "not text but dict"),
        ("config.py", 750, "not text but int"),
        ("logs", "x", "also one of volumes"),
    ],
)
def test_a_file_that_cannot_be_brought_is_a_finding(path: str, content: Any, said: str) -> None:
    entry = {"name": "shop", "files": {path: content}, "volumes": ["/app/logs"]}
    (finding,) = check_files(entry, "apps.shop")
    assert said in str(finding) and not finding.warning
    # Never with its content.
    assert finding.value != "x"


def test_files_that_can_be_brought_are_none() -> None:
    assert check_entry({"name": "shop", "files": FILES}, "apps.shop") == []
    relative = {"name": "shop", "files": {"a.cfg": "x"}, "dockerfile": "Dockerfile"}
    assert "Write an absolute path" in str(check_files(relative, "apps.shop")[0])
    twice = {"name": "shop", "files": {"a.cfg": "x", "/app/a.cfg": "y"}}
    assert "is the same file" in str(check_files(twice, "apps.shop")[0])


def test_a_vault_variable_of_one_s_own_is_known_where_it_is_used() -> None:
    apps = [{"files": {"config.py": "{{ vault_shop_config }}"}}]
    given = {"vault_shop_config": "x", "apps": apps}
    assert check_names(given, {"apps": {}}, ["app"]) == []
    (finding,) = check_names({**given, "vault_shop_confg": "y"}, {"apps": {}}, ["app"])
    assert finding.variable == "vault_shop_confg"
