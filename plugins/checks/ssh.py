"""What ssh says when a server does not answer, and what the operator can do about it."""

import re

# The first that fits; what is more special stands before what it also says.
ADVICE = {
    r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for \S+ has changed": (
        "The server shows another host key than the one in known_hosts. If it was installed anew "
        "or the address is another machine's now, remove the old key with `ssh-keygen -R {host}`, "
        "and compare the new one with what your provider's console shows; if not, somebody may be "
        "in between"
    ),
    r"Host key verification failed|No \S+ host key is known": (
        "The server's host key is not in known_hosts: log in once with `ssh`, and compare the key "
        "with what your provider's console shows"
    ),
    r"UNPROTECTED PRIVATE KEY|bad permissions|Load key": (
        "ssh does not take the key's file: `chmod 600` it, and see that it is a whole private key"
    ),
    r"Too many authentication failures": (
        "The agent offers too many keys: name the right one in ansible_ssh_private_key_file, with "
        "IdentitiesOnly yes for this host in ~/.ssh/config. Wait before you try again: sshd of "
        "Debian 13 and newer answers nobody from an address that it has refused, for up to ten "
        "minutes (PerSourcePenalties)"
    ),
    r"Permission denied": (
        "Check ansible_user and your key with `ssh`. After a few refused keys sshd of Debian 13 "
        "and newer closes all connections from your address for a while (PerSourcePenalties)"
    ),
    (
        r"Not allowed at this time|kex_exchange_identification|banner exchange"
        r"|Connection (closed|reset) by (remote host|peer|\S+ port \d+|UNKNOWN)"
    ): (
        "sshd closed the connection before the login. After refused keys that of Debian 13 and "
        "newer does so with all from the same address for a while, up to ten minutes "
        "(PerSourcePenalties), and so do fail2ban and firewalls: wait, then try once with `ssh` "
        "and the right key. The server's console shows more with `journalctl -u ssh`"
    ),
    r"Could not resolve hostname|Name or service not known|name resolution": (
        "Mend ansible_host, or the DNS record that it names"
    ),
    r"Connection refused": (
        "Nothing listens at that port: check ansible_host and ansible_port, and whether sshd runs"
    ),
    r"timed out|No route to host|Network is unreachable": (
        "Check ansible_host, and whether the server is up and a firewall lets port 22 (or "
        "ansible_port) through"
    ),
}
OTHERWISE = "Check ansible_host, ansible_user, ansible_port and your key with `ssh`"


def ssh_advice(text: str, host: str = "", port: str = "") -> str:
    """
    Say what to do about ssh's words.

    Parameters
    ----------
    text : str
        What ssh said, whole.
    host, port : str, optional
        Whom it asked.

    Returns
    -------
    str
        A fix, without a full stop at its end.
    """
    # known_hosts has another port than the usual in this form.
    known = f"'[{host}]:{port}'" if port not in ("", "22") else host or "HOST"
    for pattern, advice in ADVICE.items():
        if re.search(pattern, text, re.IGNORECASE):
            return advice.format(host=known)
    return OTHERWISE
