"""The recipes of docs/ci.md, run with stand-ins for commands that need a network."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from action.release_lock import EXPIRY_SECONDS, HEARTBEAT_SECONDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/ci.md").read_text()
KNOWN_HOST = "203.0.113.10 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFake"
INVENTORIES = {"staging": "inventory/staging", "production": "inventory/prod"}


def blocks(language: str) -> list[str]:
    """List the page's code blocks in a language, without the indentation of a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", PAGE, re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


SOURCE, GITHUB, GITLAB = (yaml.safe_load(block) for block in blocks("yaml"))


def github_job(name: str) -> tuple[dict[str, str], str]:
    """Return a job's environment as GitHub would set it, and its script."""
    job = GITHUB["jobs"][name]
    *checkouts, deploy = job["steps"]
    paths = [step["with"]["path"] for step in checkouts]
    assert paths == ["my_app", deploy["working-directory"]]
    return {**job["env"], **deploy["env"]}, deploy["run"]


def gitlab_job(name: str) -> tuple[dict[str, str], str]:
    """Return a job's variables, and its script as the runner joins it."""
    job, base = GITLAB[name], GITLAB[".deploy"]
    assert job["extends"] == ".deploy"
    return job["variables"], "\n".join([*base["before_script"], *base["script"]])


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "ci-key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ci", "-f", str(file)]
    subprocess.run(command, check=True)
    return file


