"""The quotes, links and lists of the docs match the code."""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/troubleshooting.md"
# Stand for a value in a message of the code, and for an omission in the docs.
VALUE, LEFT_OUT = "\0", "…"
# A part of a sentence counts as a match from this number of words.
WORDS = 3
# A value of up to this number of words may be text itself, such as a size with its unit.
PART = 4
# The end of a sentence in a message.
END = re.compile(r"(?<=[.?:])\s+")
DOCUMENTATION = ("DOCUMENTATION", "EXAMPLES", "RETURN")
Sentence = tuple[str, ...]


def literals_of_python(text: str) -> Iterator[str]:
    """List the strings of a program without its documentation; VALUE stands for a value."""
    tree = ast.parse(text)
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) or (
            isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in DOCUMENTATION
        ):
            skipped.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            texts = (p.value if isinstance(p, ast.Constant) else VALUE for p in node.values)
            yield "".join(map(str, texts))
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in skipped:
            yield re.sub(r"\{\w*\}", VALUE, node.value)


def literals_of_yaml(node: Any) -> Iterator[str]:
    """List the strings of tasks, including those in their expressions."""
    if isinstance(node, dict | list):
        for item in node.values() if isinstance(node, dict) else node:
            yield from literals_of_yaml(item)
    elif isinstance(node, str):
        for expression in re.findall(r"\{\{.*?\}\}|\{%.*?%\}", node, re.DOTALL):
            joined = re.sub(r"'\s*~\s*[\w.]+\s*~\s*'", VALUE, expression)
            yield from re.findall(r"'([^']*)'", joined)
        for part in re.split(r"\{%.*?%\}", node, flags=re.DOTALL):
            yield re.sub(r"\{\{.*?\}\}", VALUE, part, flags=re.DOTALL)


def literals() -> Iterator[str]:
    """List all texts in the project's files that may be part of a message."""
    for pattern in ("plugins/**/*.py", "roles/*/files/**/*", "scripts/*"):
        for file in filter(Path.is_file, ROOT.glob(pattern)):
            yield from literals_of_program(file)
    for file in [*ROOT.glob("roles/*/[!m]*/**/*.yml"), *ROOT.glob("playbooks/**/*.yml")]:
        yield from literals_of_yaml(yaml.safe_load(file.read_text()))


def literals_of_program(file: Path) -> Iterator[str]:
    """List the strings of a Python program, or the quoted strings of any other program."""
    text = file.read_text(errors="replace")
    if file.suffix == ".py" or re.match("#!.*python", text):
        yield from literals_of_python(text)
    else:
        for quoted in re.findall(r'"([^"]*)"', text):
            yield re.sub(r"\$\{?\w+\}?|\$\(.*?\)", VALUE, quoted)


def words_of(text: str) -> Sentence:
    """Split a text into words without punctuation."""
    text = re.sub(r"'[^']* [^']*'", lambda quoted: quoted[0].replace(" ", "_"), text)
    text = text.replace("`", "")
    words = (word.strip(".,:;?!()[]{}\"'") for word in text.split())
    return tuple(word for word in words if word)


class Said:
    """The sentences of the project's messages."""

    def __init__(self, texts: Iterable[str]) -> None:
        texts = (text.replace("...", LEFT_OUT) for text in texts)
        found = {words_of(sentence) for text in texts for sentence in END.split(text)}
        # With the number of words that are not values.
        counted = [(sum(bool(re.search(r"[a-z]", w, re.I)) for w in s), s) for s in found]
        self.sentences = [s for count, s in counted if count > 1]
        # Short texts that say where something is wrong, such as the port of a server.
        self.places = [s for count, s in counted if count == 1 and len(s) > 1]
        self.is_part = cache(self._is_part)

    def lacks(self, message: str) -> list[str]:
        """List the sentences of a message that the code does not have."""
        message = re.sub(r" = ('[^']*'|\d+)(?=:)", "", message.replace("...", LEFT_OUT))
        return [sentence for sentence in END.split(message) if not self._has(sentence)]

    def _has(self, sentence: str) -> bool:
        words = words_of(sentence)
        if len(words) < 2 or set(words) == {LEFT_OUT}:
            return True
        known = self.sentences + (self.places if sentence.endswith(":") else [])
        return any(self._matches(words, one) for one in known)

    def _is_part(self, words: Sentence) -> bool:
        return any(self._matches(words, one, True) for one in self.sentences + self.places)

    def _matches(
        self,
        said: Sentence,
        known: Sentence,
        is_part: bool = False,
        same: int = 0,
        cut: bool = False,
    ) -> bool:
        """
        Tell whether a sentence of the docs is one of the code's.

        Parameters
        ----------
        said : tuple of str
            Words of the docs, among which LEFT_OUT stands for any words of the code.
        known : tuple of str
            Words of the code, among which VALUE stands for one word or for another sentence.
        is_part : bool, optional
            Whether this is such another sentence.
        same, cut
            How many words were the same before, and whether words were left out.
        """
        if not said or not known:
            left = set(said) - {LEFT_OUT} | set(known) - {VALUE}
            return not left and (same >= WORDS or not cut)
        if said[0] == LEFT_OUT:
            rests = [
                (known[n:], cut or not set(known[:n]) <= {VALUE}) for n in range(len(known) + 1)
            ]
            return any(self._matches(said[1:], rest, is_part, same, cut) for rest, cut in rests)
        if VALUE in known[0]:
            pattern = r"\S*".join(map(re.escape, known[0].split(VALUE)))
            ends = [1] if re.fullmatch(pattern, said[0]) else []
            if known[0] == VALUE and not is_part:
                ends += [n for n in range(2, min(len(said), PART) + 1) if self.is_part(said[:n])]
            return any(self._matches(said[n:], known[1:], is_part, same, cut) for n in ends)
        return said[0] == known[0] and self._matches(said[1:], known[1:], is_part, same + 1, cut)


