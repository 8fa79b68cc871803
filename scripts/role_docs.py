"""
Write the documentation that follows from the argument specs.

That is each role's README, and the keys of an app in docs/inventory.md and the example inventory.

``--check`` only lists the stale ones.
"""

import argparse
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "plugins"))
from module_utils.app import entry_options  # noqa: E402

ROLES = ROOT / "roles"
INVENTORY = ROOT / "docs/inventory.md"
EXAMPLE = ROOT / "inventory/example/group_vars/all/main.yml"
# What follows the last key of the app in the example.
AFTER_APP = "\n# Where images come from"
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
    table = ["| key | type | default | |", "| --- | --- | --- | --- |", *_rows(entry_options(), {})]
    before, _, rest = INVENTORY.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    return before + BEGIN + "\n" + "\n".join(table) + "\n\n" + END + after


def render_example() -> str:
    """
    Write the defaults of an app's keys into the example inventory, and the keys that it lacks.

    A key whose comment calls its value an example keeps that value.

    Returns
    -------
    str
        YAML.
    """
    text = EXAMPLE.read_text()
    for key, option in entry_options().items():
        found = re.search(rf"((?:^    # .*\n)*)^    # {key}: (.*)\n", text, re.MULTILINE)
        if found and "Example" not in found[1] and "default" in option:
            start, end = found.span(2)
            text = text[:start] + _plain(option["default"]) + text[end:]
        elif not found and not re.search(rf"^  (  |- ){key}: ", text, re.MULTILINE):
            words = " ".join(_list(option["description"]))
            comment = textwrap.wrap(re.sub(r"\b[CV]\(([^)]*)\)", r"\1", words), 112)
            lines = [*comment, f"{key}: {_plain(option.get('default', ''))}"]
            entry = "".join(f"    # {line}\n" for line in lines)
            text = text.replace(AFTER_APP, f"\n{entry}{AFTER_APP}", 1)
    return text


def _plain(value: Any) -> str:
    return '""' if value == "" else yaml.safe_dump(value, default_flow_style=True).split("\n")[0]


def _rows(options: dict[str, Any], defaults: dict[str, Any], prefix: str = "") -> list[str]:
    rows = []
    for name, option in options.items():
        if option.get("required"):
            default = "**required**"
        elif "default" in option:
            default = _shown(option["default"])
        else:
            default = _default(name, defaults, prefix)
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
    return _shown(value)


def _shown(value: Any) -> str:
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
    pages |= {INVENTORY: render_inventory(), EXAMPLE: render_example()}
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
