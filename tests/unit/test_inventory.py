import functools
import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
LISTS = dict(re.findall(r"^(\w+) =(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
LANES = [LISTS[f"LANE_{number}"].split() for number in (1, 2, 3)]
APART = set(LISTS["APART"].split())
FIRST = LISTS["FIRST"].split()
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


def test_no_scenario_touches_the_server_of_make_up_or_of_another_scenario() -> None:
    base = yaml.safe_load((ROOT / ".config/molecule/config.yml").read_text())
    places = {"make up": _place("inventory/local")}
    for file in sorted(ROOT.glob("molecule/*/molecule.yml")):
        config = yaml.safe_load(file.read_text()) or {}
        own = config if "executor" in config.get("ansible", {}) else base
        place = _place(*_inventories(own, file.parent))
        name = file.parent.name
        lane = next(number for number, lane in enumerate(LANES) if name in lane)
        server = name if name in APART else f"the server of lane {lane}"
        assert place == places.setdefault(server, place), file

    uses = Counter(value for place in places.values() for value in place)
    shared = {value for value, count in uses.items() if count > 1}
    # Molecule gives each scenario an ephemeral folder of its own.
    assert {value for value in shared if "MOLECULE_EPHEMERAL_DIRECTORY" not in value} == set()
    sharing = {f"the server of lane {n}" for n, lane in enumerate(LANES) if set(lane) - APART}
    assert {"make up", *sharing, *APART} == set(places)


def test_make_runs_every_scenario_once() -> None:
    scenarios = sorted(p.parent.name for p in ROOT.glob("molecule/*/molecule.yml"))
    assert sorted(name for lane in LANES for name in lane) == scenarios
    # Whose `destroy` removes the server that the lane shares.
    for lane, first in zip((lane for lane in LANES if set(lane) - APART), FIRST, strict=True):
        assert next(name for name in lane if name not in APART) == first


def test_every_step_of_a_scenario_runs() -> None:
    for file in ROOT.glob("molecule/*/molecule.yml"):
        steps = yaml.safe_load(file.read_text())["scenario"]["test_sequence"]
        for step, _, playbook in (step.partition(" ") for step in steps):
            # Without a playbook by the step's own name Molecule leaves out all others of that step.
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
