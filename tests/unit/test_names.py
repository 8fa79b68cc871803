"""The names of what an app has in Docker."""

import re
from pathlib import Path

import pytest
from module_utils.names import DATABASE, DOMAINS, Names, app_of

ROOT = Path(__file__).parents[2]
HOME = ROOT / "plugins/module_utils/names.py"
# A name in code or in a template: what follows the value of a variable.
BUILT = re.compile(r"[}\"'][-](db|vhost|backend|internet|init)\b|-db_data\b|-db-db-1\b")


def test_projects_lead_back_to_their_app() -> None:
    names = Names("shop")
    assert app_of(names.database_project) == app_of(names.domains_project) == "shop"
    assert names.database == "shop-db-db-1"
    assert names.database_project.endswith(DATABASE)
    assert names.domains_project.endswith(DOMAINS)


@pytest.mark.parametrize("name", ["a", "a-b"])
def test_volumes_of_one_app_are_not_those_of_another(name: str) -> None:
    other = {"a": "a-b", "a-b": "a"}[name]
    assert not Names(other).volume("b-data").startswith(f"{Names(name).app}.")


def test_no_other_file_builds_such_a_name() -> None:
    found = []
    for folder in ("plugins", "roles", "playbooks"):
        for file in (ROOT / folder).rglob("*"):
            # A program of its own on servers; its test compares its networks with the model's.
            if file in (HOME, ROOT / "roles/docker/files/isolate") or not file.is_file():
                continue
            if file.suffix in (".py", ".yml", ".j2", ""):
                found += [
                    f"{file.relative_to(ROOT)}: {line.strip()}"
                    for line in file.read_text(errors="replace").splitlines()
                    if BUILT.search(line) and not line.lstrip().startswith("#")
                ]
    assert found == []
    assert BUILT.search(HOME.read_text()), "the pattern finds nothing at all"
