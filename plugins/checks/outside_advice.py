"""What to do about failed connections of an app, which its log shows."""

import re

LOOKUP = re.compile(
    r"Temporary failure in name resolution|Name or service not known|could not translate host name"
    r"|No address associated with hostname|NameResolutionError|Name does not resolve"
    r"|nodename nor servname|getaddrinfo|gaierror|(?-i:EAI_AGAIN|ENOTFOUND)",
    re.IGNORECASE,
)
# Where messages of libraries name the host.
HOST = re.compile(
    r"could not translate host name \"(?P<a>[^\"]+)\""
    r"|Error -\d+ connecting to (?P<b>[\w.-]+):\d+"
    r"|host='(?P<c>[^']+)'"
    r"|Can't connect to \w+ server on '(?P<d>[\w.-]+)"
    r"|getaddrinfo (?:ENOTFOUND|EAI_AGAIN) (?P<e>[\w.-]+)"
    r"|(?:amqps?|rediss?|mongodb|mysql|postgresql)(?:\+\w+)?://(?:[^@\s/]*@)?(?P<f>[\w.-]+)"
    r"|Failed to resolve '(?P<g>[^']+)'"
)
VALKEY = "add `services: [valkey]` to its entry, and let it use REDIS_URL."
POSTGRES = "set `database: postgres` in its entry, and let it use DATABASE_URL."
# Names that apps use in their own Compose files.
KNOWN = {
    ("redis", "valkey", "cache"): VALKEY,
    ("memcached", "memcache"): "add `services: [memcached]`, and let it use MEMCACHED_SERVERS.",
    ("db", "postgres", "postgresql", "pg", "database"): POSTGRES,
}
LOCAL = r"(?:localhost|127\.0\.0\.1|::1)"
CLOSED = (
    "The app cannot reach other servers, because its entry has `internet: false`: set it to true, "
    "or let the start not depend on other servers."
)
UNREACHABLE = (
    "The server has no route to an address that the app uses. The networks of apps have IPv4 only, "
    "and reach what the server itself reaches: check its network and its firewall."
)
MAIL = (
    "The app could not connect to its mail server: check the host and the port in its variables. "
    "Most providers close port 25: use 587 or 465. In the app's container there is no mail server, "
    "so localhost does not work."
)
ERRORS = {
    r"No route to host|EHOSTUNREACH|\[Errno 113\]": (
        "The app asked an address that apps may not reach: this server, a private network or "
        "another app. Add a private address to docker_apps_may_reach, or a port of the server to "
        "docker_apps_may_reach_ports. Or the server itself has no route there."
    ),
    r"SMTPAuthenticationError|\b535[ -]5\.7\.": (
        "The mail server refused the login: correct the user name and the password, which belongs "
        "into the vault."
    ),
    r"SMTP(?:Sender|Recipients)Refused|Relay access denied|SMTPDataError": (
        "The mail server refused the sender or the recipient: it may need a login, or another "
        "sender."
    ),
    (
        r"SMTPConnectError|SMTPServerDisconnected"
        r"|(?s:smtplib.{0,2000}?(?:Connection refused|timed out|TimeoutError))"
    ): MAIL,
    rf"connecting to {LOCAL}:6379|redis(?:s)?://(?:[^@\s/]*@)?{LOCAL}.{{0,200}}refused": (
        f"The app looks for Redis in its own container: {VALKEY}"
    ),
    rf"connection to server at \"{LOCAL}\"": (
        f"The app looks for Postgres in its own container: {POSTGRES}"
    ),
    rf"amqps?://(?:[^@\s/]*@)?{LOCAL}": (
        "The app looks for RabbitMQ in its own container: add `services: [valkey]` and use "
        "REDIS_URL as the broker, or add RabbitMQ to `services` by its image."
    ),
    r"KeyError: '(?:REDIS|VALKEY|RQ_REDIS)_URL'": f"The app lacks its broker's address: {VALKEY}",
    r"NOAUTH Authentication required|WRONGPASS invalid username-password": (
        "Valkey refused the login: let the app use REDIS_URL as it is, which has the password."
    ),
}


def outside_advice(log: str, internet: bool = True) -> list[str]:
    """
    Say what to do about the failed connections in a log.

    Parameters
    ----------
    log : str
        Log of the app.
    internet : bool, optional
        Whether its entry lets it reach other servers.

    Returns
    -------
    list of str
        Sentences for the operator.
    """
    found = []
    if LOOKUP.search(log):
        found.append(_lookup(log, internet))
    if re.search(r"Network is unreachable|ENETUNREACH|\[Errno 101\]", log):
        found.append(UNREACHABLE if internet else CLOSED)
    found += [text for pattern, text in ERRORS.items() if re.search(pattern, log)]
    return list(dict.fromkeys(found))


def _lookup(log: str, internet: bool) -> str:
    match = HOST.search(log)
    host = next(filter(None, match.groups()), "") if match else ""
    for names, text in KNOWN.items():
        if host in names:
            return f"The app looks for {host}, which its network does not have: {text}"
    if host and "." not in host:
        return (
            f"The app looks for {host}, which its network does not have: correct the name, or add "
            "the service to `services`, by its image if it is not a known one."
        )
    if not internet:
        return CLOSED
    named = f"the name {host}" if host else "a name"
    return (
        f"The app looks up {named}, which the server's resolver does not know: correct it, or see "
        "/etc/resolv.conf on the server. Its own network has only `db` and its services. Let the "
        "start not depend on other servers."
    )
