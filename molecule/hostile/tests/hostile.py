"""Helpers for the tests of this scenario."""

import subprocess

from conftest import Answer, Site

PROBE = "probe.localhost"
PROBE_HTTP = "probe-http.localhost"


def run_inside(site: Site, code: str, domain: str = PROBE) -> str:
    """Let an app run Python code inside its container, and return the output."""
    answer: Answer = site.named(domain).request("/run", "POST", code)
    assert answer.status == 200, answer
    return answer.body


def run_here(*command: str) -> str:
    """Run a command on this machine and return its output, even if it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    return done.stdout + done.stderr
