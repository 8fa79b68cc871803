"""Preflight's rules for what an app's image is built from, and the keys of builds."""

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import keys as key_filters
import pytest
import yaml
from ansible.module_utils.source_tree import SourceError
from checks.builds import check_builds, check_deploy_keys, kept_home, lists_below, pythons
from checks.report import UNKNOWN
from checks.site import Site
from module_utils.python_versions import (
    DEBIAN,
    UPSTREAM,
    Choice,
    Wish,
    allows,
    choose,
    image_key,
    minor,
    version_of_image,
    wishes,
)
from module_utils.ssh_keys import PROGRAM, address, keys_of, write
from source_archive import choose_python

from app import App

ROOT = Path(__file__).parents[2]
DEFAULTS = {
    "images_source": "debian",
    "images_upstream": yaml.safe_load(
        (ROOT / "roles/images/defaults/main/versions.yml").read_text()
    )["images_upstream"],
}
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n"


def site(source: Path | str, values: dict[str, Any] | None = None, **entry: Any) -> Site:
    app = {"name": "shop", "source": str(source), "domains": ["shop.dev"], "module": "shop:app"}
    return Site(values={"apps": [{**app, **entry}], **(values or {})}, options={}, entry={})


def found(source: Path | str, values: dict[str, Any] | None = None, **entry: Any) -> list[str]:
    """List the findings, warnings marked."""
    findings = check_builds(site(source, values, **entry), DEFAULTS)
    return [f"{'warning: ' if f.warning else ''}{f}" for f in findings]


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=n", "-c", "user.email=n@n.dev", "-c", "protocol.file.allow=always")
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True)


# Python


@pytest.mark.parametrize(
    ("specifier", "fitting"),
    [
        (">=3.11", ["3.11", "3.12", "3.13", "3.14"]),
        (">=3.11,<3.13", ["3.11", "3.12"]),
        (">= 3.9, < 3.12", ["3.11"]),
        ("==3.12.*", ["3.12"]),
        ("~=3.12", ["3.12", "3.13", "3.14"]),
        ("~=3.12.1", ["3.12"]),
        ("^3.12", ["3.12", "3.13", "3.14"]),
        ("~3.12", ["3.12"]),
        (">3.12", ["3.13", "3.14"]),
        ("<3.13.2", ["3.11", "3.12", "3.13"]),
        ("!=3.13.*", ["3.11", "3.12", "3.14"]),
        ("3.12", ["3.12"]),
        ("^2.7 || ^3.13", ["3.13", "3.14"]),
        (">=3", list(UPSTREAM)),
        (">=2.7", list(UPSTREAM)),
        ("*", list(UPSTREAM)),
        ("<3", []),
    ],
)
def test_specifiers_are_read(specifier: str, fitting: list[str]) -> None:
    assert [version for version in UPSTREAM if allows(specifier, version)] == fitting


@pytest.mark.parametrize(
    ("name", "text", "version"),
    [
        (".python-version", "3.11.4\n", "3.11"),
        (".python-version", "# comment\n3.12\n", "3.12"),
        ("runtime.txt", "python-3.11.9\n", "3.11"),
        ("runtime.txt", "python-3.11", "3.11"),
        ("pyproject.toml", '[project]\nrequires-python = ">=3.10,<3.13"\n', "3.12"),
        ("pyproject.toml", '[tool.poetry.dependencies]\npython = "~3.11"\n', "3.11"),
        ("setup.cfg", "[options]\npython_requires = >=3.9,<3.12\n", "3.11"),
        ("Pipfile.lock", '{"_meta": {"requires": {"python_version": "3.14"}}}', "3.14"),
        # The version of the image is not one to choose.
        ("pyproject.toml", '[project]\nrequires-python = ">=3.11"\n', ""),
        (".python-version", "3.13.1", ""),
        ("requirements.txt", "flask==3.11\n", ""),
        ("pyproject.toml", "not [toml", ""),
    ],
)
def test_the_source_asks_for_its_python(tmp_path: Path, name: str, text: str, version: str) -> None:
    (tmp_path / name).write_text(text)
    assert choose("", wishes(tmp_path), UPSTREAM, "3.13") == Choice(version)


