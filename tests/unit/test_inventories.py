"""Rules for every inventory of the project, and for secrets in git."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from module_utils.app import entry_options

ROOT = Path(__file__).parents[2]
INVENTORIES = sorted(path.parent for path in ROOT.glob("inventory/*/hosts.yml"))
EXAMPLE = ROOT / "inventory/example/group_vars/all/main.yml"


class Encrypted(str):
    """A value under Ansible's tag `!vault`."""


class Loader(yaml.SafeLoader):
    """Loads YAML with Ansible's tags."""


Loader.add_constructor("!vault", lambda loader, node: Encrypted(loader.construct_scalar(node)))
Loader.add_multi_constructor("!", lambda loader, suffix, node: f"!{suffix}")


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    elif value is not None:
        yield value


def is_secret_in_plaintext(value: Any) -> bool:
    # An expression refers to a secret, and an empty value is a placeholder.
    return not (
        isinstance(value, Encrypted) or value == "" or re.fullmatch(r"\{\{.*\}\}", str(value), re.S)
    )


def plaintext_secrets(repository: Path) -> list[str]:
    """List the files of a git repository that contain secrets in plaintext."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=True
    )
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        file = repository / name
        # The file may have been removed without a commit.
        if not re.search(r"\.ya?ml(\.example)?$", name) or not file.is_file():
            continue
        text = file.read_text()
        if text.startswith("$ANSIBLE_VAULT;"):
            continue
        if re.fullmatch(r"vault.*\.ya?ml", file.name):
            found.append(name)
        elif name.startswith("inventory/"):
            content = yaml.load(text, Loader)  # noqa: S506 - a SafeLoader with two tags more
            values = [v for k, v in (content or {}).items() if k.startswith("vault_")]
            if any(is_secret_in_plaintext(leaf) for leaf in leaves(values)):
                found.append(name)
    return found


def test_git_holds_no_secret_in_plaintext() -> None:
    assert plaintext_secrets(ROOT) == []


@pytest.mark.parametrize(
    ("name", "content", "refused"),
    [
        ("inventory/prod/group_vars/all/vault.yml", "a: 1\n", True),
        ("inventory/prod/host_vars/web1/vault_keys.yaml", "a: 1\n", True),
        ("molecule/x/vault.yml", "", True),
        ("inventory/prod/group_vars/all/vault.yml", "$ANSIBLE_VAULT;1.1;AES256\n61\n", False),
        ("inventory/prod/group_vars/all/main.yml", "vault_app_secrets: {a: {B: c}}\n", True),
        ("inventory/prod/group_vars/all/main.yml", "vault_x: [{password: 1}]\n", True),
        ("inventory/prod/group_vars/all/main.yml", "vault_x: 'a{{ b }}'\n", True),
        ("inventory/prod/group_vars/all/main.yml", "vault_x: !vault |\n  $ANSIBLE\n", False),
        ("inventory/prod/group_vars/all/main.yml", "vault_x: \"{{ lookup('x') }}\"\n", False),
        ("inventory/prod/group_vars/all/main.yml", "apps: [{name: a}]\n", False),
        ("inventory/example/group_vars/all/vault.yml.example", "vault_x: real\n", True),
        ("inventory/example/group_vars/all/vault.yml.example", "vault_x: ''\n", False),
    ],
)
def test_a_secret_in_plaintext_would_be_found(
    tmp_path: Path, name: str, content: str, refused: bool
) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_text(content)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert plaintext_secrets(tmp_path) == []
    subprocess.run(["git", "add", "--force", name], cwd=tmp_path, check=True)
    assert plaintext_secrets(tmp_path) == ([name] if refused else [])


def variables(inventory: Path) -> dict[str, Any]:
    done = subprocess.run(
        ["ansible-inventory", "-i", inventory, "--list"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    servers = json.loads(done.stdout)["servers"]["hosts"]
    assert len(servers) == 1
    return json.loads(done.stdout)["_meta"]["hostvars"][servers[0]]


def named_in_example(indent: str) -> set[str]:
    """List the keys of the example at one indentation, including those in comments."""
    return set(re.findall(rf"^{indent}(?:# |- )?([a-z_]+):(?: |$)", EXAMPLE.read_text(), re.M))


def example_keys() -> set[str]:
    """List the example's top-level keys, including secrets and keys in comments."""
    vault = (EXAMPLE.parent / "vault.yml.example").read_text()
    return named_in_example("") | set(re.findall(r"^(?:# )?(vault_\w+):", vault, re.M))


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.name)
def test_every_inventory_parses_and_names_no_key_that_the_example_does_not(
    inventory: Path,
) -> None:
    host = variables(inventory)
    # Without Ansible's variables and those of the throwaway server and its test CA.
    given = {k for k in host if not re.match(r"ansible_|dev_|proxy_|inventory_", k)}
    assert given - example_keys() == set()
    app_keys = named_in_example("    ") | {"name"}
    for app in host["apps"]:
        assert set(app) - app_keys == set()


def test_the_example_names_every_key_of_an_app() -> None:
    assert set(entry_options()) - (named_in_example("    ") | {"name"}) == set()


def test_the_docs_describe_every_key_of_the_example() -> None:
    page = (ROOT / "docs/inventory.md").read_text().partition("## An app")[0]
    described = set(re.findall(r"^\| `(\w+)` \|", page, re.M))
    # The names of all upstream images would outweigh the rest of the example.
    assert described == example_keys() | {"images_registry"}


def test_staging_differs_from_prod_by_its_domains_and_its_ca() -> None:
    prod, staging = (
        yaml.safe_load((ROOT / f"inventory/{name}/group_vars/all/main.yml").read_text())
        for name in ("prod", "staging")
    )
    assert staging.pop("acme_ca") == "letsencrypt_staging"
    assert "acme_ca" not in prod
    for values in (prod, staging):
        for app in values["apps"]:
            del app["domains"]
    assert staging == prod


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.name)
def test_every_inventory_has_what_the_edge_asks_for(inventory: Path) -> None:
    names = ("ca_uri", "ca_bundle", "email", "eab")
    asked = {"msg": {name: f"{{{{ __proxy_{name} }}}}" for name in names}}
    # prod and staging need the user's own vault.
    done = subprocess.run(
        [
            *("ansible", "servers", "-i", inventory, "-e", "@roles/proxy/vars/main.yml"),
            *("-m", "debug", "-a", json.dumps(asked)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ": https://" in done.stdout
