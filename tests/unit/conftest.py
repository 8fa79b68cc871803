"""Lets tests import Ansible plugins as plain modules."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ansible.module_utils
import yaml

PLUGINS = Path(__file__).parents[2] / "plugins"
sys.path[:0] = [str(PLUGINS), str(PLUGINS / "filter"), str(PLUGINS / "modules")]
# Ansible makes our module_utils part of this package.
ansible.module_utils.__path__.append(str(PLUGINS / "module_utils"))


def run_module(name: str, **options: Any) -> dict[str, Any]:
    """Run a module of the project as Ansible would, and return its result."""
    code = (
        "import ansible.module_utils, runpy\n"
        f"ansible.module_utils.__path__.append({str(PLUGINS / 'module_utils')!r})\n"
        f"runpy.run_path({str(PLUGINS / 'modules' / name)!r} + '.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": options}),
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout) if done.stdout else {"failed": True, "msg": done.stderr}


def run_play(folder: Path, **play: Any) -> subprocess.CompletedProcess[str]:
    """Run a play on this machine, with the project's configuration."""
    playbook = folder / "play.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, **play}]))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local"]
    environment = os.environ | {"ANSIBLE_CONFIG": str(PLUGINS.parent / "ansible.cfg")}
    return subprocess.run(
        [*command, str(playbook)], env=environment, capture_output=True, text=True, check=False
    )