def test_the_entry_outweighs_the_source_and_the_first_file_decides(tmp_path: Path) -> None:
    (tmp_path / ".python-version").write_text("3.12")
    (tmp_path / "runtime.txt").write_text("python-3.14")
    assert choose("", wishes(tmp_path), UPSTREAM, "3.13").version == "3.12"
    chosen = choose("3.11", wishes(tmp_path), UPSTREAM, "3.13")
    assert (chosen.version, chosen.mild) == ("3.11", True)
    assert "3.12" in chosen.wrong and ".python-version" in chosen.wrong


def test_a_mismatch_names_both(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("flask\n")
    assert found(tmp_path, python="3.11") == []
    assert found(tmp_path, python=3.11) == []
    assert found(tmp_path, python="3.13") == []
    [text] = found(tmp_path, python="3.12")
    assert "apps.shop.python = '3.12'" in text and "3.11 and 3.13" in text
    assert "images_source to registry" in text
    assert found(tmp_path, {"images_source": "registry"}, python="3.12") == []
    (tmp_path / "pyproject.toml").write_text('[project]\nrequires-python = ">=3.12"\n')
    [text] = found(tmp_path, python="3.11")
    assert "requires-python in pyproject.toml is >=3.12" in text and "'3.11'" in text
    assert not text.startswith("warning")
    (tmp_path / "pyproject.toml").write_text('[project]\nrequires-python = ">=3.14"\n')
    [text] = found(tmp_path)
    assert "requires-python" in text and ">=3.14" in text and "3.11 and 3.13" in text
    # A pin of a developer's tool is no reason to refuse an app that may run with another version.
    (tmp_path / "pyproject.toml").unlink()
    (tmp_path / ".python-version").write_text("3.12")
    [text] = found(tmp_path)
    assert text.startswith("warning: apps.shop.python: is not set") and "runs with 3.13" in text


@pytest.mark.parametrize("value", [3.1, "3", "3.11.4", "python3.11", "latest"])
def test_a_version_is_two_numbers(tmp_path: Path, value: Any) -> None:
    [text] = found(tmp_path, python=value)
    assert "is not a version of Python" in text
    assert ("YAML takes 3.10 for the number 3.1" in text) is isinstance(value, float)


def test_a_repository_is_asked_once_it_is_there(tmp_path: Path) -> None:
    assert found("https://git.example.org/shop.git") == []
    (tmp_path / "runtime.txt").write_text("python-3.11.2")
    options = {"app": "shop", "python": "", "pythons": list(DEBIAN), "python_default": "3.13"}
    assert choose_python(tmp_path, options).version == "3.11"
    assert image_key("3.11") == "python_3_11" and image_key("") == "python"
    with pytest.raises(SourceError, match=r"apps\.shop\.python: is not available"):
        choose_python(tmp_path, {**options, "python": "3.12"})
    # Without preflight nothing is known about the images.
    assert choose_python(tmp_path, {**options, "pythons": []}).version == ""


def test_the_images_there_depend_on_their_source() -> None:
    assert pythons(site("/x"), DEFAULTS) == {"available": ["3.11", "3.13"], "default": "3.13"}
    own = site(
        "/x", {"images_source": "registry", "images_registry": {"python": "h/python:3.12-slim"}}
    )
    assert pythons(own, DEFAULTS) == {"available": list(UPSTREAM), "default": "3.12"}
    assert version_of_image("h:5000/python@sha256:00") == ""
    assert minor("pypy") == "" and Wish("x", "pypy", is_pin=True).allows("3.11")
    # Each of them has an image.
    recipes = yaml.safe_load((ROOT / "roles/images/vars/main.yml").read_text())["__images_recipes"]
    for version in set(DEBIAN) - {"3.13"}:
        assert (ROOT / "images" / recipes[image_key(version)]["folder"] / "Dockerfile").exists()
    for version in UPSTREAM:
        assert f":{version}-" in DEFAULTS["images_upstream"][image_key(version)]


# Dependencies


def test_a_list_under_another_name_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    for name in ("dev", "production", "base"):
        (tmp_path / f"requirements/{name}.txt").write_text("flask\n")
    (tmp_path / "notes.txt").write_text("")
    assert lists_below(tmp_path)[0] == "requirements/production.txt"
    assert "notes.txt" not in lists_below(tmp_path)
    assert found(tmp_path, requirements="requirements/production.txt") == []
    [text] = found(tmp_path, requirements="requirements/prod.txt")
    assert "apps.shop.requirements" in text and "Did you mean requirements/production.txt?" in text
    [text] = found(tmp_path, requirements="../other.txt")
    assert "is not a file in source" in text


def test_extras_and_groups_must_exist(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("flask\n")
    [text] = found(tmp_path, extras=["production"])
    assert "needs a pyproject.toml" in text and "`requirements`" in text
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\n[project.optional-dependencies]\nproduction = []\n'
        "[dependency-groups]\njobs = []\n"
    )
    assert found(tmp_path, extras=["Production"], groups=["jobs"]) == []
    [text] = found(tmp_path, extras=["prod"])
    assert "names prod" in text and "It has production" in text
    [text] = found(tmp_path, extras=["jobs"])
    assert "write `groups: [jobs]`" in text
    [text] = found(tmp_path, groups=["a b"])[:1]
    assert "is not the name of one of the project's groups" in text


def test_keys_of_the_recipe_have_no_effect_on_a_dockerfile(tmp_path: Path) -> None:
    entry = {"dockerfile": "Dockerfile", "port": 80, "python": "3.11", "build": "make"}
    texts = found(tmp_path, **entry)
    assert [text.split(" ")[1] for text in texts] == ["apps.shop.python", "apps.shop.build"]
    assert all(text.startswith("warning") for text in texts)


OUTSIDE = [
    ("requirements.txt", "flask\n-e ../core\n"),
    ("requirements.txt", "../core[x] ; python_version > '3'\n"),
    ("pyproject.toml", '[tool.uv.sources]\ncore = {path = "../core/"}\n'),
    ("pyproject.toml", '[tool.poetry.dependencies]\ncore = {path = "../core"}\n'),
    (
        "pyproject.toml",
        '[project]\ndependencies = ["core @ file:///${PROJECT_ROOT}/../core"]\n',
    ),
]


@pytest.mark.parametrize(("name", "text"), OUTSIDE)
def test_what_lies_outside_of_the_source_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / name).write_text(text)
    [finding] = found(tmp_path, folder="web")
    assert "apps.shop.source: needs ../core, which" in finding and "and `folder` to" in finding
    # Negative control: the same in the repository around the folder.
    (tmp_path / "core").mkdir()
    assert found(tmp_path, folder="web") == []
    assert "../core" in found(tmp_path / "web")[0]


