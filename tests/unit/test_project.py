"""The files in the project's root: versions, collection, updates, editors, linters, issues."""

import configparser
import json
import re
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text())
RENOVATE = json.loads((ROOT / "renovate.json").read_text())
DIGEST = f"sha256:{'0' * 64}"
# Files that operators create as the docs say, and that neither git nor the collection may contain.
SECRET = (
    ".vault-passphrase",
    ".vault-passphrase.new",
    "ci-key",
    "ci-key.pub",
    "shop.key",
    "shop.pem",
    "inventory/prod/certificates/shop.key",
    "inventory/prod/certificates/shop.pem",
    "inventory/prod/group_vars/all/vault.yml.bak",
    "archives/nginx.tar",
    "archives/nginx.tar.gz",
    "inventory/prod/archives/nginx.tar",
)


def tracked() -> list[Path]:
    """List the files that git tracks, without symbolic links."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    return [file for file in files if file.is_file() and not file.is_symlink()]


# Versions


def test_all_files_name_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert GALAXY["version"] == project["version"]
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    released = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d", h) for h in headings[1:]]
    assert all(released), headings
    if released:
        assert released[0][1] == project["version"]


def test_tags_are_versions() -> None:
    done = subprocess.run(["git", "tag"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [tag for tag in done.stdout.split() if not re.fullmatch(r"v\d+\.\d+\.\d+", tag)] == []


def test_changes_are_sorted_by_kind() -> None:
    kinds = re.findall(r"^### (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    known = {"On upgrade", "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(kinds) <= known


# The collection


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, built from a folder with secrets and leftovers, and installed."""
    source = tmp_path_factory.mktemp("source")
    for file in tracked():
        target = source / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    for name in (
        *SECRET,
        ".venv/bin/x",
        ".cache/x",
        ".local/x",
        "app/.venv/x",
        "app/instance/x",
        "app/ca-bundle.crt",
        "inventory/prod/group_vars/all/vault.yml",
        "plugins/filter/__pycache__/x.pyc",
    ):
        planted = source / name
        planted.parent.mkdir(parents=True, exist_ok=True)
        planted.write_text("planted")
    target = tmp_path_factory.mktemp("installed")
    archive = target / f"flask_vps-server-{GALAXY['version']}.tar.gz"
    galaxy("build", "--output-path", str(target), cwd=source)
    with tarfile.open(archive) as tar:
        planted = [m.name for m in tar if m.isfile() and tar.extractfile(m).read() == b"planted"]
    assert planted == []
    galaxy("install", "--no-deps", "--collections-path", str(target), str(archive), cwd=target)
    return target / "ansible_collections/flask_vps/server"


