"""The output of `ansible-doc` for modules, actions, filters and roles is complete and correct."""

import ast
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from jinja2.nativetypes import NativeEnvironment

ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "plugins"
ACTIONS = sorted(file.stem for file in (PLUGINS / "action").glob("*.py"))
MODULES = sorted({file.stem for file in (PLUGINS / "modules").glob("*.py")} - set(ACTIONS))
CALLBACKS = sorted(file.stem for file in ROOT.glob("*/callback/*.py"))
ROLES = sorted(role.name for role in (ROOT / "roles").iterdir())
# Keys of an option besides its description. Any other key comes from a description cut at a comma.
KEYS = {"type", "elements", "required", "default", "choices", "options"}


def ansible_doc(*arguments: str) -> str:
    """Run ansible-doc in the project's folder, without warnings."""
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-doc"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"documented_{file.parent.name}_{file.stem}", file
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def filters() -> dict[str, Any]:
    """Collect the project's filters by name."""
    found: dict[str, Any] = {}
    for file in sorted((PLUGINS / "filter").glob("*.py")):
        found |= load(file).FilterModule().filters()
    return found


FILTERS = filters()


@pytest.fixture(scope="module")
def docs() -> dict[str, dict[str, Any]]:
    """Read the documentation of all modules, actions and filters, by kind and name."""
    modules = json.loads(ansible_doc("-j", *MODULES, *ACTIONS))
    return {"module": modules, "filter": json.loads(ansible_doc("-j", "-t", "filter", *FILTERS))}


def spec_of(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a module until it creates its AnsibleModule, and return the argument spec."""
    given: list[dict[str, Any]] = []

    def take(argument_spec: dict[str, Any], **others: Any) -> None:
        given.append(argument_spec)
        raise SystemExit

    monkeypatch.setattr(module, "AnsibleModule", take)
    with pytest.raises(SystemExit):
        module.main()
    return given[0]


def comparable(options: dict[str, Any]) -> dict[str, Any]:
    """Reduce documented options or an argument spec to the keys that both have."""
    return {
        name: {
            "type": option["type"],
            "elements": option.get("elements"),
            "required": option.get("required", False),
            "default": option.get("default"),
            "choices": sorted(option.get("choices") or []),
        }
        for name, option in options.items()
    }


def options_in(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for option in options.values():
        yield option
        yield from options_in(option.get("options", {}))


@pytest.mark.parametrize("name", MODULES)
def test_the_documented_options_of_a_module_are_those_it_takes(
    name: str, docs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    documented = docs["module"][name]["doc"]["options"]
    assert comparable(documented) == comparable(
        spec_of(load(PLUGINS / f"modules/{name}.py"), monkeypatch)
    )


@pytest.mark.parametrize("name", MODULES)
def test_the_documented_results_of_a_module_are_those_it_gives(
    name: str, docs: dict[str, Any]
) -> None:
    given, is_all = set(), True
    for node in ast.walk(ast.parse((PLUGINS / f"modules/{name}.py").read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            (".exit_json", ".fail_json")
        ):
            names = {keyword.arg for keyword in node.keywords}
            is_all = is_all and None not in names
            given |= names - {None, "changed", "msg"}
    documented = set(docs["module"][name]["return"] or {})
    # The keys of a result that is built elsewhere cannot be read here.
    assert documented == given if is_all else documented >= given


@pytest.mark.parametrize("name", ACTIONS)
def test_the_documented_options_of_an_action_are_those_it_takes(
    name: str, docs: dict[str, Any]
) -> None:
    action = load(PLUGINS / f"action/{name}.py").ActionModule
    documented = docs["module"][name]["doc"]["options"]
    assert docs["module"][name]["doc"]["has_action"]
    if hasattr(action, "ARGUMENT_SPEC"):
        assert comparable(documented) == comparable(action.ARGUMENT_SPEC)
    else:
        assert set(documented) == action._VALID_ARGS


@pytest.mark.parametrize("name", FILTERS)
def test_the_documented_options_of_a_filter_are_its_parameters(
    name: str, docs: dict[str, Any]
) -> None:
    doc = docs["filter"][name]["doc"]
    given, *parameters = inspect.signature(FILTERS[name]).parameters.values()
    assert given.default is given.empty
    options = dict(doc["options"])
    assert options.pop("_input")["required"]
    wanted = {p.name: (p.default is p.empty, p.default) for p in parameters}
    assert wanted == {
        name: (option.get("required", False), option.get("default", inspect.Parameter.empty))
        for name, option in options.items()
    }
    assert doc["positional"].split(", ") == ["_input", *wanted]


def test_the_examples_of_filters_give_what_they_say(docs: dict[str, Any]) -> None:
    environment = NativeEnvironment()
    environment.filters |= FILTERS
    results = {
        name: re.findall(r"^# (\w+) => (.*)\n(\1: .*)$", plugin["examples"], re.MULTILINE)
        for name, plugin in docs["filter"].items()
    }
    assert sum(map(bool, results.values())) > 15
    for name, examples in results.items():
        for variable, result, example in examples:
            template = yaml.safe_load(example)[variable]
            assert environment.from_string(template).render() == json.loads(result), name


def test_every_documentation_of_a_filter_has_its_filter() -> None:
    assert {file.stem for file in (PLUGINS / "filter").glob("*.yml")} == set(FILTERS)


def test_nothing_documented_is_cut(docs: dict[str, dict[str, Any]]) -> None:
    for kind, plugins in docs.items():
        for name, plugin in plugins.items():
            described = [plugin["doc"], *options_in(plugin["doc"].get("options", {}))]
            returned = list((plugin["return"] or {}).values())
            for option in [*described[1:], *returned]:
                assert set(option) <= KEYS | {"description", "returned"}, (kind, name, option)
            assert plugin["examples"].strip(), (kind, name)
            for part in [*described, *returned]:
                text = part["description"]
                for paragraph in [text] if isinstance(text, str) else text:
                    assert paragraph.endswith("."), (kind, name, paragraph)


def test_no_markup_ends_at_a_bracket_that_belongs_to_it() -> None:
    # V(), O() and E() allow a backslash before the bracket; C() does not.
    files = [*PLUGINS.rglob("*.py"), *PLUGINS.rglob("*.yml"), *ROOT.glob("roles/*/meta/*.yml")]
    cut = re.compile(r"\bC\([^)]*\(|\b[VOE]\((?:[^\\)]|\\.)*[^\\]\(\)")
    assert [file for file in files if cut.search(file.read_text())] == []


def test_ansible_doc_shows_every_page_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other code makes the text than the JSON, which keeps markup and gaps as they are."""
    monkeypatch.setenv("ANSIBLE_CALLBACK_PLUGINS", "plugins/callback:bench/callback")
    wanted = {"module": MODULES + ACTIONS, "callback": CALLBACKS, "filter": FILTERS, "role": ROLES}
    for kind, names in wanted.items():
        text = ansible_doc("-t", kind, *names)
        shown = re.findall(rf"^> {kind.upper()}:? \W*(\w+)", text, re.MULTILINE)
        assert sorted(shown) == sorted(names)
