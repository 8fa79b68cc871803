"""Rules for every role: specs, defaults and READMEs agree, and files are short."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.plugins.filter.core import FilterModule as CoreFilters
from ansible.plugins.filter.mathstuff import FilterModule as MathFilters
from ansible.plugins.filter.urls import FilterModule as UrlFilters

ROOT = Path(__file__).parents[2]
ROLES = sorted((ROOT / "roles").iterdir())


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_variable_is_documented_and_has_a_default_or_is_required(role: Path) -> None:
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    # The entry point `inventory` has no tasks; it documents variables that roles share.
    specs.pop("inventory", None)
    options = {n: o for spec in specs.values() for n, o in spec.get("options", {}).items()}
    files = [*role.glob("defaults/main.yml"), *role.glob("defaults/main/*.yml")]
    defaults = {name for file in files for name in yaml.safe_load(file.read_text())}
    required = {name for name, option in options.items() if option.get("required")}
    # Other entry points may take what the role's main entry point computes.
    computed = {"images_base_tag", "images_named"}
    assert defaults | required == set(options) - computed
    assert not defaults & required
    # Options must begin with the role's name.
    assert [name for name in options if not name.startswith(f"{role.name}_")] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_documented_variable_has_an_effect(role: Path) -> None:
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    names = {name for spec in specs.values() for name in spec.get("options", {})}
    users = [
        file
        for pattern in ("roles/*/*/**/*", "playbooks/**/*.yml")
        for file in ROOT.glob(pattern)
        if file.is_file() and file.parent.name != "meta"
    ]
    # The definitions in files of defaults do not count as uses.
    text = "\n".join(re.sub(r"(?m)^\w+:", "", file.read_text(errors="replace")) for file in users)
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


def variables_of(entry: str) -> set[str]:
    """List the variables `app_*` that an entry point of the role app reads, in any of its files."""
    role = ROOT / "roles/app"
    texts: dict[Path, str] = {}

    def read(file: Path) -> None:
        if file in texts or not file.is_file():
            return
        text = texts[file] = file.read_text()
        for name in re.findall(
            r"(?:(?:import|include)_tasks|file): (?:{file: )?([\w/]+\.yml)", text
        ):
            read(role / "tasks" / name)
        for name in re.findall(r"src: ([\w/.]+\.j2)", text):
            read(role / "templates" / name)

    read(role / "tasks" / f"{entry}.yml")
    own = yaml.safe_load((role / "vars/main.yml").read_text())
    text, known = "\n".join(texts.values()), set()
    while found := set(re.findall(r"\b__app_\w+", text)) & set(own) - known:
        known |= found
        text += "\n".join(str(own[name]) for name in found)
    passed = re.findall(r"\b(app_\w+):", " ".join(re.findall(r"vars: ({.*})", text)))
    return set(re.findall(r"\bapp_\w+", re.sub("#.*", "", text))) - set(passed)


def test_each_entry_point_of_the_role_app_documents_what_it_reads() -> None:
    specs = yaml.safe_load((ROOT / "roles/app/meta/argument_specs.yml").read_text())
    entries = {entry: set(spec["options"]) for entry, spec in specs["argument_specs"].items()}
    documented = set().union(*entries.values())
    for entry, options in entries.items():
        # A dump uses this image only if its name is known.
        known = options | {"app_python_image"}
        assert variables_of(entry) & documented <= known, entry
    # Negative control: an entry point that reads one more variable is noticed.
    assert "app_dump" in variables_of("restore") - entries["list"]


def passed(node: Any) -> set[str]:
    """List the variables that a playbook gives to roles, which outrank those of the inventory."""
    if isinstance(node, list):
        return {name for item in node for name in passed(item)}
    if not isinstance(node, dict):
        return set()
    is_role = {"role", "ansible.builtin.include_role", "ansible.builtin.import_role"} & set(node)
    own = set(node.get("vars", {})) if is_role else set()
    return own | {name for value in node.values() for name in passed(value)}


def test_a_variable_that_an_inventory_may_set_is_overruled_by_no_playbook() -> None:
    files = (ROOT / "playbooks").rglob("*.yml")
    given = {name for file in files for name in passed(yaml.safe_load(file.read_text()))}
    defaults = {
        name
        for file in ROOT.glob("roles/*/defaults/**/*.yml")
        for name in yaml.safe_load(file.read_text())
    }
    # These differ for each app, and a rollback uses the image of the release.
    own = {"app_basic_auth", "app_build_secrets", "app_deploy_key", "app_files", "app_operator"}
    own |= {"app_python_image", "app_secrets"}
    # These follow from the app's entry.
    own |= {f"postgres_{name}" for name in ("connections", "extensions", "locale", "version")}
    # Playbooks set the options of other entry points; preflight refuses them in an inventory.
    specs = yaml.safe_load((ROOT / "roles/app/meta/argument_specs.yml").read_text())
    of_main = specs["argument_specs"]["main"]["options"]
    own |= {name for name in defaults if name.startswith("app_")} - set(of_main)
    assert len(given) > 5
    assert (given & defaults) - own == set()


def test_a_default_of_the_inventory_is_the_documented_one() -> None:
    specs = yaml.safe_load((ROOT / "roles/preflight/meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["inventory"]["options"]
    wanted = {name: o["default"] for name, o in options.items() if "default" in o}
    # Roles also run where preflight does not, so they repeat it.
    used = re.compile(rf"\b({'|'.join(wanted)}) \| default\('([^']*)'")
    found = []
    for folder in ("roles", "playbooks"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".yml", ".j2"):
                found += used.findall(file.read_text())
    assert len(found) > 5
    assert [(name, text) for name, text in found if wanted[name] != text] == []


def test_readmes_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/role_docs.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_a_value_that_ends_with_a_bracket_is_written_whole() -> None:
    assert "`my_app:create_app()`" in (ROOT / "docs/inventory.md").read_text()


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_task_files_fit_a_screen(role: Path) -> None:
    for file in (role / "tasks").glob("*.yml"):
        limit = 32 if file.name == "main.yml" else 62
        assert len(file.read_text().splitlines()) <= limit, file


def test_collections_are_those_of_the_locked_ansible() -> None:
    wanted = yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]
    site = next(
        p for p in map(Path, sys.path) if (p / "ansible_collections/community/docker").is_dir()
    )
    for collection in wanted:
        folder = collection["name"].replace(".", "/")
        manifest = site / "ansible_collections" / folder / "MANIFEST.json"
        version = yaml.safe_load(manifest.read_text())["collection_info"]["version"]
        assert version == collection["version"], collection["name"]


def test_collections_that_are_used_are_required() -> None:
    files = [
        file
        for folder in ("molecule", "playbooks", "roles")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in {".yml", ".j2"}
    ]
    # The full name of a module, filter or lookup; ansible.builtin is not listed as a requirement.
    name = re.compile(r"\b((?:ansible\.posix|community\.\w+))\.\w+")
    used = {found for file in files for found in name.findall(file.read_text())}
    wanted = yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]
    assert used == {collection["name"] for collection in wanted}


INCLUDES = {f"ansible.builtin.{name}" for name in ("import_tasks", "include_tasks")}
ROLE_INCLUDES = {f"ansible.builtin.{name}" for name in ("import_role", "include_role")}


def test_the_folder_of_the_project_on_a_server_is_written_once() -> None:
    text = (ROOT / "plugins/module_utils/paths.py").read_text()
    [folder] = re.findall(r"^SERVER_DIR = \"(.+)\"", text, re.MULTILINE)
    files = [file for role in ROLES for file in role.rglob("*") if file.is_file()]
    # Files of a release, and the program that runs jobs in it, name paths in its containers.
    app = ROOT / "roles/app"
    inside = {app / "files/recipe", app / "templates/release"}
    allowed = {app / "files/run-job", *(file for file in files if file.name == "README.md")}
    found = [file for file in files if folder in file.read_text(errors="replace")]
    assert not {file for file in found if not inside & set(file.parents)} - allowed


def tasks_of(file: Path) -> Iterator[dict[str, Any]]:
    """Yield each task of a file, including those in blocks."""

    def walk(node: Any) -> Iterator[dict[str, Any]]:
        for item in node if isinstance(node, list) else []:
            if isinstance(item, dict):
                yield item
                for key in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks"):
                    yield from walk(item.get(key))

    yield from walk(yaml.safe_load(file.read_text()))


def test_every_file_of_tasks_that_is_included_exists() -> None:
    files = [*ROOT.glob("roles/*/tasks/**/*.yml"), *ROOT.glob("playbooks/**/*.yml")]
    missing, found = [], 0
    for file in files:
        top = next((p for p in file.parents if p.name == "tasks"), file.parent)
        for task in tasks_of(file):
            for key in INCLUDES & set(task):
                name = task[key] if isinstance(task[key], str) else task[key]["file"]
                places = [top / name, file.parent / name]
                found += 1
                if "{{" not in name and not any(place.exists() for place in places):
                    missing.append((str(file.relative_to(ROOT)), name))
            for key in ROLE_INCLUDES & set(task):
                options = task[key]
                name = options.get("tasks_from", "main.yml")
                if (
                    "{{" not in name
                    and not (ROOT / "roles" / options["name"] / "tasks" / name).exists()
                ):
                    missing.append((str(file.relative_to(ROOT)), name))
    assert found > 40
    assert missing == []


def test_every_filter_that_is_used_exists() -> None:
    names = set()
    for file in [*ROOT.glob("roles/*/*/**/*"), *ROOT.glob("playbooks/**/*.yml")]:
        if file.suffix in (".yml", ".j2") and file.parent.name != "meta":
            expressions = re.findall(r"\{\{.*?\}\}|\{%.*?%\}", file.read_text(), re.DOTALL)
            names |= {n for e in expressions for n in re.findall(r"\|\s*([a-z][\w.]*)", e)}
    ours = {file.stem for file in ROOT.glob("plugins/filter/*.yml")}
    jinja = set(jinja2.defaults.DEFAULT_FILTERS)
    core = {name for kind in (CoreFilters, MathFilters, UrlFilters) for name in kind().filters()}
    unknown = {name for name in names - ours - jinja - core if "." not in name}
    assert len(names & ours) > 20
    assert unknown == set()
