import functools
import itertools
import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
LISTS = dict(re.findall(r"^(\w+) =(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
SCENARIOS = LISTS["SCENARIOS"].split()
PLACE = ("dev_server", "dev_dir", "dev_ssh_port", "dev_http_port", "dev_https_port")


@functools.cache
def _place(*inventories: str) -> frozenset[str]:
    done = subprocess.run(
        ["ansible-inventory", *(f"--inventory={path}" for path in inventories), "--host=dev"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    host = json.loads(done.stdout)
    return frozenset(f"{name}={host[name]}" for name in PLACE)


def _inventories(config: dict, scenario: Path) -> list[str]:
    """List the inventories that a Molecule configuration gives to its playbooks."""
    arguments = config["ansible"]["executor"]["args"]["ansible_playbook"]
    return [
        argument.removeprefix("--inventory=")
        .replace("${MOLECULE_PROJECT_DIRECTORY}", str(ROOT))
        .replace("${MOLECULE_SCENARIO_DIRECTORY}", str(scenario))
        for argument in arguments
    ]


@functools.cache
def _servers() -> dict[frozenset[str], list[str]]:
    """Group the scenarios by the server they use, in the order in which `make test` runs them."""
    base = yaml.safe_load((ROOT / ".config/molecule/config.yml").read_text())
    found: dict[frozenset[str], list[str]] = {}
    for name in sorted(SCENARIOS, key=lambda name: len(_before(name))):
        scenario = ROOT / "molecule" / name
        config = yaml.safe_load((scenario / "molecule.yml").read_text())
        own = config if "executor" in config.get("ansible", {}) else base
        found.setdefault(_place(*_inventories(own, scenario)), []).append(name)
    return found


@functools.cache
def _prerequisites() -> dict[str, list[str]]:
    """Read from make which scenarios wait for which."""
    command = ["make", "--print-data-base", "--question"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    rules = re.findall(r"^molecule-(\w+): ([^=\n]*)$", printed, re.MULTILINE)
    return {name: re.findall(r"molecule-(\w+)", wanted) for name, wanted in rules}


def _before(name: str) -> set[str]:
    """List the scenarios that end before another one begins."""
    wanted = _prerequisites()[name]
    return set(wanted).union(*(_before(other) for other in wanted))


def _steps(name: str) -> list[str]:
    file = ROOT / "molecule" / name / "molecule.yml"
    return yaml.safe_load(file.read_text())["scenario"]["test_sequence"]


def test_make_runs_every_scenario_once() -> None:
    assert sorted(SCENARIOS) == sorted(p.parent.name for p in ROOT.glob("molecule/*/molecule.yml"))


def test_no_scenario_touches_the_server_of_make_up_or_part_of_another_scenarios() -> None:
    places = [_place("inventory/local"), *_servers()]
    uses = Counter(value for place in places for value in place)
    shared = {value for value, count in uses.items() if count > 1}
    # Molecule gives each scenario its own ephemeral folder.
    assert {value for value in shared if "MOLECULE_EPHEMERAL_DIRECTORY" not in value} == set()


def test_scenarios_that_share_a_server_run_one_after_another() -> None:
    assert sorted(len(names) for names in _servers().values()) == [1, 1, 1, 1, 2, 2, 4]
    for names in _servers().values():
        for earlier, later in itertools.pairwise(names):
            assert earlier in _before(later)


def test_a_scenario_begins_with_a_bare_server_or_with_any_that_is_up() -> None:
    for first, *others in _servers().values():
        # Only the last scenario on a server may destroy it at the end.
        assert _steps(first)[0] == "destroy"
        assert ("destroy" in _steps(first)[1:]) == (not others)
        for name in others:
            # Molecule skips create and prepare once they were done on any server.
            assert not {"create", "prepare", "destroy"} & set(_steps(name))
            plays = [file.read_text() for file in (ROOT / "molecule" / name).glob("*.yml")]
            assert any(re.search(r"playbooks/dev\.yml|shared/up\.yml", play) for play in plays)


def test_the_servers_of_all_scenarios_are_removed_in_the_end() -> None:
    names = LISTS["SERVERS"].split()
    assert [len({*names} & {*group}) for group in _servers().values()] == [1] * len(names)


def test_images_are_built_before_they_are_loaded() -> None:
    loading = re.compile(r"shared/(site|up|images)\.yml")
    for name in set(SCENARIOS) - {"default"}:
        plays = [file.read_text() for file in (ROOT / "molecule" / name).glob("*.yml")]
        assert ("default" in _before(name)) == any(loading.search(play) for play in plays), name


def test_every_step_of_a_scenario_runs() -> None:
    for file in ROOT.glob("molecule/*/molecule.yml"):
        steps = yaml.safe_load(file.read_text())["scenario"]["test_sequence"]
        for step, _, playbook in (step.partition(" ") for step in steps):
            # Without a playbook named after the step, Molecule skips the step's other playbooks.
            for name in {f"{step}.yml", playbook or f"{step}.yml"}:
                if step in ("prepare", "converge", "verify", "side_effect"):
                    own = (yaml.safe_load(file.read_text()).get("ansible") or {}).get("playbooks")
                    assert name[:-4] in (own or {}) or (file.parent / name).exists(), (file, name)


def test_scenarios_converge_by_what_site_yml_consists_of() -> None:
    def imported(file: Path) -> list[str]:
        paths = (
            play["ansible.builtin.import_playbook"] for play in yaml.safe_load(file.read_text())
        )
        return [path.removeprefix("../../") for path in paths if "playbooks/" in path]

    whole = imported(ROOT / "site.yml")
    assert len(whole) == 5
    for name in ("default/converge.yml", "shared/site.yml"):
        assert imported(ROOT / "molecule" / name) == whole
