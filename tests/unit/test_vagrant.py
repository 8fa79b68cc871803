"""The virtual machine: its inventory, and how the role dev runs Vagrant."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
INVENTORY = ROOT / "inventory/vagrant"
SETTINGS = yaml.safe_load((INVENTORY / "group_vars/all/main.yml").read_text())
# Responds like Vagrant, and logs its arguments.
VAGRANT = """\
#!/bin/sh
echo "$*" >> "$0.log"
case $1 in
  ssh-config) printf 'Host %s\\n  HostName 127.0.0.1\\n  User vagrant\\n' "$2" ;;
  up) [ ! -e "$0.up" ] || echo "==> flask-vps: Machine already running"; touch "$0.up" ;;
esac
"""


def run(
    playbook: str, *options: str, path: Path | str = "/usr/bin"
) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", INVENTORY, *options]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "PATH": f"{path}:{os.environ['PATH']}",
    }
    return subprocess.run(
        [*command, ROOT / playbook],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=ROOT,
    )


@pytest.fixture
def vagrant(tmp_path: Path) -> Path:
    program = tmp_path / "bin/vagrant"
    program.parent.mkdir()
    program.write_text(VAGRANT)
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("playbook", ["site.yml", "playbooks/dev.yml"])
def test_playbooks_accept_the_inventory(playbook: str) -> None:
    done = run(playbook, "--syntax-check")
    assert done.returncode == 0, done.stderr


def test_ports_meet_those_of_no_other_throwaway_server() -> None:
    local = yaml.safe_load((ROOT / "inventory/local/group_vars/all/main.yml").read_text())
    names = ["dev_ssh_port", "dev_http_port", "dev_https_port"]
    assert {SETTINGS[name] for name in names} & {local[name] for name in names} == set()
    # The Vagrantfile reads these as plain numbers.
    assert all(isinstance(SETTINGS[name], int) for name in names)


def test_machine_is_booted_once_and_ssh_told_how_to_reach_it(tmp_path: Path, vagrant: Path) -> None:
    folder = tmp_path / "dev"
    options = ["-e", json.dumps({"dev_dir": str(folder)})]
    first = run("playbooks/dev.yml", *options, path=vagrant.parent)
    assert first.returncode == 0, first.stdout
    assert (folder / "ssh_config").read_text().startswith("Host flask-vps\n")
    # Docker is not needed on this machine.
    assert "Docker engine" not in first.stdout

    second = run("playbooks/dev.yml", *options, path=vagrant.parent)
    assert "changed=0" in second.stdout, second.stdout

    last = run("playbooks/dev.yml", *options, "-e", "dev_state=absent", path=vagrant.parent)
    assert last.returncode == 0, last.stdout
    assert not folder.exists()
    asked = (vagrant.parent / "vagrant.log").read_text().splitlines()
    once = ["--version", "up", "ssh-config flask-vps"]
    assert asked == [*once, *once, "destroy --force"]


def test_missing_vagrant_is_named_with_what_to_install(tmp_path: Path, vagrant: Path) -> None:
    vagrant.write_text("#!/bin/sh\nexit 127\n")
    wanted = json.dumps({"dev_dir": str(tmp_path / "dev")})
    done = run("playbooks/dev.yml", "-e", wanted, path=vagrant.parent)
    assert done.returncode != 0
    assert "this machine has no Vagrant" in done.stdout
    assert not (tmp_path / "dev").exists()


def test_release_of_another_distribution_is_refused(tmp_path: Path) -> None:
    wrong = {"dev_dir": str(tmp_path), "dev_distribution": "ubuntu", "dev_release": "bookworm"}
    done = run("playbooks/dev.yml", "-e", json.dumps(wrong))
    assert "dev_release bookworm is not a release of ubuntu" in done.stdout
