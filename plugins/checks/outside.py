"""Rules for what an app reaches outside its own network: databases, brokers, mail servers."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from module_utils.app import setting
from module_utils.services import is_true, services_of

from checks.report import UNKNOWN, Finding
from checks.services import own_names

LOOPBACK = re.compile(r"localhost(\.localdomain)?|127\.\d+\.\d+\.\d+|0\.0\.0\.0|::1")
# What the nftables rules close, as in roles/docker/files/isolate.
PRIVATE = [
    ipaddress.ip_network(text)
    for text in (
        *("10.0.0.0/8", "100.64.0.0/10", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "fc00::/7", "fe80::/10"),
    )
]
# Variables of Flask-Mail, Flask-Security and others that name a mail server, and those of its port.
MAIL_HOST = re.compile(r"(\w+_)?(MAIL|SMTP|EMAIL)_?(SERVER|HOST|HOSTNAME)")
MAIL_PORT = re.compile(r"(\w+_)?(MAIL|SMTP|EMAIL)_?PORT")
SMTP_PORT = 25
PORTS = {
    "postgres": 5432,
    "postgresql": 5432,
    "mysql": 3306,
    "mariadb": 3306,
    "mongodb": 27017,
    "redis": 6379,
    "rediss": 6379,
    "amqp": 5672,
    "amqps": 5671,
    "mssql": 1433,
    "oracle": 1521,
    "cockroachdb": 26257,
    "smtp": 25,
    "smtps": 465,
}
QUEUES = re.compile(r"(^|[\s/;&|])(rq|rqworker|rqscheduler|celery|dramatiq|arq|huey_consumer)\b")
BROKER = re.compile(r"REDIS|VALKEY|BROKER|AMQP|RABBIT|CELERY|QUEUE|SQS", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """
    A server that an app connects to.

    Parameters
    ----------
    variable : str
        The path of the variable that names it.
    host : str
        Its name or address.
    port : int
        Its port.
    """

    variable: str
    host: str
    port: int


def check_outside(
    where: str, app: dict[str, Any], given: Any, reach: Any, isolated: bool = True
) -> list[Finding]:
    """
    Check what an app connects to, without connecting.

    Parameters
    ----------
    where : str
        The app's place.
    app : dict
        Its entry.
    given : Any
        What ``vault_app_secrets`` holds for it.
    reach : Any
        ``docker_apps_may_reach``.
    isolated : bool, optional
        Whether the rules against private networks are loaded.

    Returns
    -------
    list of Finding
        Problems and warnings.
    """
    if given is UNKNOWN or not isinstance(given, Mapping | None):
        given = None
    open_ = is_true(setting(app, "internet"), default=True)
    found = []
    if open_ and not isolated:
        wrong = "lets the app reach this server, private networks and metadata services as well"
        fix = "Set docker_isolation_enabled to true, or internet to false"
        found.append(Finding(f"{where}.internet", wrong, fix, warning=True))
    name = app.get("name")
    if setting(app, "database") == "external":
        found += _database(f"vault_app_secrets.{name}.DATABASE_URL", app, given)
    found += _broker(where, app, given)
    for target in targets(where, app, given):
        found += _target(target, app, open_, reach)
    return found


def targets(where: str, app: dict[str, Any], given: Any) -> list[Target]:
    """List the servers that an app's variables name, as far as they can be recognized."""
    environment = app.get("environment")
    found = []
    variables = environment.items() if isinstance(environment, dict) else ()
    texts = {str(k): str(v) for k, v in variables if v is not UNKNOWN and v is not None}
    for name, text in texts.items():
        spot = f"{where}.environment.{name}"
        if MAIL_HOST.fullmatch(name) and re.fullmatch(r"[\w.:-]+", text):
            prefix = MAIL_HOST.fullmatch(name)[1] or ""
            ports = (v for k, v in texts.items() if MAIL_PORT.fullmatch(k) and k.startswith(prefix))
            port = next((int(v) for v in ports if re.fullmatch(r"\d{1,5}", v)), SMTP_PORT)
            found.append(Target(spot, text, port))
        elif target := _of_url(spot, text):
            found.append(target)
    if setting(app, "database") == "external" and isinstance(given, Mapping):
        spot = f"vault_app_secrets.{app.get('name')}.DATABASE_URL"
        if target := _of_url(spot, str(given.get("DATABASE_URL") or ""), any_scheme=True):
            found.append(target)
    return found


def _of_url(variable: str, text: str, any_scheme: bool = False) -> Target | None:
    """Read the address in a URL of a database, a broker or a mail server; an unknown port is 0."""
    try:
        url = urlsplit(text.strip())
        port = url.port
    except ValueError:
        return None
    default = PORTS.get(url.scheme.partition("+")[0], 0 if any_scheme else None)
    if default is None:
        return None
    return Target(variable, url.hostname, port or default) if url.hostname else None


