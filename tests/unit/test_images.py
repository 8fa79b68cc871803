import http.server
import io
import json
import os
import re
import shutil
import socketserver
import subprocess
import sys
import tarfile
import threading
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
import yaml
from action.preflight import ActionModule
from checks.site import Site
from conftest import run_play
from image_archives import images_in

from images import archives_of, image_name, missing_images, without_digest

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles/images"
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.29", "docker.io/library/nginx:1.29"),
        ("docker.io/library/nginx:1.29", "docker.io/library/nginx:1.29"),
        ("docker.io/nginx:1.29", "docker.io/library/nginx:1.29"),
        ("nginxproxy/acme-companion:2.8", "docker.io/nginxproxy/acme-companion:2.8"),
        ("localhost:5000/nginx", "localhost:5000/nginx:latest"),
        ("registry.example.org/a/b:1", "registry.example.org/a/b:1"),
        (f"nginx:1.29@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
    ],
)
def test_names_are_compared_in_full(name: str, full: str) -> None:
    assert image_name(name) == full


def test_images_are_missing_by_tag_and_by_digest() -> None:
    found = [
        {"RepoTags": ["nginx:1.29"], "RepoDigests": [f"nginx@{DIGEST}"]},
        {"RepoTags": None, "RepoDigests": None},
    ]
    wanted = ["docker.io/nginx:1.29", f"nginx:1.30@{DIGEST}", "nginx:1.30", f"postgres@{DIGEST}"]
    assert missing_images(wanted, found) == ["nginx:1.30", f"postgres@{DIGEST}"]


def test_a_digest_is_dropped_and_a_port_is_not() -> None:
    assert without_digest(f"localhost:5000/nginx:1.29@{DIGEST}") == "localhost:5000/nginx:1.29"


def save(path: Path, names: list[str] | None, mode: str = "w") -> None:
    content = json.dumps([{"Config": "c.json", "RepoTags": names, "Layers": []}]).encode()
    with tarfile.open(path, mode) as tar:
        info = tarfile.TarInfo("manifest.json")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def test_archives_are_read_whatever_their_compression(tmp_path: Path) -> None:
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        save(tmp_path / "archive", ["nginx:1.29", "a/b:1"], mode)
        assert images_in(tmp_path / "archive") == ["nginx:1.29", "a/b:1"]


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a tarball")
    assert images_in(file) == []
    file.write_bytes(b"")
    assert images_in(file) == []
    with tarfile.open(file, "w") as tar:
        tar.addfile(tarfile.TarInfo("other"))
    assert images_in(file) == []
    save(file, None)
    assert images_in(file) == []


def test_each_wanted_image_finds_its_archive() -> None:
    archives = {"/a.tar": ["nginx:1.29", "postgres:17"], "/b.tar": ["localhost:5000/x:1"]}
    wanted = ["docker.io/library/nginx:1.29", "postgres:17", "localhost:5000/x:1", "redis:8"]
    assert archives_of(wanted, archives) == {
        "docker.io/library/nginx:1.29": "/a.tar",
        "postgres:17": "/a.tar",
        "localhost:5000/x:1": "/b.tar",
    }


def test_names_are_there_for_a_role_that_runs_alone_by_its_tag() -> None:
    tasks = yaml.safe_load((ROLE / "tasks/main.yml").read_text())
    (naming,) = [t for t in tasks if "images_names" in t.get("ansible.builtin.set_fact", {})]
    assert naming["tags"] == ["always"]


def debian_names(root: Path) -> dict[str, str]:
    """Return the names of the images that the role in a copy of the project would build."""
    role = root / "roles/images"
    play = {
        "vars": {"role_path": str(role)},
        "vars_files": [f"{role}/defaults/main/versions.yml", f"{role}/vars/main.yml"],
        "tasks": [{"ansible.builtin.debug": {"var": "__images_names.debian"}}],
    }
    done = run_play(root, **play)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(re.findall(r"(\w+): (flask-vps/\S+)", done.stdout))


