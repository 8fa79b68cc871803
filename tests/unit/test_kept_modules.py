"""Modules are packed once, and anew when they change."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CALLBACK = Path(__file__).parents[2] / "plugins/callback/kept_modules.py"
MODULE = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule

AnsibleModule(argument_spec={{}}).exit_json(msg="{0}")
"""


class Project:
    """A project with the callback and a module that says something."""

    def __init__(self, root: Path) -> None:
        self.root, self.module = root, root / "plugins/modules/speak.py"
        for file in (self.module, root / "plugins/callback" / CALLBACK.name):
            file.parent.mkdir(parents=True)
        shutil.copyfile(CALLBACK, root / "plugins/callback" / CALLBACK.name)
        self.module.write_text(MODULE.format("first"))

    def run(self) -> str:
        """Run the module and return what Ansible prints."""
        environment = {
            **os.environ,
            "ANSIBLE_CALLBACK_PLUGINS": str(self.root / "plugins/callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "kept_modules",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_LIBRARY": str(self.module.parent),
            "ANSIBLE_LOAD_CALLBACK_PLUGINS": "true",
            "ANSIBLE_LOCAL_TEMP": str(self.root / "tmp"),
        }
        command = ["ansible", "localhost", "--inventory=localhost,", "--connection=local", "-m"]
        done = subprocess.run(
            [*command, "speak"], env=environment, cwd=self.root, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def packed(self) -> list[Path]:
        """List what is kept of the module."""
        return sorted(self.root.glob(".cache/modules/*/*speak*-none"))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_module_is_packed_once(project: Project) -> None:
    assert "first" in project.run()
    (packed,) = project.packed()
    before = packed.stat()
    assert "first" in project.run()
    assert project.packed() == [packed]
    assert packed.stat().st_mtime_ns == before.st_mtime_ns
    # The end of a run takes its own folder away, and not what the link in it leads to.
    assert list((project.root / "tmp").iterdir()) == []


def test_a_module_that_changed_is_packed_anew(project: Project) -> None:
    project.run()
    project.module.write_text(MODULE.format("other"))
    assert "other" in project.run()
    assert len(project.packed()) == 2


def test_a_disk_that_is_read_only_does_no_harm(project: Project) -> None:
    # In the folder's place is a file, as root may write everywhere.
    (project.root / ".cache").write_text("")
    assert "first" in project.run()
