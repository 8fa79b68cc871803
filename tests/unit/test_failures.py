"""What an operator reads after a failed task."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import run_play
from failures import deploy_report, failure_reason, unfinished_release

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
    assert said.endswith("Fix the cause and run the same command again.")


def test_a_run_lists_the_apps_that_failed_and_why() -> None:
    failures = [
        {"app": "shop", "reason": "Release abc failed\nlog\nlog", "live": False},
        {"app": "blog", "reason": "no such branch", "live": False},
    ]
    apps = [{"name": "shop"}, {"name": "blog"}, {"name": "wiki"}]
    assert deploy_report(failures, apps, "Visitors do not reach wiki.test.").splitlines() == [
        "2 of 3 apps could not be deployed:",
        "- shop: Release abc failed (the full message is above)",
        "- blog: no such branch",
        "Visitors do not reach wiki.test.",
    ]


def test_a_failure_after_a_rollback_s_switch_does_not_ask_for_another_one() -> None:
    left = [{"step": "App | Let older releases stop", "reason": "409"}]
    said = unfinished_release(left, "shop", "abc", is_rollback=True)
    assert "run the same command again" not in said
    assert "would go back one more release" in said


def report(folder: Path, file: str, **variables: Any) -> str:
    """Run the last task of a tasks file, which fails with a report, and return what it prints."""
    [*_, last] = yaml.safe_load((TASKS / file).read_text())
    done = run_play(folder, vars=variables, tasks=[last])
    return " ".join(done.stdout.split())


def test_what_failed_before_the_look_at_a_switch_is_said(tmp_path: Path) -> None:
    """The routes may be wrong because the step before could not reload nginx."""
    said = report(
        tmp_path,
        "deploy/report_failed.yml",
        __app_id="0a",
        __app_in_src={"stat": {"exists": False}},
        __app_log={"stdout": "", "stderr": ""},
        __app_releases={"live": "0b"},
        __app_unfinished=[{"step": "Check nginx", "reason": "unknown directive"}],
        ansible_failed_result={"msg": "nginx does not route visitors"},
        ansible_failed_task={"name": "App | Check that visitors get the release"},
        app_entry={"name": "shop"},
    )
    assert "nginx does not route visitors Before that: unknown directive" in said
    assert "Release 0b keeps the traffic." in said


@pytest.mark.parametrize(
    ("health", "said_of_it"),
    [
        ({}, False),
        ({"msg": "it did not become healthy within 60 s; its health check says: 500"}, True),
    ],
)
def test_a_restore_that_was_undone_says_whether_the_app_works(
    tmp_path: Path, health: dict[str, str], said_of_it: bool
) -> None:
    said = report(
        tmp_path,
        "restore/undo.yml",
        __app_healthy_again=health,
        __app_recovered={"interrupted": "", "lines": []},
        __app_restore_failed="shop.dump is no dump",
        __app_returned={"skipped": True},
        app_entry={"name": "shop"},
    )
    assert "shop.dump is no dump. No data were changed." in said
    sentence = "shop may not answer now: it did not become healthy within 60 s"
    assert (sentence in said) == said_of_it


def steps(file: str, noted: bool = False) -> list[tuple[str, bool]]:
    """List the tasks files of a run in order, and whether the run goes on after a failure there."""

    def walk(tasks: list[dict[str, Any]], noted: bool) -> Iterator[tuple[str, bool]]:
        for task in tasks:
            name = task.get("ansible.builtin.import_tasks")
            included = task.get("ansible.builtin.include_tasks")
            if name := name or (included or {}).get("file"):
                yield name, noted
            rescue = task.get("rescue", [])
            goes_on = any("record_failure.yml" in str(one) for one in rescue)
            yield from walk(task.get("block", []), noted or goes_on)

    return list(walk(yaml.safe_load((TASKS / file).read_text()), noted))


@pytest.mark.parametrize("files", [["deploy/release.yml", "deploy/finish.yml"], ["rollback.yml"]])
def test_what_fails_after_the_switch_ends_no_run_at_once(files: list[str]) -> None:
    found = [step for file in files for step in steps(file)]
    names = [name for name, _ in found]
    switch = names.index("deploy/switch.yml")
    # verify.yml undoes the switch and reports that; report_failures.yml is the final report.
    own = {"deploy/verify.yml", "deploy/report_failures.yml"}
    assert own <= set(names[switch:])
    assert [name for name, noted in found[switch + 1 :] if not noted and name not in own] == []
    # Negative control: a failure before the switch ends the run.
    assert not any(noted for _, noted in found[: switch + 1])


def test_a_failed_switch_is_undone_unless_the_release_is_live() -> None:
    [switch] = yaml.safe_load((TASKS / "deploy/switch.yml").read_text())
    conditions = {
        task["ansible.builtin.include_tasks"]["file"]: task["when"]
        for task in switch["rescue"]
        if "ansible.builtin.include_tasks" in task
    }
    assert conditions == {
        "deploy/record_failure.yml": "__app_switched.live == __app_id",
        "deploy/return.yml": "__app_switched.live != __app_id",
    }
    # Everything that can fail is in the block.
    assert [task.get("release", {}).get("state") for task in switch["block"]] == ["live", None]
