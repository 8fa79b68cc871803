"""
Write each role's README, and the keys of an app in docs/inventory.md, from the argument specs.

``--check`` only lists the stale ones.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
ROLES = ROOT / "roles"
INVENTORY = ROOT / "docs/inventory.md"
# The table of keys is written between these two lines of docs/inventory.md.
BEGIN = "<!-- Written by `make docs` from roles/app/meta/argument_specs.yml. -->\n"
END = "<!-- End of what is written. -->\n"


def render(role: Path) -> str:
    """
    Render a role's README.

    Parameters
    ----------
    role : pathlib.Path
        The role's folder.

    Returns
    -------
    str
        Markdown.
    """
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    files = [*role.glob("defaults/main.yml"), *sorted(role.glob("defaults/main/*.yml"))]
    defaults = {n: v for file in files for n, v in yaml.safe_load(file.read_text()).items()}
    lines = [
        f"# {role.name}",
        "",
        "<!-- Written by `make docs` from meta/argument_specs.yml and the defaults. -->",
    ]
    for entry, spec in specs.items():
        if entry != "main":
            lines += ["", f"## Entry point `{entry}`"]
        lines += ["", _markup(spec["short_description"]) + "."]
        lines += ["", *(f"- {_markup(line)}" for line in _list(spec.get("description")))]
        if spec.get("options"):
            lines += ["", "| variable | type | default | |", "| --- | --- | --- | --- |"]
            lines += _rows(spec["options"], defaults)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def render_inventory() -> str:
    """
    Render docs/inventory.md with a current table of the keys of an app.

    Returns
    -------
    str
        The page in Markdown, changed only between the two marks.
    """
    specs = yaml.safe_load((ROLES / "app/meta/argument_specs.yml").read_text())["argument_specs"]
    rows = _rows(specs["main"]["options"]["app_entry"]["options"], {})
    table = ["| key | type | | |", "| --- | --- | --- | --- |", *rows]
    before, _, rest = INVENTORY.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    return before + BEGIN + "\n" + "\n".join(table) + "\n\n" + END + after


def _rows(options: dict[str, Any], defaults: dict[str, Any], prefix: str = "") -> list[str]:
    rows = []
    for name, option in options.items():
        default = "**required**" if option.get("required") else _default(name, defaults, prefix)
        kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
        text = " ".join(_markup(line) for line in _list(option["description"]))
        rows.append(f"| `{prefix}{name}` | {kind} | {default} | {text} |")
        rows += _rows(option.get("options", {}), {}, prefix=f"{prefix}{name}.")
    return rows


def _default(name: str, defaults: dict[str, Any], prefix: str) -> str:
    if prefix or name not in defaults:
        return ""
    value = defaults[name]
    if isinstance(value, dict | list) and len(str(value)) > 60:
        return "see defaults"
    return f"`{value}`" if value != "" else "empty"


def _list(text: str | list[str] | None) -> list[str]:
    return [text] if isinstance(text, str) else list(text or [])


def _markup(text: str) -> str:
    """Turn Ansible's markup into Markdown; V() may contain brackets escaped by a backslash."""
    text = re.sub(r"\bC\(([^)]*)\)", r"`\1`", text)
    text = re.sub(r"\bV\(((?:[^\\)]|\\.)*)\)", _value, text)
    return text.replace("|", "\\|")


def _value(found: re.Match[str]) -> str:
    plain = re.sub(r"\\(.)", r"\1", found[1])
    return f"`{plain}`"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    pages = {role / "README.md": render(role) for role in sorted(ROLES.iterdir())}
    pages[INVENTORY] = render_inventory()
    for page, wanted in pages.items():
        if not page.exists() or page.read_text() != wanted:
            stale.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(wanted)
    if stale:
        print(("Stale, run `make docs`: " if check else "Written: ") + ", ".join(stale))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
