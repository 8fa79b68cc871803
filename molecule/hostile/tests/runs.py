"""Runs the project's playbooks against the scenario's server."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]


def play(playbook: str, *arguments: str) -> tuple[int, str]:
    """Run one of the project's playbooks; return its exit code and its output."""
    command = ["ansible-playbook", f"playbooks/{playbook}"]
    command += [f"--inventory={path}" for path in os.environ["SITE_INVENTORIES"].split(",")]
    # Joined to one line, because the callback wraps long messages.
    settings = {"ANSIBLE_NOCOLOR": "true", "COLUMNS": "1000"}
    done = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
