"""Packages from outside of the app's folder, which the controller has put into the source."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dependencies.lists import closure, is_requirements, lines_of, local_target

# As in plugins/module_utils/source_root.py: ../../libs/core is in .outside/2/libs/core.
OUTSIDE = ".outside"
# In TOML: a path, or the address that PDM writes.
QUOTED = re.compile(r"""(["'](?:[^"']*file:///\$\{PROJECT_ROOT\}/)?)(\.\.(?:/[^"';\s]*)?)""")


def rewrite(folder: Path, name: str) -> None:
    """Let a list of dependencies name the packages where they are in the source."""
    if is_requirements(name):
        for file in closure(folder, name):
            lines = [_line(folder, line) for line in lines_of(file)]
            file.write_text("".join(f"{line}\n" for line in lines))
        return
    for file in (folder / name, folder / "pyproject.toml"):
        if file.is_file():
            text = QUOTED.sub(lambda match: match[1] + inward(match[2]), file.read_text())
            file.write_text(text)


def _line(folder: Path, line: str) -> str:
    if local_target(folder, line) is None:
        return line
    return re.sub(
        r"^((?:-e\s*|--editable[\s=]+)?)(\.\.(?:/[^\s;\[#]*)?)",
        lambda match: f"{match[1]}./{inward(match[2])}",
        line,
    )


def inward(path: str) -> str:
    """Return where the source has what a path outside of the app's folder names."""
    parts = os.path.normpath(path).split("/")
    levels = parts.count("..")
    # Without a link in between, all of them are at the beginning.
    return "/".join([OUTSIDE, str(levels), *parts[levels:]])
