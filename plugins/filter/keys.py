"""Filters for the keys and secrets that fetching a source and building an image need."""

import getpass
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Ansible loads each plugin alone; the code they share is in the folders beside theirs.
sys.path.append(str(Path(__file__).parents[1]))
from module_utils.public_keys import public_keys
from module_utils.ssh_keys import OF_SOURCE, PROGRAM, keys_of


def deploy_keys(given: str | Mapping[str, str] | None) -> dict[str, str]:
    """Return the SSH keys of an app by the address of the repository."""
    return {str(name): str(key) for name, key in keys_of(_plain(given)).items()}


def build_secrets(variables: Mapping[str, str] | None, keys: Any) -> str:
    """
    Write the secrets of a build into one text, which is a BuildKit secret.

    Parameters
    ----------
    variables : mapping of str to str
        Variables for the programs that download something.
    keys : str or mapping of str to str
        The app's SSH keys. That of its own repository stays on the controller.

    Returns
    -------
    str
        JSON; empty without any secret.
    """
    others = {name: key for name, key in deploy_keys(keys).items() if name != OF_SOURCE}
    given = {str(name): str(value) for name, value in (variables or {}).items()}
    if not others and not given:
        return ""
    # The line break keeps Ansible from taking the text for a dictionary.
    return "\n" + json.dumps({"variables": given, "keys": others, "ssh": PROGRAM})


def build_agents(keys: Any, folder: str, socket: str = "") -> list[dict[str, str]]:
    """
    List the SSH agents of a build, which a Dockerfile mounts with ``--mount=type=ssh``.

    Parameters
    ----------
    keys : str or mapping of str to str
        The app's SSH keys. That of its own repository is in no agent.
    folder : str
        A folder on the server, for a file of each key.
    socket : str
        Path of the socket of an agent that the operator forwards; it becomes the default agent.

    Returns
    -------
    list of dict
        Each with its ``option`` for ``docker buildx build --ssh``, and with ``src`` and
        ``content`` if it is a key. Every key is also an agent of its own, named after the address.
    """
    others = [(name, key) for name, key in deploy_keys(keys).items() if name != OF_SOURCE]
    found = []
    for number, (name, key) in enumerate(others):
        src = f"{folder}/.key_{number}"
        content = key.strip().replace("\r", "") + "\n"
        found.append({"option": f"{name}={src}", "src": src, "content": content})
    if socket:
        return [{"option": f"default={socket}"}, *found]
    if found:
        files = ",".join(agent["src"] for agent in found)
        return [{"option": f"default={files}"}, *found]
    return []


def _plain(given: Any) -> Any:
    if isinstance(given, Mapping) or not given:
        return given
    return str(given)


def admin_keys(keys: list[str]) -> str:
    """Return the public keys of an admin, one a line; each is given as text or as a file."""
    return "\n".join(line for key in keys for line in public_keys(str(key)))


def admin_names(admins: Any, user: str = "", key_file: str = "") -> list[str]:
    """
    Choose the admins to log in as: those whose key is on this machine come first.

    Each refused login counts for sshd's penalties, so there are two at most.

    Parameters
    ----------
    admins : list of dict
        The value of ``access_admins``, which was not checked yet.
    user : str, optional
        The user of the inventory.
    key_file : str, optional
        The private key of the connection.

    Returns
    -------
    list of str
        Their names.
    """
    known = [admin for admin in admins if isinstance(admin, Mapping) and admin.get("name")]
    here = _keys_here(key_file)
    ranks = {}
    for admin in known:
        try:
            lines = admin_keys(list(admin.get("keys") or []))
        except (OSError, TypeError, ValueError):
            lines = ""
        own = any(line.split(" ")[1] in here for line in lines.splitlines())
        name = str(admin["name"])
        ranks[name] = (name != user, not own, name != getpass.getuser())
    return sorted(ranks, key=ranks.__getitem__)[:2]


def _keys_here(key_file: str) -> set[str]:
    """Return the public keys, without type and comment, whose private keys are here."""
    files = [*Path("~/.ssh").expanduser().glob("*.pub"), Path(f"{key_file}.pub").expanduser()]
    texts = [file.read_text(errors="replace") for file in files if file.is_file()]
    try:
        command = ["ssh-add", "-L"]
        texts.append(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    except OSError:
        pass
    words = [line.split(" ") for text in texts for line in text.splitlines()]
    return {word[1] for word in words if len(word) > 1}


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {
            "admin_keys": admin_keys,
            "admin_names": admin_names,
            "build_agents": build_agents,
            "build_secrets": build_secrets,
            "deploy_keys": deploy_keys,
        }