def run(tmp_path: Path, script: str, environment: dict[str, str]) -> str:
    """Run a job's script in a checkout of flask-vps, and return what Ansible received."""
    checkout = tmp_path / "home/flask-vps"
    commands = tmp_path / "bin"
    stand_ins = {
        commands / "apt-get": "",
        commands / "git": f'test "$1" = clone && mkdir -p {checkout}',
        # Makes a virtual environment whose ansible-playbook prints its arguments.
        commands / "make": 'test "$*" = venv && cp -r "$STAND_INS/venv" .venv',
        tmp_path / "venv/bin/activate": "PATH=$PWD/.venv/bin:$PATH",
        tmp_path / "venv/bin/ansible-playbook": (
            'echo "arguments: $*"; echo "source: $APP_SOURCE"; echo "folder: $PWD"\n'
            'echo "passphrase: $FLASK_VPS_VAULT_PASSPHRASE"; echo "key: $SSH_PRIVATE_KEY"\n'
            'ssh-add -l; cat ~/.ssh/known_hosts; stat -c "mode: %a" ~/.ssh'
        ),
    }
    checkout.mkdir(parents=True)
    for file, text in stand_ins.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=checkout,
        env={
            "PATH": f"{commands}:{os.environ['PATH']}",
            "HOME": str(tmp_path / "home"),
            "STAND_INS": str(tmp_path),
            **environment,
        },
        capture_output=True,
        text=True,
    )
    # Stop the agent; in a pipeline it ends with the container.
    for pid in re.findall(r"^Agent pid (\d+)$", done.stdout, re.MULTILINE):
        subprocess.run(["ssh-agent", "-k"], env={"SSH_AGENT_PID": pid}, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(output: str, inventory: str, folder: Path, source: str) -> None:
    """Check what Ansible received."""
    assert f"arguments: playbooks/deploy.yml -i {inventory} -e app=my_app\n" in output
    assert f"source: {source}\n" in output
    assert f"folder: {folder}\n" in output
    assert "passphrase: open sesame\n" in output
    # The key is in the agent only.
    assert " ci (ED25519)" in output
    assert "key: \n" in output
    assert KNOWN_HOST in output
    assert "mode: 700" in output


@pytest.mark.parametrize("job", INVENTORIES)
def test_github_deploys_with_the_secrets(tmp_path: Path, key: Path, job: str) -> None:
    environment, script = github_job(job)
    values = {
        "${{ github.workspace }}": "/srv/checkout",
        "${{ secrets.FLASK_VPS_VAULT_PASSPHRASE }}": "open sesame",
        "${{ secrets.SSH_PRIVATE_KEY }}": key.read_text().rstrip("\n"),
        "${{ secrets.SSH_KNOWN_HOSTS }}": KNOWN_HOST,
    }
    for name in environment:
        for placeholder, secret in values.items():
            environment[name] = environment[name].replace(placeholder, secret)
        assert "${{" not in environment[name]
    output = run(tmp_path, script, environment)
    check(output, INVENTORIES[job], tmp_path / "home/flask-vps", "/srv/checkout/my_app")


@pytest.mark.parametrize("job", INVENTORIES)
def test_gitlab_deploys_with_the_secrets(tmp_path: Path, key: Path, job: str) -> None:
    variables, script = gitlab_job(job)
    encoded = subprocess.run(["base64", "-w0", key], capture_output=True, text=True, check=True)
    environment = {
        **variables,
        "CI_PROJECT_DIR": "/builds/you/my_app",
        "CI_JOB_TOKEN": "token",
        "CI_SERVER_HOST": "gitlab.example.org",
        "FLASK_VPS_VAULT_PASSPHRASE": "open sesame",
        "SSH_PRIVATE_KEY": encoded.stdout,
        "SSH_KNOWN_HOSTS": KNOWN_HOST,
    }
    output = run(tmp_path, script, environment)
    check(output, INVENTORIES[job], tmp_path / "home/flask-vps", "/builds/you/my_app")


def test_production_waits_for_staging_and_no_deploy_is_cancelled_for_another() -> None:
    github = GITHUB["jobs"]
    assert github["production"]["needs"] == "staging"
    groups = [job["concurrency"] for job in github.values()]
    assert [group["cancel-in-progress"] for group in groups] == [False, False]
    assert groups[0]["group"] != groups[1]["group"]
    assert GITLAB["stages"] == ["staging", "production"]
    assert GITLAB[".deploy"]["interruptible"] is False
    assert [GITLAB[name]["resource_group"] for name in GITLAB["stages"]] == GITLAB["stages"]
    assert [GITLAB[name]["stage"] for name in GITLAB["stages"]] == GITLAB["stages"]


def test_recipes_name_what_exists() -> None:
    for name in re.findall(r"\bplaybooks/\w+\.yml\b", PAGE):
        assert (ROOT / name).is_file(), name
    for name in INVENTORIES.values():
        assert (ROOT / name / "hosts.yml").is_file(), name
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^ *(?:- )?make ([a-z-]+)", PAGE, re.MULTILINE)) <= set(targets)
    assert "FLASK_VPS_VAULT_PASSPHRASE" in (ROOT / "scripts/vault-passphrase").read_text()


def test_each_secret_is_explained_and_each_explained_one_is_used() -> None:
    explained = set(re.findall(r"^ *\| `([A-Z_]+)` \|", PAGE, re.MULTILINE))
    assert set(re.findall(r"secrets\.(\w+)", blocks("yaml")[1])) == explained
    assert set(re.findall(r"\$(SSH_\w+)", blocks("yaml")[2])) == {
        name for name in explained if name.startswith("SSH_")
    }


def test_the_page_knows_how_long_a_lock_lasts() -> None:
    text = " ".join(PAGE.split())
    assert f"renews its lock every {HEARTBEAT_SECONDS} seconds" in text
    assert f"not renewed for {EXPIRY_SECONDS // 60} minutes has expired" in text


@pytest.mark.parametrize("given", [None, "/builds/my_app"])
def test_source_comes_from_the_pipeline_or_from_the_folder_beside(
    tmp_path: Path, given: str | None
) -> None:
    inventory = tmp_path / "flask-vps/inventory/prod"
    shutil.copytree(ROOT / "inventory/prod", inventory)
    (inventory / "group_vars/all/main.yml").write_text(yaml.safe_dump({"apps": [SOURCE]}))
    environment: dict[str, Any] = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        **({"APP_SOURCE": given} if given else {}),
    }
    done = subprocess.run(
        ["ansible", "web1", "-i", str(inventory), "-m", "debug", "-a", "var=apps[0].source"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (source,) = re.findall(r"source(?:\W+)?: \"?([^\"\n]+)", done.stdout)
    assert os.path.normpath(source) == (given or str(tmp_path / "my_app"))