def test_a_member_of_a_workspace_is_not_deployed_alone(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/pyproject.toml").write_text("[tool.uv.sources]\ncore = {workspace = true}\n")
    [finding] = found(tmp_path, folder="web")
    assert "apps.shop.folder: needs the workspace above it" in finding
    (tmp_path / "web/uv.lock").write_text("")
    assert found(tmp_path, folder="web") == []


@pytest.mark.parametrize("text", ["tool = 1", "[tool]\nuv = []", "project = []", "["])
def test_a_malformed_project_names_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert not any("which the source" in finding for finding in found(tmp_path))


def test_a_dockerfile_has_no_ssh_agent(tmp_path: Path) -> None:
    recipe = tmp_path / "Dockerfile"
    recipe.write_text("RUN --mount=type=ssh,id=default pip install x\n")
    [text] = found(tmp_path, dockerfile="Dockerfile", port=80)
    assert text.startswith("warning") and "--mount=type=secret,id=NAME" in text
    recipe.write_text("RUN --mount=type=secret,id=ssh pip install x\n")
    assert found(tmp_path, dockerfile="Dockerfile", port=80) == []


# The build command


def shop(**keys: Any) -> App:
    entry = {"name": "shop", "source": "/s", "domains": ["shop.dev"], "module": "shop:app"}
    return App.from_entry({**entry, **keys})


def test_an_app_without_these_keys_is_built_as_before() -> None:
    assert shop().build_arguments == {"BUILD_PACKAGES": "", "PACKAGES": ""}
    assert shop(dockerfile="Dockerfile", build="make").build_arguments == {}


@pytest.mark.parametrize(
    ("command", "node"),
    [
        ("npm ci && npm run build", True),
        ("cd web && yarn && yarn build", True),
        ("npx tailwindcss -o static/app.css", True),
        ("pybabel compile -d translations", False),
        ("flask assets build", False),
        ("cp node_modules.txt x", False),
    ],
)
def test_node_is_there_for_commands_that_name_it(command: str, node: bool) -> None:
    arguments = shop(build=command, environment={"N": 1}).build_arguments
    assert (arguments["BUILD"], arguments["CODE"]) == (command, "built")
    assert ("NODE_PACKAGES" in arguments) is node
    assert json.loads(arguments["BUILD_ENVIRONMENT"])["N"] == 1


def test_what_the_build_makes_need_not_be_in_the_source() -> None:
    assert "apps.shop.static" in shop(static="dist").source_needs
    assert "apps.shop.static" not in shop(static="dist", build="make").source_needs
    needs = shop(requirements="requirements/production.txt").source_needs
    assert needs == {"apps.shop.requirements": ["requirements/production.txt"]}


def test_the_recipe_takes_every_argument() -> None:
    recipe = (ROOT / "roles/app/files/recipe/Dockerfile").read_text()
    given = shop(
        build="npm ci", requirements="r.txt", extras=["a"], groups=["b"], environment={"A": "b"}
    ).build_arguments
    assert len(given) == 9
    assert [name for name in given if f"ARG {name}" not in recipe] == []
    assert "ARG NONE" not in recipe


def test_the_command_is_one_line(tmp_path: Path) -> None:
    assert found(tmp_path, build="npm ci && npm run build") == []
    [text] = found(tmp_path, build="npm ci\nnpm run build")
    assert "apps.shop.build" in text and "&& joins" in text


def test_what_git_keeps_at_home_is_named(tmp_path: Path) -> None:
    for name in (
        "shop/static/dist/app.js",
        "shop/static/style.css",
        "shop/static/.sass-cache/x",
        "shop/translations/de/LC_MESSAGES/messages.mo",
        "shop/translations/de/LC_MESSAGES/messages.po",
        "shop/static/uploads/a.png",
        "other/dist/x.js",
        "venv/static/x.js",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    (tmp_path / "requirements.txt").write_text("flask\n")
    assert kept_home(tmp_path) == []
    (tmp_path / ".gitignore").write_text("dist/\n*.mo\nuploads/\nvenv/\n")
    for _ in range(2):
        assert kept_home(tmp_path) == [
            "shop/static/dist/",
            "shop/static/uploads/",
            "shop/translations/de/LC_MESSAGES/messages.mo",
        ]
        git(tmp_path, "init", "--quiet")
    [text] = found(tmp_path, volumes=["/app/shop/static/uploads"])
    assert text.startswith("warning: apps.shop.source: keeps shop/static/dist/, shop/trans")
    assert "uploads" not in text.partition("`volumes`")[0].partition("Make it")[0]
    # With a build command, it is expected that they are made.
    assert found(tmp_path, build="npm ci && npm run build") == []


# Keys and secrets


@pytest.mark.parametrize(
    "text",
    [
        "git@git.example.org:me/core.git",
        "ssh://git@git.example.org/me/core",
        "ssh://git@git.example.org:2222/me/core.git",
        "git+ssh://git@Git.example.org/me/core.git",
        "https://git.example.org/me/core.git",
        "git.example.org/me/core",
        "git.example.org:me/core/",
    ],
)
def test_all_forms_of_an_address_mean_the_same(text: str) -> None:
    assert address(text) == "git.example.org/me/core"


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["git@git.example.org", "git-upload-pack '/me/core.git'"], "CORE"),
        (
            ["-o", "SendEnv=X", "-p", "22", "git@git.example.org", "git-upload-pack 'me/core'"],
            "CORE",
        ),
        (["git@git.example.org", "git-lfs-authenticate me/core.git download"], "CORE"),
        (["git@git.example.org", "git-upload-pack '/me/other.git'"], "SOURCE"),
    ],
)
def test_each_repository_gets_its_own_key(tmp_path: Path, words: list[str], key: str) -> None:
    given = keys_of({"source": "SOURCE", "ssh://git@git.example.org/me/core.git": "CORE"})
    private = tmp_path / "private"
    private.mkdir()
    command = shlex.split(write(private, given, ["-oBatchMode=yes"]))
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nwhile [ "$1" != -i ]; do shift; done; cat "$2"; stat -c %a "$2"\n')
    ssh.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [key, "600"], done.stderr


