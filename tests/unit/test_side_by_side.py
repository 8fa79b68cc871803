import subprocess
import time
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts/side-by-side"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_output_is_told_apart_and_all_commands_end() -> None:
    done = run("one=echo a; sleep 0.3; echo b", "two=echo c >&2")
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == ["one | a", "one | b", "two | c"]


def test_the_first_failure_ends_the_others_and_comes_last() -> None:
    begun = time.monotonic()
    done = run("one=echo why; exit 3", "two=sh -c 'sleep 60; echo late'")
    assert time.monotonic() - begun < 30
    assert done.returncode == 3
    assert done.stdout.endswith("\none failed. It ended with:\nwhy\n\n")
    assert "late" not in done.stdout
