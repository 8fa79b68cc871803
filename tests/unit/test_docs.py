"""What the docs quote is what the code says."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/troubleshooting.md"
WORDS = 3


def spoken() -> str:
    """Join what the project's own files say, on one line."""
    patterns = ("plugins/**/*.py", "roles/**/*", "scripts/*", "playbooks/**/*.yml")
    files = [f for p in patterns for f in ROOT.glob(p) if f.is_file() and f.suffix != ".md"]
    text = "\n".join(file.read_text(errors="replace") for file in files)
    # A sentence may go on in the next string of the source.
    return " ".join(re.sub(r'"\s*\n\s*f?"', "", text).split())


def messages(page: str) -> list[str]:
    """List the messages that a page explains: in tables, and in bold."""
    found = re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE)
    found += re.findall(r"^\*\*`(.*?)`\*\*", page, re.MULTILINE | re.DOTALL)
    return [" ".join(message.split()) for message in found]


def is_said(message: str, corpus: str) -> bool:
    """Tell whether each run of plain words holds some of the project's; all else may be a value."""
    for run in re.findall(r"[A-Za-z]+(?: [A-Za-z]+){2,}", message):
        words = run.split()
        rows = (" ".join(words[n : n + WORDS]) for n in range(len(words) - WORDS + 1))
        if not any(row in corpus for row in rows):
            return False
    return True


def test_the_messages_that_are_explained_are_those_that_are_said() -> None:
    corpus, quoted = spoken(), messages(PAGE.read_text())
    assert len(quoted) > 40
    assert [message for message in quoted if not is_said(message, corpus)] == []
    # The negative control.
    assert not is_said("The edge is not set up on this server. It has run out of coffee", corpus)


def test_each_threat_names_tests_that_exist() -> None:
    folders = {"": "tests/unit/", "hostile/": "molecule/hostile/tests/", "app/tests/": "app/tests/"}
    page = (ROOT / "docs/security.md").read_text().partition("## Networks")[0]
    rows = re.findall(r"^\| (?!threat|---)(.*) \|$", page, re.MULTILINE)
    assert len(rows) > 60
    for row in rows:
        threat, _, shown = row.split(" | ")
        file, found = None, 0
        for name in re.findall(r"`([^`]*)`", shown):
            folder, where, test = re.fullmatch(r"(.*/)?(\w+[.]py)?::(test_\w+)", name).groups()
            if where:
                file = ROOT / folders[folder or ""] / where
            assert f"def {test}(" in file.read_text(), (threat, name)
            found += 1
        assert found, threat
