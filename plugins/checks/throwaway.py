"""The network of a throwaway server, in which Pebble finds only the names that it lists."""

import subprocess

from checks.report import Finding

ALIASES = "{{range .NetworkSettings.Networks}}{{range .Aliases}}{{println .}}{{end}}{{end}}"


def known_names(server: str) -> set[str]:
    """
    List the names by which the containers beside a throwaway server find it.

    Parameters
    ----------
    server : str
        Name of its container on this machine.

    Returns
    -------
    set of str
        Empty if there is no such container, or if this user may not use Docker.
    """
    command = ["docker", "container", "inspect", "--format", ALIASES, server]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return set()
    return set(done.stdout.split()) if done.returncode == 0 else set()


def check_names(domains: dict[str, str], known: set[str]) -> list[Finding]:
    """
    Find domains that the test authority cannot resolve.

    Parameters
    ----------
    domains : dict of str to str
        Domains that get a certificate from it, each with the place of its app's entry.
    known : set of str
        What `known_names` returned; empty if the server does not exist.

    Returns
    -------
    list of Finding
        Warnings, since the deploy itself works.
    """
    if not known:
        return []
    return [
        Finding(
            f"{where}.domains",
            "is unknown to the test authority beside this throwaway server, which issues no "
            "certificate for it",
            "Run `make up`, which adds the domain there, instead of deploy.yml alone",
            domain,
            warning=True,
        )
        for domain, where in domains.items()
        if domain not in known
    ]