def galaxy(command: str, *arguments: str, cwd: Path) -> None:
    """Run ``ansible-galaxy collection``."""
    done = subprocess.run(
        ["ansible-galaxy", "collection", command, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_git_ignores_secret_files() -> None:
    def ignored(*names: str) -> list[str]:
        command = ["git", "check-ignore", "--no-index", *names]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        return done.stdout.split()

    assert ignored(*SECRET) == list(SECRET)
    # Git's patterns also choose the files of the shipped app's source, which may have such names.
    assert ignored("app/src/shop.pem", "app/archives/x", "plugins/filter/archives_of.yml") == []


def test_collection_holds_what_a_deploy_needs(collection: Path) -> None:
    needed = ("app/", "inventory/", "playbooks/", "plugins/", "roles/", "scripts/")
    for file in tracked():
        name = file.relative_to(ROOT).as_posix()
        if name.startswith(needed) or name in ("ansible.cfg", "site.yml", "Makefile", "pdm.lock"):
            assert (collection / name).is_file(), name


def test_playbooks_run_in_the_installed_collection(collection: Path) -> None:
    done = subprocess.run(
        ["ansible-playbook", "-i", "inventory/example", "site.yml", "--syntax-check"],
        cwd=collection,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_collection_depends_on_what_the_playbooks_use() -> None:
    wanted = yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]
    assert GALAXY["dependencies"] == {c["name"]: f">={c['version']}" for c in wanted}


# Updates


def found_by(manager: dict[str, Any], file: str, text: str) -> dict[str, str]:
    """Return the versions that a regex manager of Renovate finds in a file, by dependency."""
    patterns = [pattern.strip("/") for pattern in manager["managerFilePatterns"]]
    if not any(re.search(pattern, file) for pattern in patterns):
        return {}
    return {
        match["depName"]: match["currentValue"]
        for expression in manager["matchStrings"]
        for match in re.finditer(expression.replace("(?<", "(?P<"), text)
    }


def test_renovate_finds_each_upstream_image() -> None:
    file = "roles/images/defaults/main/versions.yml"
    text = (ROOT / file).read_text()
    images = yaml.safe_load(text)["images_upstream"].values()
    names = {image.partition("@")[0].rpartition(":")[0] for image in images}
    (manager,) = (m for m in RENOVATE["customManagers"] if m["datasourceTemplate"] == "docker")
    assert found_by(manager, file, text).keys() == names
    for image in images:
        pinned = f"  x: {image.partition('@')[0]}@{DIGEST}\n"
        match = re.search(manager["matchStrings"][0].replace("(?<", "(?P<"), pinned)
        name, _, tag = image.partition("@")[0].rpartition(":")
        assert match.groupdict() == {
            "depName": name,
            "currentValue": tag,
            "currentDigest": DIGEST,
        }


def test_renovate_finds_each_version_of_a_python_package() -> None:
    manager = next(m for m in RENOVATE["customManagers"] if m["datasourceTemplate"] == "pypi")
    found: dict[str, set[str]] = {}
    for file in tracked():
        name = file.relative_to(ROOT).as_posix()
        if name.startswith(("app/Dockerfile", "roles/", "scripts/")):
            for package, version in found_by(manager, name, file.read_text()).items():
                found.setdefault(package, set()).add(version)
    servers = {
        "uwsgi",
        "gunicorn",
        "gevent",
        "packaging",
        "uvicorn",
        "uvicorn_worker",
        "websockets",
    }
    assert found.keys() == {"pdm", "pdm-backend", "uv"} | servers
    # All places agree on a version.
    assert all(len(versions) == 1 for versions in found.values()), found


# Editors, linters, issues


def test_text_files_are_as_editorconfig_has_them() -> None:
    config = configparser.ConfigParser()
    config.read_string("[root]\n" + (ROOT / ".editorconfig").read_text())
    assert config["*"]["end_of_line"] == "lf"
    assert config["*"]["trim_trailing_whitespace"] == config["*"]["insert_final_newline"] == "true"
    wrong = []
    for file in tracked():
        content = file.read_bytes()
        if not content or b"\0" in content or file.suffix in {".jpg", ".png", ".ico"}:
            continue
        lines = content.decode().split("\n")
        if lines[-1] or "\r" in content.decode() or any(line != line.rstrip() for line in lines):
            wrong.append(file)
        if file.name != "Makefile" and any(line.startswith("\t") for line in lines):
            wrong.append(file)
    assert wrong == []


def test_ruff_has_one_configuration() -> None:
    names = {"ruff.toml", ".ruff.toml"}
    projects = [file for file in tracked() if file.name == "pyproject.toml"]
    assert [file for file in tracked() if file.name in names] == []
    assert [f for f in projects if "ruff" in tomllib.loads(f.read_text()).get("tool", {})] == [
        ROOT / "pyproject.toml"
    ]


def test_linters_and_editors_know_python_programs_without_an_extension() -> None:
    programs = {
        file.relative_to(ROOT).as_posix()
        for file in tracked()
        if file.suffix != ".py" and re.match(rb"#!.*python", file.read_bytes())
    }
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert programs == set(ruff["extend-include"])
    editors = (ROOT / ".editorconfig").read_text()
    for end in ("indent_size = 4", "max_line_length = 100"):
        sections = re.findall(rf"^\[\{{(.*)\}}\]\n(?:.+\n)*{end}$", editors, re.MULTILINE)
        assert any(programs <= set(names.split(",")) for names in sections), end


def test_issue_forms_are_valid() -> None:
    forms = [f for f in (ROOT / ".github/ISSUE_TEMPLATE").iterdir() if f.name != "config.yml"]
    assert len(forms) == 2
    for file in forms:
        form = yaml.safe_load(file.read_text())
        assert {"name", "description", "body"} <= form.keys()
        fields = [part for part in form["body"] if part["type"] != "markdown"]
        ids = [field["id"] for field in fields]
        assert len(set(ids)) == len(ids)
        for field in fields:
            assert field["type"] in {"textarea", "input", "dropdown", "checkboxes"}
            assert field["attributes"]["label"]


def test_links_lead_to_files() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]*)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
