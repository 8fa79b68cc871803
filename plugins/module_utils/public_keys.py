"""Public SSH keys of admins, given as text or as files of the controller."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

TYPES = (
    *("ssh-ed25519", "sk-ssh-ed25519@openssh.com", "ssh-rsa"),
    *("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
# What sshd accepts after the role `access` has set it up.
ACCEPTED = ("ssh-ed25519", "sk-ssh-ed25519@openssh.com", "ssh-rsa")


def public_keys(given: str) -> list[str]:
    """
    Return public keys, one for each line of a text or a file.

    Parameters
    ----------
    given : str
        A key, or the path of a file of this machine.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If a line is not a public key that sshd accepts; the message says what is wrong.
    """
    text = given
    if not given.strip().startswith(("ssh-", "ecdsa-", "sk-", "-----BEGIN")):
        text = Path(given.strip()).expanduser().read_text(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("#")]
    if not lines:
        raise ValueError("has no key")
    for line in lines:
        _check(line)
    return lines


def _check(line: str) -> None:
    if line.startswith("-----BEGIN") or "PRIVATE KEY" in line:
        raise ValueError("is a private key, which must stay on your machine")
    kind, _, rest = line.partition(" ")
    if kind not in TYPES:
        raise ValueError("is not a public key")
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not a whole public key") from None
    # The key repeats its type: RFC 4253, section 6.6.
    size = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + size] != kind.encode() or len(blob) < size + 36:
        raise ValueError("is not a whole public key")
    if kind not in ACCEPTED:
        raise ValueError(f"is of the type {kind}, which sshd will refuse")
    if kind == "ssh-rsa" and len(blob) < 380:
        raise ValueError("is an RSA key of less than 3072 bits, which is too weak")
