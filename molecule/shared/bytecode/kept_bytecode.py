"""
Keep the bytecode of what Python imports from zip files, and collect garbage rarely.

Ansible sends each module as a zip of sources, which Python unpacks and compiles anew every time,
and twice: to find a file's name, and to run it. That is a third of what a module costs. The tests
run the same ones thousands of times. Each ends before it has made garbage worth the search.
"""

# Each start of Python runs this, and pathlib would slow it down.
# ruff: noqa: PTH103, PTH104, PTH123

import _imp
import gc
import marshal
import os
import zipimport

# Gone with a reboot, and no file of the server's.
FOLDER = f"/run/kept-bytecode-{os.getuid()}"

compile_source = zipimport._compile_source
get_module_code = zipimport._get_module_code
found = {}


def compiled(path: str, source: bytes) -> object:
    """
    Compile a module, or take what an earlier process has compiled.

    Parameters
    ----------
    path : str
        Where the module is.
    source : bytes
        Its text.

    Returns
    -------
    object
        The code object that zipimport runs.
    """
    # The hash of Python's own hash-based .pyc files: https://peps.python.org/pep-0552/
    kept = f"{FOLDER}/{_imp.source_hash(0, source).hex()}-{len(source)}"
    try:
        with open(kept, "rb") as file:
            return marshal.load(file)  # noqa: S302  # only this wrote it
    except (OSError, EOFError, ValueError):
        code = compile_source(path, source)
    try:
        os.makedirs(FOLDER, mode=0o700, exist_ok=True)
        with open(f"{kept}.{os.getpid()}", "wb") as file:
            marshal.dump(code, file)
        os.rename(file.name, kept)
    except OSError:
        pass
    return code


def found_once(importer: zipimport.zipimporter, name: str) -> tuple[object, bool, str]:
    """
    Find a module's code, or hand out what was found when its file's name was asked for.

    Parameters
    ----------
    importer : zipimport.zipimporter
        Where to look.
    name : str
        Full name of the module.

    Returns
    -------
    tuple
        The code object, whether it is a package, and its path.
    """
    key = (importer.archive, importer.prefix, name)
    if key in found:
        return found.pop(key)
    found[key] = get_module_code(importer, name)
    return found[key]


zipimport._compile_source = compiled
zipimport._get_module_code = found_once
gc.set_threshold(2_000_000)
