"""Give git one SSH key for each repository."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

# The key of the app's own repository, and of those without a key of their own.
OF_SOURCE = "source"

# Git starts this instead of ssh, with the host and `git-upload-pack 'PATH'` at the end. It is also
# written into the container of a build, so it needs nothing but Python.
PROGRAM = '''#!/usr/bin/env python3
"""Start ssh with the key of the repository that git asks for."""
import json, os, re, sys
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "keys.json")) as file:
    given = json.load(file)
words = sys.argv[1:]
host = words[-2].rpartition("@")[2].lower() if len(words) > 1 else ""
path = re.sub(r"^git[ -][a-z-]+ '?/*|'?( (down|up)load)?$", "", words[-1]).strip("/")
path = path[:-4] if path.endswith(".git") else path
key = given["keys"].get(f"{host}/{path}") or given["keys"].get("source")
options = list(given["options"])
if key:
    options += ["-i", key, "-oIdentitiesOnly=yes", "-oIdentityAgent=none"]
os.execvp("ssh", ["ssh", *options, *words])
'''


def address(text: str) -> str:
    """
    Reduce the address of a repository to ``host/path``, so that its forms can be compared.

    Parameters
    ----------
    text : str
        Such as ``git@git.example.org:me/core.git`` or ``ssh://git@git.example.org:22/me/core``.

    Returns
    -------
    str
        Such as ``git.example.org/me/core``.
    """
    rest = re.sub(r"^(git\+)?\w+://", "", text.strip().removeprefix("git+"))
    has_scheme = "://" in text
    rest = re.sub(r"^[^/@]*@", "", rest)
    host, mark, path = re.fullmatch(r"([^/:]*)([/:]?)(.*)", rest, re.DOTALL).groups()
    if has_scheme and mark == ":":
        path = re.sub(r"^\d*/", "", path)
    return f"{host.lower()}/{path.strip('/').removesuffix('.git')}"


def keys_of(given: str | Mapping[str, str] | None) -> dict[str, str]:
    """Return keys by address; a single key is that of the source."""
    if not given:
        return {}
    if isinstance(given, str):
        return {OF_SOURCE: given}
    return {
        name if name == OF_SOURCE else address(str(name)): str(key) for name, key in given.items()
    }


def write(folder: Path, keys: Mapping[str, str], options: Iterable[str]) -> str:
    """
    Write keys, and the program that chooses among them.

    Parameters
    ----------
    folder : pathlib.Path
        A folder that only this user may read.
    keys : mapping of str to str
        As from `keys_of`.
    options : iterable of str
        Options of ssh.

    Returns
    -------
    str
        The command for ``GIT_SSH_COMMAND``.
    """
    files = {}
    for number, (name, key) in enumerate(keys.items()):
        file = folder / f"key-{number}"
        # ssh refuses a key that others may read.
        file.touch(0o600)
        file.write_text(key.strip().replace("\r", "") + "\n")
        files[name] = str(file)
    (folder / "keys.json").write_text(json.dumps({"keys": files, "options": list(options)}))
    program = folder / "ssh"
    program.write_text(PROGRAM)
    # Programs in a folder for temporary files may not be executable.
    return shlex.join([sys.executable, str(program)])
