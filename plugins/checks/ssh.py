"""Advice for the errors of ssh when a server does not answer."""

import re

# The first match counts, so specific errors come before general ones.
ADVICE = {
    r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for \S+ has changed": (
        "The server shows another host key than the one in known_hosts. If it was reinstalled "
        "or the address is another machine's now, remove the old key with `ssh-keygen -R {host}`, "
        "and compare the new one with what your provider's console shows; otherwise someone may be "
        "intercepting the connection"
    ),
    r"Host key verification failed|No \S+ host key is known": (
        "The server's host key is not in known_hosts: log in once with `ssh`, and compare the key "
        "with what your provider's console shows"
    ),
    r"UNPROTECTED PRIVATE KEY|bad permissions|Load key": (
        "ssh rejects the key file: run `chmod 600` on it, and check that it is a whole private key"
    ),
    r"Too many authentication failures": (
        "The agent offers too many keys: set ansible_ssh_private_key_file to the right one, with "
        "IdentitiesOnly yes for this host in ~/.ssh/config. Wait before you try again: after "
        "refused keys, sshd of Debian 13 and newer ignores an address for up to ten minutes "
        "(PerSourcePenalties)"
    ),
    r"Permission denied": (
        "Check ansible_user and your key with `ssh`. After a few refused keys, sshd of Debian 13 "
        "and newer closes all connections from your address for a while (PerSourcePenalties)"
    ),
    (
        r"Not allowed at this time|kex_exchange_identification|banner exchange"
        r"|Connection (closed|reset) by (remote host|peer|\S+ port \d+|UNKNOWN)"
    ): (
        "sshd closed the connection before the login. After refused keys, sshd of Debian 13 and "
        "newer closes all connections from an address for up to ten minutes "
        "(PerSourcePenalties); fail2ban and firewalls do the same. Wait, then try once with `ssh` "
        "and the right key. The server's console shows more with `journalctl -u ssh`"
    ),
    r"Could not resolve hostname|Name or service not known|name resolution": (
        "Correct ansible_host, or the DNS record that it refers to"
    ),
    r"Connection refused": (
        "Nothing listens on that port: check ansible_host and ansible_port, and whether sshd runs"
    ),
    r"timed out|No route to host|Network is unreachable": (
        "Check ansible_host, and whether the server is up and a firewall lets port 22 (or "
        "ansible_port) through"
    ),
}
OTHERWISE = "Check ansible_host, ansible_user, ansible_port and your key with `ssh`"


def ssh_advice(text: str, host: str = "", port: str = "") -> str:
    """
    Give advice for an error of ssh.

    Parameters
    ----------
    text : str
        The complete output of ssh.
    host, port : str, optional
        The address that ssh connected to.

    Returns
    -------
    str
        The advice, without a full stop at the end.
    """
    # known_hosts writes hosts with another port than 22 in this form.
    known = f"'[{host}]:{port}'" if port not in ("", "22") else host or "HOST"
    for pattern, advice in ADVICE.items():
        if re.search(pattern, text, re.IGNORECASE):
            return advice.format(host=known)
    return OTHERWISE