def test_an_image_gets_a_new_tag_when_its_content_changes_and_only_then(tmp_path: Path) -> None:
    for folder in ("roles/images", "images"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    before = debian_names(tmp_path)

    # Releases are named after these two: another tag, for a comment even, releases every app anew
    # (nginx: every app with a dockerfile). Change them together with a line in CHANGELOG.md.
    assert before["python"] == "flask-vps/python:8552ff2e42c0"
    assert before["nginx"] == "flask-vps/nginx:9c6bf6cd79e9"

    for image in ("nginx-proxy", "acme-companion"):
        (tmp_path / "images" / image / "README.md").write_text("other words")
        (tmp_path / "images" / image / "tests/test_more.py").write_text("")
    assert debian_names(tmp_path) == before

    (tmp_path / "images/nginx-proxy/src/dockergen/model.py").write_text("")
    after = debian_names(tmp_path)
    changed = {image for image in before if before[image] != after[image]}
    # The companion's image is based on docker-gen's.
    assert changed == {"docker_gen", "nginx_proxy", "acme_companion"}

    versions = tmp_path / "roles/images/defaults/main/versions.yml"
    versions.write_text(re.sub(r"(images_postgres_major:) \d+", r"\1 99", versions.read_text()))
    newer = debian_names(tmp_path)
    assert {image for image in after if after[image] != newer[image]} == {"postgres"}


def test_postgres_is_built_in_the_version_that_preflight_expects() -> None:
    versions = yaml.safe_load((ROLE / "defaults/main/versions.yml").read_text())
    major = versions["images_postgres_major"]
    recipe = (ROOT / "images/postgres/Dockerfile").read_text()
    assert "postgresql-${POSTGRES_MAJOR}" in recipe
    assert str(major) not in recipe
    recipes = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__images_recipes"]
    assert "images_postgres_major" in recipes["postgres"]["args"]["POSTGRES_MAJOR"]

    def expected(**values: Any) -> int | None:
        return ActionModule._defaults(None, Site(values, {}, {}))["postgres"]

    assert expected(images_source="debian") == major
    assert expected(images_source="debian", images_postgres_major="99") == 99
    upstream = {"postgres": "postgres:98-trixie"}
    assert expected(images_source="registry", images_upstream=upstream) == 98
    assert expected(images_source="debian", postgres_image="postgres:97") == 97


@pytest.mark.parametrize("recipe", sorted((ROOT / "images").glob("*/Dockerfile")), ids=str)
def test_a_recipe_copies_what_stands_beside_it(recipe: Path) -> None:
    for words in re.findall(r"^COPY (.+)", recipe.read_text(), re.MULTILINE):
        *sources, _ = words.split()
        assert [name for name in sources if not (recipe.parent / name).exists()] == []
        if (recipe.parent / ".dockerignore").exists():
            assert {name.partition("/")[0] for name in sources} == {"src"}


class FakeEngine(http.server.BaseHTTPRequestHandler):
    """A Docker engine that records the prune requests."""

    protocol_version = "HTTP/1.1"
    pruned: list[dict[str, list[str]]] = []  # noqa: RUF012

    def answer(self) -> None:
        """Answer any request."""
        asked = urllib.parse.urlsplit(self.path)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if asked.path.endswith("/build/prune"):
            self.pruned.append(urllib.parse.parse_qs(asked.query))
        text = json.dumps({"ApiVersion": "1.44", "SpaceReclaimed": 7, "CachesDeleted": ["a"]})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Do not log."""


def test_the_build_cache_is_cut_to_its_bound(tmp_path: Path) -> None:
    path, root = str(tmp_path / "docker.sock"), ROLE.parents[1]
    play = [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "environment": {"DOCKER_HOST": f"unix://{path}"},
            "tasks": [
                {
                    "ansible.builtin.include_role": {"name": "images", "tasks_from": "cache.yml"},
                    "vars": {"images_build_cache_mb": 100},
                }
            ],
        }
    ]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    with socketserver.ThreadingUnixStreamServer(path, FakeEngine) as engine:
        engine.get_request = lambda: (engine.socket.accept()[0], ("", 0))
        threading.Thread(target=engine.serve_forever, daemon=True).start()
        program = Path(sys.executable).with_name("ansible-playbook")
        python = f"ansible_python_interpreter={sys.executable}"
        done = subprocess.run(
            [program, "-i", "localhost,", "-e", python, tmp_path / "play.yml"],
            env={**os.environ, "ANSIBLE_CONFIG": str(root / "ansible.cfg")},
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        engine.shutdown()
    assert done.returncode == 0, done.stdout
    (asked,) = FakeEngine.pruned
    assert asked["keep-storage"] == [str(100 * 2**20)]
    assert "changed=0" in done.stdout


def test_the_build_cache_is_cut_after_a_deploy_that_failed_as_well() -> None:
    playbook = yaml.safe_load((ROLE.parents[1] / "playbooks/parts/deploy.yml").read_text())
    (block,) = (
        task for task in playbook[-1]["tasks"] if task["name"] == "Deploy while holding the lock"
    )
    files = [t.get("ansible.builtin.include_role", {}).get("tasks_from") for t in block["always"]]
    # Runs after the lock is released, so that a failure here cannot keep the lock.
    assert files == [None, "cache.yml"]