def test_the_build_gets_no_key_of_the_source() -> None:
    keys = {"source": "SOURCE", "git.example.org/me/core": "CORE"}
    made = json.loads(key_filters.build_secrets({"TOKEN": "t"}, keys))
    assert made == {
        "variables": {"TOKEN": "t"},
        "keys": {"git.example.org/me/core": "CORE"},
        "ssh": PROGRAM,
    }
    assert key_filters.build_secrets({}, KEY) == ""
    assert key_filters.deploy_keys(KEY) == {"source": KEY} and key_filters.deploy_keys("") == {}


def test_keys_are_checked_one_by_one() -> None:
    def said(keys: Any) -> list[str]:
        return [str(f) for f in check_deploy_keys(keys, "vault_deploy_keys.shop")]

    assert said(KEY) == said({"source": KEY, "git@h.example:me/core.git": KEY}) == []
    assert said(UNKNOWN) == said({"source": UNKNOWN}) == []
    [text] = said({"source": KEY, "git.example.org/me/core": "ssh-rsa AAAA"})
    assert "vault_deploy_keys.shop.git.example.org/me/core: is not a private key" in text
    [text] = said({"core": KEY})
    assert "is not the address of a repository" in text and "HOST/PATH" in text
    [text] = said(KEY.replace("abc\n-----END OPENSSH PRIVATE KEY-----\n", ""))
    assert "incomplete" in text
    [text] = said(KEY.replace("OPENSSH", "RSA").replace("abc", "Proc-Type: 4,ENCRYPTED\nabc"))
    assert "passphrase" in text
    [text] = said(["x"])
    assert "is not a private key" in text and "abc" not in text


def test_build_secrets_are_checked(tmp_path: Path) -> None:
    def said(value: Any) -> list[str]:
        return found(tmp_path, {"vault_build_secrets": value})

    assert said({"shop": {"NPM_TOKEN": "hunter2"}}) == said(UNKNOWN) == []
    assert "must be a dictionary" in said(["hunter2"])[0]
    assert "must be a dictionary" in said({"shop": "hunter2"})[0]
    assert "does not belong to any app" in said({"shp": {"A": "hunter2"}})[0]
    assert "is not text but int" in said({"shop": {"PIN": 1230}})[0]
    assert "is not a valid name" in said({"shop": {"NPM-TOKEN": "hunter2"}})[0]
    assert not [
        text
        for value in ({"shop": {"A-B": "hunter2"}},)
        for text in said(value)
        if "hunter2" in text
    ]
