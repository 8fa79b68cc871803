"""What the tests of this scenario share."""

import subprocess

from conftest import Answer, Site

PROBE = "probe.localhost"
PROBE_HTTP = "probe-http.localhost"


def run_inside(site: Site, code: str, domain: str = PROBE) -> str:
    """Run Python code inside an app's container, by the app itself, and return what it prints."""
    answer: Answer = site.named(domain).request("/run", "POST", code)
    assert answer.status == 200, answer
    return answer.body


def run_here(*command: str) -> str:
    """Run a command on this machine and return what it prints, whatever its exit code."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    return done.stdout + done.stderr
