from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from apt import apt_sources_for
from content import content_digest

DEB822 = """\
Types: deb deb-src
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
"""


def test_deb822_sources_move_to_the_wanted_release() -> None:
    assert apt_sources_for(DEB822, "bookworm", "trixie").splitlines() == [
        "deb http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/security trixie-security main",
    ]


def test_one_line_sources_move_to_the_wanted_release() -> None:
    text = (
        "# deb http://off.example/debian bookworm main\n"
        "deb [arch=amd64] http://mirror.example/debian bookworm main non-free\n"
        "deb-src http://mirror.example/debian bookworm main\n"
    )
    assert apt_sources_for(text, "bookworm", "trixie") == (
        "deb http://mirror.example/debian trixie main\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "deb [signed-by=/usr/share/keyrings/other.gpg] https://other.example bookworm main\n",
        "deb https://other.example/apt bookworm-other main\n",
        "deb https://other.example/linux/debian bookworm stable\n",
        "Types: deb\nURIs: https://o\nSuites: bookworm\nComponents: main\nEnabled: no\n",
        "Types: deb\nURIs: https://o\nSuites: bookworm\nComponents: main\nSigned-By: /o.gpg\n",
        "",
    ],
)
def test_archives_of_others_are_left_out(text: str) -> None:
    assert apt_sources_for(text, "bookworm", "trixie") == ""


def test_digest_follows_content_names_and_modes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    seen = {content_digest([str(tmp_path)])}
    (tmp_path / "a").write_text("2")
    seen.add(content_digest([str(tmp_path)]))
    (tmp_path / "a").chmod(0o755)
    seen.add(content_digest([str(tmp_path)]))
    (tmp_path / "a").rename(tmp_path / "b")
    seen.add(content_digest([str(tmp_path)]))
    seen.add(content_digest([str(tmp_path), "text"]))
    assert len(seen) == 5
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "b.pyc").write_text("")
    assert content_digest([str(tmp_path), "text"]) in seen


def test_digest_keeps_parts_apart() -> None:
    assert content_digest(["ab", "c"]) != content_digest(["a", "bc"])


def test_digest_of_a_missing_path_is_an_error() -> None:
    with pytest.raises(AnsibleFilterError, match="does not exist"):
        content_digest(["/nowhere/at/all"])
