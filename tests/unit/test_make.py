"""The parallel runs of `make test`, with fakes for the programs that it calls."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKS = ("ansible-lint", "hadolint", "pytest", "ruff", "shellcheck", "yamllint")
# Called as: molecule ACTION -s SCENARIO
MOLECULE = """\
#!/bin/sh
echo "$1 $3 begins" >> log.txt
[ "$1" != test ] || echo "INFO $3 > converge: Executing" >&2
echo "$1 $3, first line"
sleep 0.1
echo "$1 $3, last line"
echo "$1 $3 ends" >> log.txt
if [ "$1 $3" = "test $BROKEN" ]; then
    echo "[ERROR]: Task failed: the reason"
    echo "fatal: [site]: no space left"
    echo "go on"
    exit 1
fi
echo "fatal: [site]: as expected"
echo "Molecule executed 1 scenario (1 successful)"
"""


class Project:
    """A folder with the project's Makefile."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copyfile(ROOT / "Makefile", root / "Makefile")
        programs = [f".venv/bin/{name}" for name in CHECKS]
        scripts = ("bootstrap", "test-app", "test-programs", "test-vagrant")
        for name in (*programs, *(f"scripts/{name}" for name in scripts)):
            self.write(name, f"#!/bin/sh\necho '{Path(name).name} runs'\n")
        self.write(".venv/bin/git", "#!/bin/sh\n")
        self.write(".venv/bin/ansible-playbook", "#!/bin/sh\necho booted >> log.txt\n")
        self.write(".venv/bin/molecule", MOLECULE)
        self.write("pdm.lock", "")
        self.write(".venv/.locked", "")

    def write(self, name: str, text: str) -> None:
        """Write a program."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    def make(self, *arguments: str, broken: str = "") -> subprocess.Popen[str]:
        """Start make; the scenario `broken` fails."""
        return subprocess.Popen(
            ["make", *arguments],
            cwd=self.root,
            env={**os.environ, "BROKEN": broken},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def log(self) -> list[str]:
        """List the beginning and the end of each call of Molecule."""
        return (self.root / "log.txt").read_text().splitlines()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_each_output_is_in_one_piece(project: Project) -> None:
    make = project.make("test")
    output, _ = make.communicate()
    assert make.returncode == 0, output
    lines = [line for line in output.splitlines() if "Executing" not in line]
    for first in [line for line in lines if line.endswith(", first line")]:
        last = first.replace("first", "last")
        assert lines[lines.index(first) + 1] == last
    # Docker and the servers' images are prepared first.
    assert project.log()[0] == "booted"
    ran = [line.split()[1] for line in project.log() if line.startswith("test ")]
    assert len(set(ran)) == 12
    # They did run in parallel: a scenario began while another one was running.
    begins = [line.endswith("begins") for line in project.log()]
    assert any(one and two for one, two in itertools.pairwise(begins))
    assert {"test-app runs", "test-programs runs", "test-vagrant runs", "ansible-lint runs"} <= set(
        lines
    )


def test_a_step_of_molecule_is_printed_when_it_begins(project: Project) -> None:
    make = project.make("test-molecule")
    for line in make.stdout or ():
        if "default > converge: Executing" in line:
            break
    assert "test default ends" not in project.log()
    make.communicate()


def test_a_failed_scenario_fails_the_run_whose_servers_are_removed(project: Project) -> None:
    make = project.make("test", broken="browser")
    output, _ = make.communicate()
    assert make.returncode != 0
    assert "molecule-browser] Error 1" in output
    # The next scenario on that server does not start; those that do not need it do.
    assert "test hostile begins" not in project.log()
    assert {"test chaos ends", "test apps ends", "test engine ends"} <= set(project.log())
    _, _, failures = output.partition("What failed:\n")
    assert "Task failed: the reason" in failures
    assert "no space left" in failures
    assert "as expected" not in failures
    assert "molecule-browser] Error 1" in failures
    assert "go on" not in failures
    assert {"destroy default ends", "destroy deploy ends"} <= set(project.log())


def test_a_quick_test_needs_no_server(project: Project) -> None:
    make = project.make("test-quick")
    output, _ = make.communicate()
    assert make.returncode == 0
    assert {"pytest runs", "test-app runs", "ansible-lint runs"} <= set(output.splitlines())
    assert not (project.root / "log.txt").exists()


def test_a_dry_run_runs_nothing(project: Project) -> None:
    make = project.make("--dry-run", "test")
    output, _ = make.communicate()
    assert make.returncode == 0
    assert "--output-sync" in output
    assert not (project.root / "log.txt").exists()
