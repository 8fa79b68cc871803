"""The owner's files: valid content is accepted, and every error is reported with its location."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from my_flask_webpage import content
from my_flask_webpage.content import ContentError, load_content

RESOURCES = Path(content.__file__).parent / "resource"

leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("https://x.y")
)
names = (
    st.sampled_from(
        [
            "site",
            "projects",
            "images",
            "slug",
            "title",
            "period",
            "summary",
            "links",
            "url",
            "label",
        ]
    )
    | st.text()
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=20
)


def load(projects: bytes | str, images: bytes | str = '{"images": []}') -> content.Content:
    with tempfile.TemporaryDirectory() as folder:
        for name, value in (("projects.json", projects), ("images.json", images)):
            Path(folder, name).write_bytes(value if isinstance(value, bytes) else value.encode())
        return load_content(Path(folder))


def sample() -> dict:
    return json.loads((RESOURCES / "projects.json").read_text())


@given(values)
def test_any_json_is_good_or_named(value: object):
    with pytest.raises(ContentError, match=r"resource/projects\.json: "):
        load(json.dumps(value), json.dumps(value))


@given(st.binary())
def test_any_bytes_are_good_or_named(value: bytes):
    with pytest.raises(ContentError, match=r"resource/projects\.json: .*"):
        load(value)


@given(
    st.lists(st.sampled_from(["site", "projects", 0, 1, "title", "slug", "links", "url"])), values
)
@settings(max_examples=150)
def test_any_value_anywhere_is_good_or_named_with_its_place(path: list, value: object):
    """Put a value anywhere into the sample; what is accepted can be stored."""
    whole = sample()
    place: object = whole
    for step in path[:-1]:
        try:
            place = place[step]
        except (KeyError, IndexError, TypeError):
            return
    if path and isinstance(place, dict) and isinstance(path[-1], str):
        place[path[-1]] = value
    try:
        found = load(json.dumps(whole))
    except ContentError as error:
        assert all(line.startswith("resource/projects.json: $") for line in error.problems)
    else:
        for project in found.projects:
            assert len(project["title"]) <= 120
            assert not content.UNSTORABLE.search(json.dumps(project, ensure_ascii=False))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is nested too deeply"),
        (b"\xff\xfe{}", "is not valid UTF-8 at byte 0"),
        ('{"a": 1, "a": 2}', "duplicate keys in one object: a"),
        ("NaN", "$: nan is not of type 'object'"),
        ("{}", "$: 'site' is a required property"),
    ],
)
def test_what_is_no_content_is_said_plainly(text: str | bytes, complaint: str):
    with pytest.raises(ContentError) as caught:
        load(text)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("slug", "With Spaces"),
        ("slug", "line\n"),
        ("slug", "../up"),
        ("title", "nul \x00"),
        ("title", "half \ud800"),
        ("title", "x" * 121),
        ("links", [{"label": "x", "url": "javascript:alert(1)"}]),
        ("links", [{"label": "x", "url": "https://x.y\n"}]),
    ],
)
def test_values_that_cannot_be_shown_or_stored_are_refused(key: str, value: object):
    whole = sample()
    whole["projects"][1][key] = value
    with pytest.raises(ContentError, match=rf"\$\.projects\[1\]\.{key}"):
        load(json.dumps(whole))


def test_files_of_windows_editors_are_read():
    text = json.dumps(sample())
    assert load(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()).projects


def test_shipped_files_are_good_and_small():
    found = load_content(RESOURCES)
    assert len(found.projects) == 6
    assert sum(file.stat().st_size for file in RESOURCES.rglob("*")) < 1_500_000


def test_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ContentError) as caught:
        load_content(tmp_path)
    assert len(caught.value.problems) == 2
    assert "resource/images.json: cannot be read: No such file or directory" in str(caught.value)
