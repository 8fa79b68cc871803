"""An app in a folder of a repository imports what is in the repository's root."""

import tarfile
from pathlib import Path

from conftest import run_module


def repository(root: Path) -> Path:
    for name, text in {
        "admin/__init__.py": "import helpers\n",
        "admin/templates/base.html": "<p>",
        "helpers.py": "",
        "unused/__init__.py": "",
        "docs/notes.txt": "x",
        "shared.py": "",
        "examples/shop/app.py": "import os\nfrom admin import Admin\nimport shared\n",
        "examples/shop/shared.py": "",
        "examples/shop/requirements.txt": "flask",
    }.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def packed(root: Path, tmp: Path, folder: str, dockerignore: bool = True) -> set[str]:
    dest = tmp / "x.tar.gz"
    done = run_module(
        "source_archive", path=str(root), folder=folder, dest=str(dest), dockerignore=dockerignore
    )
    assert not done.get("failed"), done
    with tarfile.open(dest) as tar:
        return {member.name for member in tar if "__pycache__" not in member.name}


OWN = {"app.py", "shared.py", "requirements.txt"}


def test_modules_of_the_root_that_are_imported_are_brought(tmp_path: Path) -> None:
    root = repository(tmp_path / "repository")
    found = packed(root, tmp_path, "examples/shop")
    # Its own module of the same name stays, and what nothing imports is left out.
    assert found == OWN | {"admin/__init__.py", "admin/templates/base.html", "helpers.py"}


def test_the_digest_changes_only_with_what_is_brought(tmp_path: Path) -> None:
    root = repository(tmp_path / "repository")

    def digest() -> str:
        return run_module(
            "source_archive", path=str(root), folder="examples/shop", dockerignore=True
        )["digest"]

    before = digest()
    (root / "unused/__init__.py").write_text("changed")
    assert digest() == before
    (root / "helpers.py").write_text("changed")
    assert digest() != before


def test_packages_that_its_dependencies_name_are_brought(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    for name, text in {
        "apps/shop/app.py": "",
        "apps/shop/pyproject.toml": '[tool.uv.sources]\ncore = {path = "../../libs/core"}\n',
        "apps/shop/requirements/dev.txt": "-e ../tools\n",
        "apps/tools/setup.py": "",
        "apps/other/app.py": "",
        "libs/core/pyproject.toml": '[tool.poetry.dependencies]\nutil = {path = "../util"}\n',
        "libs/core/core/__init__.py": "",
        "libs/util/pyproject.toml": '[tool.uv.sources]\nx = {path = "../../../elsewhere"}\n',
        "libs/unused/setup.py": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    own = {"app.py", "pyproject.toml", "requirements/dev.txt"}
    core = {f".outside/2/libs/core/{name}" for name in ("pyproject.toml", "core/__init__.py")}
    assert packed(root, tmp_path, "apps/shop") == own | core | {
        ".outside/1/tools/setup.py",
        ".outside/2/libs/util/pyproject.toml",
    }
    # Negative control: they are not within the folder.
    assert packed(root / "apps/shop", tmp_path, ".") == own


def test_the_root_may_be_a_package_itself(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    app = root / "examples/shop"
    app.mkdir(parents=True)
    (app / "app.py").write_text("")
    (app / "pyproject.toml").write_text('[tool.uv.sources]\nshop = {path = "../.."}\n')
    (root / "setup.py").write_text("")
    found = packed(root, tmp_path, "examples/shop")
    assert found == {"app.py", "pyproject.toml", ".outside/2/setup.py"}


def test_a_dockerfile_of_its_own_gets_its_folder_alone(tmp_path: Path) -> None:
    root = repository(tmp_path / "repository")
    assert packed(root, tmp_path, "examples/shop", dockerignore=False) == OWN


def test_a_procfile_is_read(tmp_path: Path) -> None:
    root = repository(tmp_path / "repository")
    options = {"path": str(root), "folder": "examples/shop"}
    assert run_module("source_archive", **options)["procfile"] == ""
    (root / "examples/shop/Procfile").write_text("web: gunicorn app:app\n")
    assert run_module("source_archive", **options)["procfile"] == "web: gunicorn app:app\n"