def _database(place: str, app: dict[str, Any], given: Any) -> list[Finding]:
    """Check the address of a database elsewhere; a finding never shows it."""
    example = "such as postgresql://USER:PASSWORD@db.example.org:5432/NAME"
    environment = app.get("environment")
    if isinstance(environment, dict) and "DATABASE_URL" in environment:
        return []  # reported there
    url = (given or {}).get("DATABASE_URL")
    if url is UNKNOWN:
        return []
    if url in (None, ""):
        return [
            Finding(place, "is missing, but database is external", f"Write its address, {example}")
        ]
    if not isinstance(url, str):
        return []  # reported as a secret
    scheme = url.partition(":")[0].partition("+")[0]
    try:
        split = urlsplit(url.strip())
        _ = split.port
    except ValueError:
        fix = f"Write it {example}, with special characters of the password as %XX"
        return [Finding(place, "is not a valid URL", fix)]
    if scheme == "sqlite":
        fix = "Set database: sqlite, or database: none and the file's folder in volumes"
        return [Finding(place, "names a file, not a server", fix)]
    if "://" not in url:
        return [Finding(place, "is not a URL", f"Write it {example}")]
    if not split.hostname:
        fix = f"Write it {example}, with special characters of the password as %XX"
        return [Finding(place, "names no host", fix)]
    return []


def _target(target: Target, app: dict[str, Any], is_open: bool, reach: Any) -> list[Finding]:
    """Judge an address by itself."""
    # The variable's value may be a secret, and the host is enough to know.
    mild = not target.variable.startswith("vault_")
    named = f"names {target.host}" if mild else "names a host"
    hosts = own_names(app)
    if LOOPBACK.fullmatch(target.host):
        wrong = f"names {target.host}, which is the app's own container, where nothing listens"
        return [Finding(target.variable, wrong, _instead(target), warning=mild)]
    if target.host in hosts:
        if target.host != "db" or setting(app, "database") == "postgres":
            return []
        wrong = "names db, but the app has no Postgres of its own"
        return [Finding(target.variable, wrong, "Set database: postgres", warning=mild)]
    if not is_open:
        wrong = f"{named}, which the app cannot reach with internet: false"
        fix = "Set internet: true, or add it to services"
        return [Finding(target.variable, wrong, fix, warning=mild)]
    try:
        address = ipaddress.ip_address(target.host)
    except ValueError:
        return []
    if any(address in network for network in PRIVATE) and not _allowed(address, reach):
        wrong = f"{named} with a private address, which apps may not reach"
        fix = "Add the address to docker_apps_may_reach"
        return [Finding(target.variable, wrong, fix, warning=mild)]
    return []


def _instead(target: Target) -> str:
    if target.port == PORTS["redis"]:
        return "Add services: [valkey], and let the app use REDIS_URL"
    if target.port in (25, 465, 587, 1025, 2525):
        return (
            "Write the name of a mail server. One on this server is reached at the gateway of the "
            "app's network, if docker_apps_may_reach_ports has its port"
        )
    if target.port == PORTS["postgresql"]:
        return "Set database: postgres, and let the app use DATABASE_URL"
    return "Add it to services with an image, and use the name of the service as host"


def _allowed(address: Any, reach: Any) -> bool:
    for text in reach if isinstance(reach, list) else []:
        try:
            if address in ipaddress.ip_network(str(text), strict=False):
                return True
        except ValueError:
            continue
    return False


def _broker(where: str, app: dict[str, Any], given: Any) -> list[Finding]:
    """Find workers of a queue without a broker."""
    environment = app.get("environment")
    names = [*(environment if isinstance(environment, dict) else ()), *(given or ())]
    if services_of(app) or any(BROKER.search(str(name)) for name in names):
        return []
    found = []
    for key in ("workers", "cron"):
        listed = app.get(key)
        for number, process in enumerate(listed if isinstance(listed, list) else []):
            command = process.get("command") if isinstance(process, dict) else None
            if isinstance(command, str) and (match := QUEUES.search(command)):
                wrong = f"runs {match[2]}, but the app has no broker"
                fix = "Add services: [valkey], and let the app use REDIS_URL"
                spot = f"{where}.{key}[{number}].command"
                found.append(Finding(spot, wrong, fix, command, warning=True))
    return found


def check_reached(server: str, wanted: list[Target], errors: Mapping[str, str]) -> list[Finding]:
    """
    Judge which servers this one reached.

    Parameters
    ----------
    server : str
        Its name in the inventory.
    wanted : list of Target
        What was asked for.
    errors : mapping
        By ``HOST:PORT`` why a connection failed; empty if it did not.

    Returns
    -------
    list of Finding
        Warnings, because the other server may be down for a moment.
    """
    found = []
    for target in wanted:
        error = errors.get(f"{target.host}:{target.port}", "")
        if error:
            secret = target.variable.startswith("vault_")
            shown = "its server" if secret else f"{target.host}:{target.port}"
            wrong = f"{shown} cannot be reached from {server} ({error})"
            found.append(Finding(target.variable, wrong, _reason(target, error), warning=True))
    return found


def _reason(target: Target, error: str) -> str:
    if re.search(r"resol|known|hostname", error):
        return "Correct the name, or see /etc/resolv.conf on the server"
    if target.port == SMTP_PORT:
        return "Most providers close port 25: use the mail server's port 587 or 465"
    if re.search(r"unreachable|No route", error):
        return "The server itself has no route there: check its network and its firewall"
    return "Check the port, the other server's firewall, and whether your provider closes the port"