def messages(page: str) -> list[str]:
    """List the messages that a page explains: in tables, and in bold."""
    found = re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE)
    found += re.findall(r"^\*\*`(.*?)`\*\*", page, re.MULTILINE | re.DOTALL)
    return [" ".join(message.split()) for message in found]


@pytest.fixture(scope="module")
def said() -> Said:
    return Said(literals())


def test_the_messages_that_are_explained_are_those_that_are_said(said: Said) -> None:
    quoted = messages(PAGE.read_text())
    assert len(quoted) > 40
    assert {message: said.lacks(message) for message in quoted if said.lacks(message)} == {}


@pytest.mark.parametrize(
    "message",
    [
        "The edge is not set up on this server. It has run out of coffee",
        "The edge is set up on this server. Run site.yml, or playbooks/edge.yml first.",
        "web1: port 80: is closed by the firewall",
        "web1: Docker: comes from a snap",
        "apps.shop.domains = 'shop': is not a name that the server knows",
        "Release 1 of shop has lost the traffic",
        "The restore was not confirmed. Without a terminal, confirm it with -e yes=false.",
        "The lock is held by another run of this project.",
        "No other release was ever healthy",
    ],
)
def test_an_invented_message_is_found_out(message: str, said: Said) -> None:
    assert said.lacks(message)


def test_a_message_with_another_word_is_found_out(said: Said) -> None:
    unnoticed = words = 0
    for message in messages(PAGE.read_text())[::3]:
        for found in re.finditer(r"(?<= )[a-z]{3,}(?=[.,:;]? )", message):
            words += 1
            unnoticed += not said.lacks(message[: found.start()] + "tea" + message[found.end() :])
    # Some words are examples of values, so a change of them goes unnoticed.
    assert words > 100
    assert unnoticed < words * 0.05


def anchors(page: Path) -> set[str]:
    """List the anchors of a page, as GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/README.md")]
    links = [
        (page, text, *link.partition("#")[::2])
        for page in [*pages, ROOT / "app/README.md"]
        for text, link in re.findall(r"\[([^]]*)\]\(([^)]+)\)", page.read_text())
        if not link.startswith("https://")
    ]
    assert len(links) > 30
    for page, text, path, anchor in links:
        target = page.parent / path if path else page
        assert target.exists(), (page, path)
        assert not anchor or anchor in anchors(target), (page, path, anchor)
        # A link text that is a file name names the link's target.
        assert not text.endswith(".md") or Path(text).name == target.name, (page, text)


def test_playbooks_targets_and_tests_that_docs_name_exist() -> None:
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md")]
    text = "\n".join(page.read_text() for page in pages)
    playbooks = set(re.findall(r"playbooks/[\w/]+\.yml", text))
    assert len(playbooks) > 5
    assert {name for name in playbooks if not (ROOT / name).exists()} == set()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= set(targets)
    folders = [ROOT / name for name in ("app/tests", "images", "molecule", "tests")]
    tests = {file.name for folder in folders for file in folder.rglob("test_*.py")}
    assert set(re.findall(r"\btest_\w+\.py", text)) <= tests


def test_the_readme_maps_what_there_is() -> None:
    readme = (ROOT / "README.md").read_text()
    house = readme.partition("## Map of the house")[2].partition("```")[2].partition("```")[0]
    rows = dict(re.findall(r"^(\S+/?) +(.*(?:\n +.*)*)", house, re.MULTILINE))
    site = yaml.safe_load((ROOT / "site.yml").read_text())
    verbs = [Path(play["ansible.builtin.import_playbook"]).stem for play in site]
    assert rows["site.yml"].partition(": ")[2] == ", ".join(verbs)
    roles = sorted(role.name for role in (ROOT / "roles").iterdir())
    assert sorted(rows["roles/"].partition("(")[0].split()) == roles
    pages = sorted(page.stem for page in (ROOT / "docs").glob("*.md"))
    assert sorted(re.findall(r"\w+", rows["docs/"])) == pages
    scenarios = {file.parent.name for file in ROOT.glob("molecule/*/molecule.yml")}
    assert set(re.findall(r"(\w+)(?=[,:] )", rows["molecule/"])) >= scenarios


def test_each_threat_names_tests_that_exist() -> None:
    folders = {"": "tests/unit/", "hostile/": "molecule/hostile/tests/", "app/tests/": "app/tests/"}
    folders["apps/"] = "molecule/apps/tests/"
    folders |= {f"{name}/": f"images/{name}/tests/" for name in ("acme-companion", "nginx-proxy")}
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
