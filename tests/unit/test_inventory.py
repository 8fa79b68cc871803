import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_scenario_touches_the_server_of_make_up_or_of_another_scenario() -> None:
    places: list[str] = []
    scenarios = [[], *([f"--inventory={p}"] for p in ROOT.glob("molecule/*/inventory"))]
    for scenario in scenarios:
        done = subprocess.run(
            ["ansible-inventory", "--inventory=inventory/local", *scenario, "--host=dev"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        host = json.loads(done.stdout)
        names = ("dev_server", "dev_dir", "dev_ssh_port", "dev_http_port", "dev_https_port")
        places += [f"{name}={host[name]}" for name in names]
    shared = {place for place in places if places.count(place) > 1}
    # Molecule gives each scenario an ephemeral folder of its own.
    assert {place for place in shared if "MOLECULE_EPHEMERAL_DIRECTORY" not in place} == set()
    assert len(scenarios) > 2
