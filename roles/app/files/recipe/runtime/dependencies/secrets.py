"""Give the secrets of a build to the programs that download something."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path

FOLDER = Path("/run/secrets")
# Only these are in memory and end with the step.
PRIVATE = Path("/dev/shm/flask-vps")  # noqa: S108  # a file system of the build step alone

# The folder of a build's secrets is too small for what these programs keep.
CACHES = {
    "XDG_CACHE_HOME": "/root/.cache",
    "PIP_CACHE_DIR": "/root/.cache/pip",
    "npm_config_cache": "/root/.npm",
    "npm_config_store_dir": "/root/.npm/pnpm",
    "YARN_CACHE_FOLDER": "/root/.npm/yarn",
}


def use() -> None:
    """Set variables and write files for pip, uv, PDM, Poetry, git and npm."""
    bundle = FOLDER / "ca_bundle"
    if _is_given(bundle):
        names = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO")
        for name in (*names, "NODE_EXTRA_CA_CERTS", "npm_config_cafile"):
            os.environ[name] = str(bundle)
    if _is_given(FOLDER / "pip_index_url"):
        os.environ["PIP_INDEX_URL"] = (FOLDER / "pip_index_url").read_text().strip()
    given = {}
    if _is_given(FOLDER / "build_secrets"):
        given = json.loads((FOLDER / "build_secrets").read_text())
    PRIVATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Programs look for .netrc there, and leave nothing in the image.
    os.environ["HOME"] = str(PRIVATE)
    for name, folder in CACHES.items():
        os.environ.setdefault(name, folder)
    os.environ |= given.get("variables", {})
    os.environ["PROJECT_ROOT"] = str(Path.cwd())
    if netrc := os.environ.get("NETRC"):
        _write(PRIVATE / "netrc", f"{netrc.strip()}\n")
        _write(PRIVATE / ".netrc", f"{netrc.strip()}\n")
        os.environ["NETRC"] = str(PRIVATE / "netrc")
    if given.get("keys"):
        _use_keys(given["keys"], given["ssh"])
    # BuildKit sets the variable of an agent that it was not given, too.
    elif Path(os.environ.get("SSH_AUTH_SOCK", "")).is_socket():
        os.environ["GIT_SSH_COMMAND"] = shlex.join(["ssh", *_ssh_options()])


def _use_keys(keys: dict[str, str], program: str) -> None:
    """Let git start a program that chooses the key of a repository; it comes with the keys."""
    files = {}
    for number, (address, key) in enumerate(keys.items()):
        files[address] = str(PRIVATE / f"key-{number}")
        _write(PRIVATE / f"key-{number}", key.strip().replace("\r", "") + "\n")
    _write(PRIVATE / "keys.json", json.dumps({"keys": files, "options": _ssh_options()}))
    _write(PRIVATE / "ssh", program)
    # Nothing may be executed in that file system itself.
    command = f"{sys.executable} {PRIVATE / 'ssh'}"
    os.environ |= {"GIT_SSH_COMMAND": command, "GIT_SSH_VARIANT": "ssh"}


def _ssh_options() -> list[str]:
    strict = "accept-new"
    if hosts := os.environ.get("KNOWN_HOSTS"):
        _write(PRIVATE / "known_hosts", f"{hosts.strip()}\n")
        strict = "yes"
    known = f"-oUserKnownHostsFile={PRIVATE / 'known_hosts'}"
    return ["-oBatchMode=yes", f"-oStrictHostKeyChecking={strict}", known, "-oConnectTimeout=20"]


def hide(text: str) -> str:
    """Replace secrets in a text that is printed."""
    return re.sub(r"(://)[^/@\s]+@", r"\1***@", text)


def _is_given(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def _write(file: Path, text: str, mode: int = 0o600) -> None:
    file.touch(mode)
    file.chmod(mode)
    file.write_text(text)
