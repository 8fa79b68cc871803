"""How much memory the containers of a server may use, and how much each Postgres gets."""

import re
from typing import Any

from module_utils.app import has_postgres, is_present
from module_utils.services import services_memory

from checks.report import Finding

# All databases together get half of the memory: the rest is for the apps and the edge.
SHARE = 2
# Up to this many databases, the share of each is the same.
FEWEST = 2
LEAST_MB, MOST_MB = 128, 8192
# The least that each of so few databases gets, also on the smallest server.
LEAST_OF_FEW_MB = 256
# Services take from the share in steps of this, so that a small one does not restart databases.
STEP_MB = 512


def with_postgres(apps: Any) -> list[dict[str, Any]]:
    """List the entries of apps that run and have a Postgres."""
    entries = [app for app in apps if isinstance(app, dict)] if isinstance(apps, list) else []
    return [app for app in entries if is_present(app) and has_postgres(app)]


def postgres_memory(memory_mb: int, apps: Any) -> int:
    """
    Divide memory among the databases of a server.

    Parameters
    ----------
    memory_mb : int
        Memory of the server, in MiB.
    apps : Any
        Entries of ``apps``, absent ones too.

    Returns
    -------
    int
        Memory limit of each database, in MiB. It follows the number of databases in steps, 1 to 2,
        3 to 4, 5 to 8, 9 to 16, so that most new apps leave the other databases running. Each full
        512 MiB of services beside the apps counts as taken.
    """
    places = FEWEST
    while places < len(with_postgres(apps)):
        places *= 2
    least = max(LEAST_MB, LEAST_OF_FEW_MB * FEWEST // places)
    entries = [app for app in apps if isinstance(app, dict)] if isinstance(apps, list) else []
    taken = sum(services_memory(app) for app in entries if is_present(app)) // STEP_MB * STEP_MB
    return min(max((memory_mb - taken) // SHARE // places, least), MOST_MB)


def limits(apps: Any, app_mb: Any, postgres_mb: Any) -> dict[str, int]:
    """
    Add up the memory limits of each app.

    Parameters
    ----------
    apps : Any
        Entries of ``apps``, absent ones too.
    app_mb, postgres_mb : Any
        Limits in MiB of an app's container without ``memory_mb``, and of its Postgres.

    Returns
    -------
    dict of str to int
        MiB by app, including its workers, its services and its database.
    """
    found = {}
    databases = [id(app) for app in with_postgres(apps)]
    for app in apps if isinstance(apps, list) else []:
        if not isinstance(app, dict) or not is_present(app):
            continue
        workers = app.get("workers") or []
        count = 1 + (len(workers) if isinstance(workers, list) else 0)
        total = count * _number(app.get("memory_mb", app_mb)) + services_memory(app)
        found[str(app.get("name"))] = total + _number(postgres_mb) * (id(app) in databases)
    return found


def _number(value: Any) -> int:
    # The type check reports other values.
    return int(value) if re.fullmatch(r"\s*\d+\s*", str(value)) else 0


def check_memory(server: str, memory_mb: int, limits: dict[str, int]) -> list[Finding]:
    """
    Warn if all limits together exceed the server's memory.

    Parameters
    ----------
    server : str
        Its name in the inventory.
    memory_mb : int
        Its memory, in MiB.
    limits : dict of str to int
        What `limits` has returned.

    Returns
    -------
    list of Finding
        At most one warning.
    """
    total = sum(limits.values())
    if total <= memory_mb:
        return []
    parts = ", ".join(f"{name} {mb}" for name, mb in limits.items())
    wrong = (
        f"is less than the {total} MB that its apps, their services and their databases may use "
        f"({parts}), and if they all do, the kernel kills one of them"
    )
    fix = "Lower memory_mb of the apps or services or postgres_memory_mb, or use a larger server"
    return [Finding(f"{server}: memory", wrong, fix, f"{memory_mb} MB", warning=True)]
