import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def check(inventory: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ansible-playbook", "-i", inventory, "playbooks/values.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_missing_and_short_secrets_are_named_before_a_server_is_asked(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(
        "servers:\n  hosts: {web1: {ansible_host: 203.0.113.10}}\n  vars:\n"
        "    apps: [{name: shop}]\n    vault_app_secrets: {shop: {SECRET_KEY: tooshort}}\n"
    )
    done = check(tmp_path)
    assert done.returncode != 0
    assert "vault_app_secrets.shop.SECRET_KEY is missing or shorter" in done.stdout + done.stderr
    assert "vault_app_secrets.shop.POSTGRES_PASSWORD is missing" in done.stdout + done.stderr
    assert "openssl rand" in done.stdout + done.stderr
    assert "tooshort" not in done.stdout + done.stderr


def test_whole_secrets_pass(tmp_path: Path) -> None:
    secrets = dict.fromkeys(("SECRET_KEY", "POSTGRES_PASSWORD"), "x" * 32)
    (tmp_path / "hosts.yml").write_text(
        "servers:\n  hosts: {web1: {ansible_host: 203.0.113.10}}\n  vars:\n"
        f"    apps: [{{name: shop}}]\n    vault_app_secrets: {{shop: {secrets}}}\n"
    )
    done = check(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


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
