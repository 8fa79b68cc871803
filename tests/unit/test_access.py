"""Who may log in: public keys of admins, and the admins to try first."""

import base64
import subprocess
from pathlib import Path

import keys
import pytest
from module_utils.public_keys import public_keys


def key(kind: str = "ssh-ed25519", size: int = 32) -> str:
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (kind.encode(), b"k" * size))
    return f"{kind} {base64.b64encode(blob).decode()} me@laptop"


def test_a_key_is_given_as_text_or_as_a_file(tmp_path: Path) -> None:
    file = tmp_path / "id.pub"
    file.write_text(f"# mine\n{key()}\n\n{key(size=33)}\n")
    assert public_keys(key()) == [key()]
    assert public_keys(str(file)) == [key(), key(size=33)]
    assert keys.admin_keys([str(file), key()]).splitlines() == [key(), key(size=33), key()]


def test_a_real_pair_of_keys(tmp_path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "id")]
    subprocess.run(command, check=True)
    assert len(public_keys(str(tmp_path / "id.pub"))) == 1
    with pytest.raises(ValueError, match="private key"):
        public_keys(str(tmp_path / "id"))


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nx", "is a private key"),
        (key()[:40], "not a whole public key"),
        ("ssh-ed25519 AAAA", "not a whole public key"),
        (key().replace("ssh-ed25519 ", "ssh-rsa "), "not a whole public key"),
        (key("ssh-dss"), "is not a public key"),
        (key("ecdsa-sha2-nistp256", 65), "which sshd will refuse"),
        (key("ssh-rsa", 256), "less than 3072 bits"),
        ("ssh-", "is not a public key"),
    ],
)
def test_refuses_other_keys(given: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        public_keys(given)


def test_the_admin_whose_key_is_here_is_tried_first(tmp_path: Path) -> None:
    (tmp_path / "id.pub").write_text(key(size=40))
    admins = [
        {"name": "ada", "keys": [key()]},
        {"name": "grace", "keys": [key(size=41)]},
        {"name": "joan", "keys": [key(size=40)]},
    ]
    assert keys.admin_names(admins, "root", str(tmp_path / "id"))[0] == "joan"
    # sshd punishes an address for each refused login.
    assert len(keys.admin_names(admins, "root", "")) == 2
    assert keys.admin_names(admins, "grace", str(tmp_path / "id"))[0] == "grace"


def test_malformed_admins_are_left_to_the_check_of_values() -> None:
    admins = [None, "ada", {"keys": []}, {"name": "ada"}, {"name": "grace", "keys": ["/none"]}]
    assert sorted(keys.admin_names(admins)) == ["ada", "grace"]
