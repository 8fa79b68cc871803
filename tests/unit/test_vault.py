"""scripts/vault and scripts/vault-passphrase, in temporary projects."""

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
HOSTS = "servers: {hosts: {web1: {ansible_host: 203.0.113.10}}}\n"
APPS = """
apps:
  - {name: shop}
  - {name: blog, database: sqlite}
  - {name: own, dockerfile: Dockerfile, port: 80}
  - {name: gone, state: absent}
"""


def make_project(folder: Path) -> Path:
    (folder / "scripts").mkdir(parents=True)
    for name in ("ansible.cfg", "scripts/vault", "scripts/vault-passphrase"):
        shutil.copy(ROOT / name, folder / name)
    # The model knows which secrets an app needs.
    for name in ("plugins/module_utils", "roles/app/meta"):
        shutil.copytree(ROOT / name, folder / name)
    all_group = folder / "inventory/prod/group_vars/all"
    all_group.mkdir(parents=True)
    (all_group / "main.yml").write_text(APPS)
    (folder / "inventory/prod/hosts.yml").write_text(HOSTS)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a vault once for all tests that start with one, because it takes a second."""
    folder = make_project(tmp_path_factory.mktemp("made") / "project")
    make_vault(folder)
    return folder


@pytest.fixture
def with_vault(project: Path, made: Path) -> Path:
    """A project for one test, with a vault made by `make vault`."""
    for file in (vault_file(made), made / ".vault-passphrase"):
        shutil.copy(file, project / file.relative_to(made))
    return project


def run(project: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not re.match(r"ANSIBLE_|FLASK_VPS_", k)}
    return subprocess.run(
        [BIN / command[0] if command[0].startswith("ansible") else command[0], *command[1:]],
        cwd=project,
        env=clean | {"PATH": f"{BIN}:{clean['PATH']}"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def make_vault(project: Path, *arguments: str, **environment: str) -> str:
    done = run(project, "scripts/vault", "inventory/prod", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def vault_file(project: Path) -> Path:
    return project / "inventory/prod/group_vars/all/vault.yml"


def cipher(project: Path) -> VaultLib:
    passphrase = (project / ".vault-passphrase").read_bytes().strip()
    return VaultLib([("default", VaultSecret(passphrase))])


def decrypted(project: Path) -> str:
    return cipher(project).decrypt(vault_file(project).read_bytes()).decode()


def secrets_of(project: Path) -> dict[str, Any]:
    return yaml.safe_load(decrypted(project))["vault_app_secrets"]


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


def test_the_vault_is_encrypted_and_its_secrets_are_strong_and_never_shown(project: Path) -> None:
    output = make_vault(project)
    assert vault_file(project).read_text().startswith("$ANSIBLE_VAULT;1.1;AES256\n")
    secrets = secrets_of(project)
    # No password for an app without Postgres, and no secrets for an app with `state: absent`.
    assert {app: set(values) for app, values in secrets.items()} == {
        "shop": {"SECRET_KEY", "POSTGRES_PASSWORD"},
        "blog": {"SECRET_KEY"},
        # An app with its own Dockerfile may be no Flask app, so it needs no SECRET_KEY.
        "own": {"POSTGRES_PASSWORD"},
    }
    values = [value for app in secrets.values() for value in app.values()]
    assert len(set(values)) == len(values)
    assert all(re.fullmatch(r"[\w-]{48}", value) for value in values)
    passphrase = (project / ".vault-passphrase").read_text().strip()
    assert len(passphrase) == 48
    assert [text for text in [*values, passphrase] if text in output] == []
    # The output says where the passphrase is, and what to do with it.
    assert str(project / ".vault-passphrase") in output
    assert "password manager" in output


def test_vault_and_passphrase_are_for_their_owner_alone_and_nothing_else_is_left(
    project: Path,
) -> None:
    before = {file for file in project.rglob("*") if file.is_file()}
    make_vault(project)
    made = {file for file in project.rglob("*") if file.is_file()} - before
    made = {file for file in made if file.suffix != ".pyc"}
    assert made == {vault_file(project), project / ".vault-passphrase"}
    assert {mode(file) for file in made} == {0o600}


def test_a_second_run_adds_what_a_new_app_needs_and_keeps_the_rest(with_vault: Path) -> None:
    project = with_vault
    text = decrypted(project).replace("shop:", "shop:  # the first")
    text += "    STRIPE: 'a: #b'\nvault_deploy_keys:\n  shop: |\n    -----BEGIN\n    END\n"
    before = cipher(project).encrypt(text)
    vault_file(project).write_bytes(before)
    main = vault_file(project).with_name("main.yml")
    main.write_text(main.read_text() + "  - {name: wiki}\n")

    output = make_vault(project)
    assert "wiki.SECRET_KEY" in output
    assert "shop" not in output
    old, new = yaml.safe_load(text), yaml.safe_load(decrypted(project))
    assert set(new["vault_app_secrets"].pop("wiki")) == {"SECRET_KEY", "POSTGRES_PASSWORD"}
    assert new == old
    assert "# the first" in decrypted(project)
    backup = vault_file(project).with_name("vault.yml.bak")
    assert backup.read_bytes() == before
    assert mode(backup) == mode(vault_file(project)) == 0o600

    whole = vault_file(project).read_bytes()
    assert "nothing was missing" in make_vault(project)
    assert vault_file(project).read_bytes() == whole


YAML_SECRETS = "---\nvault_app_secrets:\n  shop: {SECRET_KEY: abc}\n"


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("group_vars/all/secrets.yml", YAML_SECRETS),
        ("host_vars/web1.yml", YAML_SECRETS),
        ("group_vars/servers/secrets", "{vault_app_secrets: {shop: {SECRET_KEY: abc}}}"),
        ("group_vars/all/secrets.json", '{"vault_app_secrets": {"shop": {"SECRET_KEY": "abc"}}}'),
        ("more", "[servers:vars]\nvault_app_secrets={'shop': {'SECRET_KEY': 'abc'}}\n"),
    ],
)
def test_secrets_that_stand_elsewhere_are_not_hidden_by_a_vault(
    project: Path, where: str, text: str
) -> None:
    file = project / "inventory/prod" / where
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    done = run(project, "scripts/vault", "inventory/prod")
    assert done.returncode != 0
    assert f"{where} sets vault_app_secrets" in done.stderr
    assert "Add the missing secrets there (each app without a dockerfile needs" in done.stderr
    assert not vault_file(project).exists()
    assert not (project / ".vault-passphrase").exists()


@pytest.mark.parametrize("name", ["vault.yml.example", "vault.yml.bak", ".old.yml", "main.yml~"])
def test_what_ansible_does_not_read_hides_nothing(project: Path, name: str) -> None:
    vault_file(project).with_name(name).write_text(YAML_SECRETS)
    assert "added shop.SECRET_KEY" in make_vault(project)


def test_one_secret_is_renewed_on_demand(with_vault: Path) -> None:
    project = with_vault
    before = secrets_of(project)
    output = make_vault(project, "--rotate", "shop.POSTGRES_PASSWORD")
    after = secrets_of(project)
    assert after["shop"].pop("POSTGRES_PASSWORD") != before["shop"].pop("POSTGRES_PASSWORD")
    assert after == before
    assert "replaced shop.POSTGRES_PASSWORD" in output

    whole = vault_file(project).read_bytes()
    wrong = run(project, "scripts/vault", "inventory/prod", "--rotate", "shop.SECRET")
    assert wrong.returncode != 0
    assert "has no shop.SECRET. It has: shop.SECRET_KEY" in wrong.stderr
    assert vault_file(project).read_bytes() == whole


def test_a_plaintext_vault_is_completed_and_encrypted_without_a_plaintext_copy(
    project: Path,
) -> None:
    vault_file(project).write_text(
        "vault_app_secrets:\n  shop: {SECRET_KEY: by-hand, POSTGRES_PASSWORD: ''}\n  blog:\n"
    )
    make_vault(project)
    secrets = secrets_of(project)
    assert secrets["shop"]["SECRET_KEY"] == "by-hand"
    assert len(secrets["shop"]["POSTGRES_PASSWORD"]) == len(secrets["blog"]["SECRET_KEY"]) == 48
    assert [f for f in project.rglob("*") if f.is_file() and b"by-hand" in f.read_bytes()] == []


def test_a_lost_passphrase_is_told_and_no_new_one_is_made(with_vault: Path) -> None:
    project = with_vault
    whole = vault_file(project).read_bytes()
    (project / ".vault-passphrase").unlink()
    done = run(project, "scripts/vault", "inventory/prod")
    assert done.returncode != 0
    assert "inventory/prod/group_vars/all/vault.yml is not here" in done.stderr
    assert not (project / ".vault-passphrase").exists()

    (project / ".vault-passphrase").write_text("another\n")
    done = run(project, "scripts/vault", "inventory/prod")
    assert done.returncode != 0
    assert "Decryption failed" in done.stderr
    assert vault_file(project).read_bytes() == whole


def test_broken_content_is_told_without_quoting_it(with_vault: Path) -> None:
    project = with_vault
    text = decrypted(project) + "    SECRET_KEY: dont-tell\n    SECRET_KEY: dont-tell-either\n"
    vault_file(project).write_bytes(cipher(project).encrypt(text))
    done = run(project, "scripts/vault", "inventory/prod")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "dont-tell" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("inventory", "apps", "message"),
    [
        ("prdo", APPS, "There is no inventory/prdo"),
        ("prod", "apps: []\n", "names no apps"),
        ("prod", "apps: [{domains: [a.example]}]\n", "needs a name"),
        ("prod", "apps: [\n", "cannot be read"),
    ],
)
def test_an_inventory_that_cannot_be_used_is_told(
    project: Path, inventory: str, apps: str, message: str
) -> None:
    vault_file(project).with_name("main.yml").write_text(apps)
    done = run(project, "scripts/vault", f"inventory/{inventory}")
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not vault_file(project).exists()


def read_with_ansible(project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(
        project, "ansible-inventory", "-i", "inventory/prod", "--host", "web1", **environment
    )


def test_ansible_reads_the_vault_without_options_and_with_its_own(with_vault: Path) -> None:
    project = with_vault
    password = secrets_of(project)["shop"]["POSTGRES_PASSWORD"]
    assert password in read_with_ansible(project).stdout

    passphrase = project / ".vault-passphrase"
    moved = passphrase.rename(project / "elsewhere")
    by_file = read_with_ansible(project, ANSIBLE_VAULT_PASSWORD_FILE=str(moved))
    assert password in by_file.stdout
    by_variable = read_with_ansible(project, FLASK_VPS_VAULT_PASSPHRASE=moved.read_text().strip())
    assert password in by_variable.stdout

    without = read_with_ansible(project)
    assert without.returncode != 0
    assert f"put it into {passphrase}" in without.stderr
    assert not passphrase.exists()


def test_a_typed_passphrase_works_where_there_is_no_file(with_vault: Path) -> None:
    project = with_vault
    passphrase = (project / ".vault-passphrase").rename(project / "elsewhere").read_text()
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(project)
        os.environ["ANSIBLE_CONFIG"] = str(project / "ansible.cfg")
        program = str(BIN / "ansible-inventory")
        os.execv(  # noqa: S606
            program, [program, "-i", "inventory/prod", "--host", "web1", "--ask-vault-pass"]
        )
    output = b""
    # On Linux, reading at the end of a terminal's output raises an error.
    try:
        while chunk := os.read(terminal, 4096):
            output += chunk
            if chunk.endswith(b"Vault password: "):
                os.write(terminal, passphrase.encode())
    except OSError:
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, output
    assert b"POSTGRES_PASSWORD" in output


def test_without_vaults_no_passphrase_is_missed(project: Path) -> None:
    done = read_with_ansible(project)
    assert done.returncode == 0
    assert done.stderr == ""


def test_what_is_encrypted_before_there_is_a_passphrase_can_be_decrypted(project: Path) -> None:
    plain = project / "plain.yml"
    plain.write_text("a: 1\n")
    assert run(project, "ansible-vault", "encrypt", "plain.yml").returncode == 0
    assert cipher(project).decrypt(plain.read_bytes()) == b"a: 1\n"
    assert mode(project / ".vault-passphrase") == 0o600


@pytest.mark.parametrize("where", ["group_vars/all/vault.yml", "host_vars/web1.yml"])
def test_nothing_is_encrypted_with_another_passphrase_than_the_vaults(
    project: Path, where: str
) -> None:
    there = project / "inventory/prod" / where
    there.parent.mkdir(exist_ok=True)
    there.write_text("key: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  3662\n")
    plain = project / "plain.yml"
    plain.write_text("a: 1\n")
    done = run(project, "ansible-vault", "encrypt", "plain.yml")
    assert done.returncode != 0
    assert "No vault passphrase here" in done.stderr
    assert plain.read_text() == "a: 1\n"
    assert list(project.glob(".vault-passphrase*")) == []


def test_commands_that_start_together_take_the_same_first_passphrase(project: Path) -> None:
    script = project / "scripts/vault-passphrase"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLASK_VPS_")}
    started = [
        subprocess.Popen([script], stdout=subprocess.PIPE, env=environment) for _ in range(8)
    ]
    printed = {process.communicate()[0] for process in started}
    assert printed == {(project / ".vault-passphrase").read_bytes()}
    assert list(project.glob(".vault-passphrase*")) == [project / ".vault-passphrase"]


def test_git_ignores_the_passphrase_and_the_copy(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    names = [".vault-passphrase", "inventory/prod/group_vars/all/vault.yml.bak"]
    vault = "inventory/prod/group_vars/all/vault.yml"
    done = run(tmp_path, "git", "check-ignore", *names, vault)
    assert done.stdout.split() == names
