"""What an operator reads when a task has failed."""

from failures import deploy_report, failure_reason, unfinished_release


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
    assert said.endswith("Mend the cause and run the same command again.")


def test_a_run_lists_the_apps_that_failed_and_why() -> None:
    failures = [
        {"app": "shop", "reason": "Release abc failed\nlog\nlog", "live": False},
        {"app": "blog", "reason": "no such branch", "live": False},
    ]
    apps = [{"name": "shop"}, {"name": "blog"}, {"name": "wiki"}]
    assert deploy_report(failures, apps, "Visitors do not reach wiki.test.").splitlines() == [
        "2 of 3 apps could not be deployed:",
        "- shop: Release abc failed (the whole message is above)",
        "- blog: no such branch",
        "Visitors do not reach wiki.test.",
    ]
