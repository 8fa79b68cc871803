"""What an operator reads when a task has failed."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from failures import failure_reason, unfinished_release

TASKS = Path(__file__).parents[2] / "roles/app/tasks"


def test_a_loop_names_the_items_that_failed() -> None:
    result = {
        "msg": "One or more items failed",
        "results": [
            {"msg": "done"},
            {"failed": True, "msg": "409: cannot remove"},
            {"failed": True, "msg": "409: cannot remove"},
        ],
    }
    assert failure_reason(result) == "409: cannot remove"


def test_a_command_says_its_exit_code_and_what_it_printed() -> None:
    result = {"msg": "non-zero return code", "rc": 3, "stdout": "", "stderr": "no such file\n"}
    assert failure_reason(result) == "it ended with exit code 3\nno such file"
    assert failure_reason({}) == "no reason was given"


def test_a_failure_after_the_switch_says_who_has_the_traffic() -> None:
    left = [
        {"step": "App | Let older releases stop", "reason": "409"},
        {"step": "App | Wait for the certificate", "reason": "CA said no\nfor a.test"},
    ]
    said = unfinished_release(left, "shop", "abc")
    assert said.startswith("Release abc of shop has the traffic; what is left to do:\n")
    assert '- "Let older releases stop" failed:\n  409\n' in said
    assert "  CA said no\n  for a.test\n" in said
    assert "after shop in `apps` were not deployed" in said


def test_a_failure_after_a_rollback_s_switch_does_not_ask_for_another_one() -> None:
    left = [{"step": "App | Let older releases stop", "reason": "409"}]
    said = unfinished_release(left, "shop", "abc", is_rollback=True)
    assert "run the same command again" not in said
    assert "would lead one release further back" in said


def test_what_failed_before_the_look_at_a_switch_is_said(tmp_path: Path) -> None:
    """Nginx may lead elsewhere because the step before could not have it read its files."""
    [*_, stop] = yaml.safe_load((TASKS / "failed.yml").read_text())
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {
            "__app_id": "0a",
            "__app_log": {"stdout": "", "stderr": ""},
            "__app_releases": {"live": "0b"},
            "__app_unfinished": [{"step": "Check nginx", "reason": "unknown directive"}],
            "ansible_failed_result": {"msg": "nginx does not route visitors"},
            "ansible_failed_task": {"name": "App | See that visitors get the release"},
            "app_entry": {"name": "shop"},
        },
        "tasks": [stop],
    }
    file = tmp_path / "play.yml"
    file.write_text(yaml.safe_dump([play]))
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local"]
    environment = os.environ | {"ANSIBLE_CONFIG": str(TASKS.parents[2] / "ansible.cfg")}
    done = subprocess.run(
        [*command, str(file)], env=environment, capture_output=True, text=True, check=False
    )
    said = " ".join(done.stdout.split())
    assert "nginx does not route visitors Before that: unknown directive" in said, done.stdout
    assert "Release 0b keeps the traffic." in said


def includes(file: str) -> list[tuple[str, str]]:
    """List the steps of a run, in order, and the file that each of them is done by."""
    found = []
    for task in yaml.safe_load((TASKS / file).read_text()):
        included: Any = task.get("ansible.builtin.include_tasks")
        if not included or "loop" not in task:
            continue
        render = jinja2.Environment().from_string  # noqa: S701 # it is not HTML
        steps = task["loop"]
        if isinstance(steps, str):
            # Neither a first deploy, nor one that changes nothing; and not check mode.
            text = render(steps).render(__app_releases={"live": "a"}, __app_id="b")
            steps = yaml.safe_load(text)
        found += [(step, render(included["file"]).render(__app_step=step)) for step in steps]
    return found


@pytest.mark.parametrize("run", ["main.yml", "rollback.yml"])
def test_what_fails_after_the_switch_ends_no_run_at_once(run: str) -> None:
    steps = includes(run)
    names = [step for step, _ in steps]
    after = steps[names.index("switch") + 1 :]
    # The one that takes the switch back says so itself.
    assert ("verify", "verify.yml") in after
    assert {file for step, file in after if step != "verify"} == {"finish.yml"}
    # The control: what fails before the switch ends the run.
    assert "finish.yml" not in {file for _, file in steps[: names.index("switch") + 1]}
