"""
Count the connections of the edge that the app's server has accepted.

The kernel lists an accepted Unix socket in the network namespace of the client, here nginx's. So
these are the sockets that processes of this container hold but that no table of its own namespace
lists.
"""

import re
from pathlib import Path

PROC = Path("/proc")
# Tables below /proc/net, and the column of the socket's inode: proc(5), "packet(7)" and "unix(7)".
TABLES = {"unix": 6, "packet": 8}
TABLES |= dict.fromkeys(("netlink", "raw", "raw6", "tcp", "tcp6", "udp", "udp6"), 9)
# An accepted (03) or waiting (02) connection of a client in this namespace, such as a test.
OWN_CLIENT = re.compile(r" 0[23] +\d+ /sockets/app\.sock(\.closed)?$")


def count() -> int:
    """Count the open connections."""
    return len(_held() - _listed())


def _held() -> set[str]:
    found = set()
    for link in PROC.glob("[0-9]*/fd/*"):
        try:
            kind, _, inode = str(link.readlink()).partition(":")
        except OSError:
            continue  # closed, or the process has ended
        if kind == "socket":
            found.add(inode.strip("[]"))
    return found


def _listed() -> set[str]:
    found = set()
    for table, column in TABLES.items():
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        words = [line.split() for line in lines if not OWN_CLIENT.search(line)]
        found |= {row[column] for row in words if len(row) > column}
    return found


if __name__ == "__main__":
    print(count())
