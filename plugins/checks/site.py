"""Rules for the whole inventory, checked before any server is contacted."""

import datetime
import ipaddress
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from module_utils.acme import DIRECTORIES, directory
from module_utils.app import BUILD_SECRETS
from module_utils.services import is_true

from checks.access import check_access
from checks.apps import check_apps, filled, present
from checks.base import check_base
from checks.builds import check_builds, check_deploy_keys
from checks.capacity import check_capacity
from checks.certificates import check_certificate
from checks.databases import check_versions
from checks.domains import PLACEHOLDERS, shared_domains
from checks.files import is_file, is_folder, local
from checks.host import postgres_major
from checks.outside import check_outside
from checks.own_image import IMAGE
from checks.report import UNKNOWN, Finding, nearest
from checks.secrets import check_secrets
from checks.services import check_services
from checks.site_settings import check_logins
from checks.spec import check_names, check_types

EMAIL = re.compile(r"[^@\s,;:<>\"()]+@([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,63}")
# Addresses reserved for documentation: RFC 5737, RFC 3849.
EXAMPLES = [
    ipaddress.ip_network(network)
    for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]
RELEASES = {"debian": ("trixie", "bookworm"), "ubuntu": ("noble",)}
# Variables with one part per app.
OF_APPS = (
    *("apps", "vault_app_secrets", "vault_basic_auth", "vault_build_secrets", "vault_deploy_keys"),
)
TEST_ENVIRONMENTS = re.compile(r"staging|stage|local|vagrant|dev|test", re.IGNORECASE)
PRODUCTION = re.compile(r"prod(uction)?([-_.].*)?", re.IGNORECASE)


@dataclass
class Site:
    """
    What the rules need to know about an inventory.

    Parameters
    ----------
    values : dict
        Computed values of the known variables that the inventory sets; ``UNKNOWN`` on failure.
    names : dict
        All variables that the inventory sets, not computed.
    options : dict
        The options of all roles and of the inventory, by name.
    entry : dict
        The options of an entry of ``apps``.
    roles : collection of str
        Names of the roles.
    environment : str
        Name of the inventory's folder, such as ``prod``.
    examples : collection of str
        Secrets in the project's own examples.
    read : callable
        Reads a file of this machine. Raises OSError, or ValueError if it cannot be decrypted.
    now : datetime.datetime
        The current time, with time zone.
    certificates_checked : bool
        Whether to check the operator's own certificates, which a rollback does not need.
    defaults : dict
        The defaults of all roles.
    """

    values: dict[str, Any]
    options: dict[str, Any]
    entry: dict[str, Any]
    names: dict[str, Any] = field(default_factory=dict)
    roles: Collection[str] = ()
    environment: str = ""
    examples: Collection[str] = ()
    read: Callable[[str], bytes] = lambda path: local(path).read_bytes()
    now: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))
    certificates_checked: bool = True
    defaults: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = "") -> Any:
        """Return a variable, or its default if it is not set or could not be computed."""
        value = self.values.get(name)
        if value is UNKNOWN or value is None:
            return self.options.get(name, {}).get("default", default)
        return value

    @property
    def ca(self) -> str:
        """URL of the authority's directory."""
        return directory(str(self.get("acme_ca")))

    @property
    def ca_bundle(self) -> str:
        """File with the authority's own CA certificate, or nothing."""
        return str(self.get("acme_ca_bundle"))

    @property
    def public_ca(self) -> bool:
        """Whether certificates come from a public authority."""
        return self.ca in DIRECTORIES.values()

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Entries of all apps, absent ones too."""
        apps = self.get("apps", [])
        return [app for app in apps if isinstance(app, dict)] if isinstance(apps, list) else []

    @property
    def wanted(self) -> list[str]:
        """Names that the operator gave with ``-e app=``; empty for all apps."""
        names = self.get("app")
        return re.split(r"[,\s]+", names.strip()) if isinstance(names, str) and names else []

    @property
    def chosen(self) -> list[dict[str, Any]]:
        """Entries of the apps that this run covers."""
        return [e for e in self.entries if not self.wanted or e.get("name") in self.wanted]

    @property
    def apps(self) -> list[tuple[str, dict[str, Any]]]:
        """Place and entry of each present app that this run covers."""
        apps = self.get("apps", [])
        found = present(apps) if isinstance(apps, list) else []
        return [(place, app) for place, app in found if app in self.chosen]

    def tls(self, app: dict[str, Any]) -> str:
        """Return where an app's certificate comes from."""
        return str(app.get("tls") or self.get("tls"))

    @property
    def images(self) -> dict[str, Any]:
        """Names of upstream images that the inventory sets."""
        images = self.get("images_registry", {})
        return images if isinstance(images, dict) else {}

    @property
    def asks_ca(self) -> bool:
        """Whether any certificate comes from an authority; without apps, the default decides."""
        kinds = [self.tls(app) for _, app in self.apps] or [self.get("tls")]
        return "acme" in kinds


def check_site(site: Site) -> list[Finding]:
    """Check every value of the inventory."""
    found = check_names(site.names, site.options, site.roles)
    found += check_types({n: v for n, v in site.values.items() if n != "apps"}, site.options)
    found += check_apps(site.values.get("apps"), site.entry, site.public_ca, str(site.get("tls")))
    # Chosen apps come last, because the second app with a domain is the one that is reported.
    apps = present(site.values.get("apps")) if site.entries else []
    found += shared_domains(sorted(apps, key=lambda pair: pair[1] in site.chosen)) + _names(site)
    found += _secrets(site) + _acme(site) + _images(site) + _files(site) + _engine(site)
    found += _builds(site) + check_builds(site, site.defaults) + _logins(site) + _services(site)
    found += check_base(site) + check_access(site)
    found += check_versions(site.apps, str(site.get("images_source", "debian")))
    for where, app in site.apps:
        found += check_capacity(filled(app), where, site.get("app_memory_mb", 512))
    for where, app in site.apps if site.certificates_checked else []:
        if site.tls(app) == "own":
            found += check_certificate(app, where, site.read, site.now)
    return found


def _services(site: Site) -> list[Finding]:
    """Check the services of all apps, and what the apps connect to."""
    apps = present(site.values.get("apps")) if site.entries else []
    vault, reach = site.get("vault_app_secrets", {}), site.get("docker_apps_may_reach", [])
    options = site.entry.get("services", {}).get("options", {})
    found = check_services(apps, options, vault)
    isolated = is_true(site.get("docker_isolation_enabled", True), default=True)
    for where, app in apps:
        given = vault.get(app.get("name")) if isinstance(vault, dict) else None
        found += check_outside(where, filled(app), given, reach, isolated)
    return found


def _names(site: Site) -> list[Finding]:
    """Check the names that the operator gave with ``-e app=``."""
    known = [str(app.get("name")) for app in site.entries]
    fix = f"This inventory has: {', '.join(known)}. Separate several with commas"
    return [
        Finding("app", "names an app that does not exist", fix, name)
        for name in site.wanted
        if name not in known
    ]


def concerning(site: Site, found: list[Finding]) -> list[Finding]:
    """Leave out findings about apps that this run does not cover."""
    apps = site.get("apps", [])
    others = []
    for number, app in enumerate(apps if site.wanted and isinstance(apps, list) else []):
        if not isinstance(app, dict) or app not in site.chosen:
            name = app.get("name") if isinstance(app, dict) else None
            others += [f"apps[{number}]", *(f"{variable}.{name}" for variable in OF_APPS)]
    inner = tuple(f"{place}{mark}" for place in others for mark in ".[")
    return [f for f in found if f.variable not in others and not f.variable.startswith(inner)]


def check_address(host: str, address: Any) -> list[Finding]:
    """Refuse the example inventory's address instead of waiting for an answer."""
    try:
        taken = any(ipaddress.ip_address(str(address)) in network for network in EXAMPLES)
    except ValueError:
        return []
    if not taken:
        return []
    fix = "Write your server's address into hosts.yml"
    return [Finding(f"{host}.ansible_host", "is an example address", fix, address)]


def _secrets(site: Site) -> list[Finding]:
    given = site.values.get("vault_app_secrets", {})
    if given is UNKNOWN:
        return []
    given = given or {}
    if not isinstance(given, dict):
        fix = "Write one dictionary per app, as in vault.yml.example"
        return [Finding("vault_app_secrets", "must be a dictionary", fix)]
    found = []
    for _, app in site.apps:
        name = app.get("name")
        if isinstance(name, str):
            where = f"vault_app_secrets.{name}"
            found += check_secrets(app, given.get(name), where, site.examples)
    return found + _strangers(site, given, "vault_app_secrets") + _keys(site)


def _strangers(site: Site, given: dict[str, Any], variable: str) -> list[Finding]:
    """Find entries for apps that do not exist, which are usually misspelt."""
    names = [str(app.get("name")) for app in site.entries]
    found = []
    for name in sorted(map(str, set(given) - set(names))):
        near = nearest(name, names)
        fix = f"Did you mean {near}?" if near else "Remove it, or add the app to apps"
        found.append(Finding(f"{variable}.{name}", "does not belong to any app", fix, warning=True))
    return found


def _keys(site: Site) -> list[Finding]:
    keys = site.get("vault_deploy_keys", {})
    if not isinstance(keys, dict):
        return []
    found = _strangers(site, keys, "vault_deploy_keys")
    for name, key in keys.items():
        found += check_deploy_keys(key, f"vault_deploy_keys.{name}")
    return found


def _logins(site: Site) -> list[Finding]:
    """Check the passwords of sites."""
    given = site.values.get("vault_basic_auth")
    found = check_logins(site.apps, given)
    return found + (_strangers(site, given, "vault_basic_auth") if isinstance(given, dict) else [])


def _acme(site: Site) -> list[Finding]:
    found, ca = [], site.get("acme_ca")
    if site.asks_ca:
        found += _email(site)
    if not isinstance(ca, dict | list) and (ca := str(ca)) not in DIRECTORIES:
        names = ", ".join(DIRECTORIES)
        if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", ca):
            near = nearest(ca, DIRECTORIES)
            fix = f"Did you mean {near}?" if near else f"Choose {names}, or a directory's URL"
            found.append(Finding("acme_ca", "is neither a known authority nor a URL", fix, ca))
        elif not ca.startswith("https://"):
            found.append(
                Finding("acme_ca", "is not https, which ACME requires", "Use https://", ca)
            )
    if "staging" in site.ca and site.asks_ca and not TEST_ENVIRONMENTS.search(site.environment):
        wrong = "is a test authority, whose certificates no browser trusts"
        fix = f"Set acme_ca to letsencrypt for inventory/{site.environment}"
        warning = not PRODUCTION.fullmatch(site.environment)
        found.append(Finding("acme_ca", wrong, fix, ca, warning))
    return found + _eab(site)


def _email(site: Site) -> list[Finding]:
    email, fix = site.values.get("acme_email"), "Write an address that you read"
    if email is UNKNOWN:
        return []
    if email is None or email == "":
        return [Finding("acme_email", "is missing", fix)]
    if not isinstance(email, str) or not EMAIL.fullmatch(email):
        return [Finding("acme_email", "is not a valid e-mail address", fix, email)]
    production = PRODUCTION.fullmatch(site.environment)
    if PLACEHOLDERS.search(email.lower()) and (site.public_ca or production):
        wrong = "is an example address, which public authorities refuse"
        return [Finding("acme_email", wrong, fix, email)]
    return []


def _eab(site: Site) -> list[Finding]:
    eab = site.values.get("vault_acme_eab")
    if site.get("acme_ca") == "zerossl" and not eab and site.asks_ca and not site.get("acme_email"):
        return [Finding("vault_acme_eab", "is missing", "ZeroSSL needs it or acme_email")]
    if eab in (None, {}, "") or eab is UNKNOWN:
        return []
    fix = "Write {kid: ..., hmac_key: ...} with the values from the authority"
    if not isinstance(eab, dict):
        return [Finding("vault_acme_eab", "must be a dictionary", fix)]
    wanted = {"kid", "hmac_key"}
    return [
        Finding(f"vault_acme_eab.{name}", "is missing", fix)
        for name in sorted(wanted)
        if eab.get(name) in (None, "")
    ] + [
        Finding(f"vault_acme_eab.{name}", "is an unknown key", fix)
        for name in sorted(set(map(str, eab)) - wanted)
    ]


def _images(site: Site) -> list[Finding]:
    found = []
    if site.get("images_source") == "archive":
        folder = site.get("images_archive_dir")
        fix = "Set it to the folder on this machine with the archives of `docker save`"
        if not folder:
            wrong = "is missing, but images_source is archive"
            found.append(Finding("images_archive_dir", wrong, fix))
        elif not is_folder(local(str(folder))):
            wrong = "is not a folder on this machine"
            found.append(Finding("images_archive_dir", wrong, fix, folder))
    found += _names_of_images(site)
    mirrors = site.get("docker_registry_mirrors", [])
    for mirror in mirrors if isinstance(mirrors, list) else []:
        if mirror is not UNKNOWN and not re.fullmatch(r"https?://[^\s/]+/?", str(mirror)):
            fix = "Write https://HOST, without a path"
            found.append(Finding("docker_registry_mirrors", "is not a valid URL", fix, mirror))
    logins = site.get("vault_registry_logins", [])
    for number, login in enumerate(logins if isinstance(logins, list) else []):
        for name in ("registry", "username", "password"):
            if not isinstance(login, dict) or login.get(name) in (None, ""):
                where = f"vault_registry_logins[{number}].{name}"
                found.append(Finding(where, "is missing", "Write registry, username, password"))
    return found


def _names_of_images(site: Site) -> list[Finding]:
    found = []
    known = [n for n in site.options["images_wanted"]["choices"] if n != "pebble"]
    for key, name in site.images.items():
        where = f"images_registry.{key}"
        if key not in known:
            near = nearest(str(key), known)
            fix = f"Did you mean {near}?" if near else f"The keys are {', '.join(known)}"
            found.append(Finding(where, "is an unknown key", fix, name))
        elif name is not UNKNOWN and not IMAGE.fullmatch(str(name)):
            fix = "Write NAME:TAG, if need be with a registry before it and a digest after it"
            found.append(Finding(where, "is not a valid image name", fix, name))
        elif key == "postgres" and name is not UNKNOWN and postgres_major(name) is None:
            wrong = "does not show its major version, so it cannot be compared with the data's"
            fix = "Use a tag such as 17-trixie, before the digest if there is one"
            found.append(Finding(where, wrong, fix, name, warning=True))
    return found


def is_ipv6_network(text: str) -> bool:
    """Tell whether a text is an IPv6 network with room for containers."""
    try:
        return ipaddress.IPv6Network(text).prefixlen <= 112
    except ValueError:
        return False


def _files(site: Site) -> list[Finding]:
    found = []
    for name in ("acme_ca_bundle", "build_ca_bundle"):
        path = site.get(name)
        if isinstance(path, str) and path and not is_file(local(path)):
            fix = "Start the path with '{{ inventory_dir }}/' or '/'"
            found.append(Finding(name, "is not a file on this machine", fix, path))
    for name in ("proxy_http_port", "proxy_https_port"):
        port = site.get(name, None)
        if re.fullmatch(r"-?\d+", str(port)) and not 1 <= int(port) <= 65535:
            found.append(Finding(name, "is not a valid port", "Choose 1 to 65535", port))
    subnet = site.get("proxy_ipv6_subnet", None)
    if isinstance(subnet, str) and not is_ipv6_network(subnet):
        fix = "Use a network within fd00::/8, with at most 112 bits, such as fd00:f1a5:c::/64"
        found.append(Finding("proxy_ipv6_subnet", "is not a valid IPv6 network", fix, subnet))
    requests = site.get("proxy_open_requests_per_client", None)
    if re.fullmatch(r"-\d+", str(requests)):
        fix = "Write how many requests a client may have open, or 0 for no limit"
        found.append(Finding("proxy_open_requests_per_client", "is negative", fix, requests))
    http, https = site.get("proxy_http_port", 80), site.get("proxy_https_port", 443)
    if str(http) == str(https):
        wrong = "is the same port as proxy_http_port"
        found.append(Finding("proxy_https_port", wrong, "Choose two different ports", https))
    return found


def _builds(site: Site) -> list[Finding]:
    """Check what builds may reach and read, because they run code that was not reviewed."""
    found = []
    # A throwaway server has nothing to protect, and may need the host's network.
    is_dev = TEST_ENVIRONMENTS.search(site.environment) or "dev_server" in site.names
    if site.get("build_network") == "host" and not is_dev:
        wrong = "lets builds reach the services on the server's 127.0.0.1 and its whole network"
        fix = "Set it to default, and give the server a resolver that containers can reach"
        found.append(Finding("build_network", wrong, fix, "host", warning=True))
    for where, app in site.apps:
        wanted = app.get("build_secrets")
        if not wanted or not isinstance(wanted, list):
            continue
        spot = f"{where}.build_secrets"
        if not app.get("dockerfile") or app.get("image"):
            wrong = "has no effect without dockerfile"
            found.append(Finding(spot, wrong, "Remove it", wanted, warning=True))
        own = site.get("vault_build_secrets", {})
        own = own.get(app.get("name")) if isinstance(own, dict) else None
        for name in wanted:
            if name not in BUILD_SECRETS and name not in (own or {}):
                where_to = f"vault_build_secrets.{app.get('name')}"
                known = [*BUILD_SECRETS, *map(str, own or {})]
                near = nearest(str(name), known)
                wrong = f"lists {name}, which is neither ca_bundle, pip_index_url nor in {where_to}"
                fix = f"Did you mean {near}?" if near else f"Add it to {where_to}, or remove it"
                found.append(Finding(spot, wrong, fix, wanted))
            if name not in BUILD_SECRETS:
                continue
            variable = f"build_{name}"
            known = site.get(variable)
            if app.get("dockerfile") and isinstance(name, str) and not known:
                wrong = f"lists {name}, but {variable} is not set, so the build runs without it"
                fix = f"Set {variable}, or remove {name}"
                found.append(Finding(spot, wrong, fix, wanted, warning=True))
    return found


def _engine(site: Site) -> list[Finding]:
    """Check the source of the Docker engine, and the system of the throwaway server."""
    found = []
    url = site.get("docker_upstream_url", None)
    if isinstance(url, str) and not re.fullmatch(r"https?://[^\s/]+(/[^\s/]+)*", url):
        fix = "Write http(s)://HOST/FOLDER, without a slash at the end"
        found.append(Finding("docker_upstream_url", "is not a valid URL", fix, url))
    fingerprint = site.get("docker_upstream_fingerprint", None)
    digits = str(fingerprint).replace(" ", "")
    if fingerprint is not None and not re.fullmatch(r"[0-9A-Fa-f]{40}", digits):
        wrong, fix = (
            "is not a valid fingerprint",
            "Write the 40 hexadecimal digits that gpg shows, in quotes",
        )
        found.append(Finding("docker_upstream_fingerprint", wrong, fix, fingerprint))
    found += _isolation(site)
    distribution, release = site.get("dev_distribution", "debian"), site.get("dev_release", None)
    releases = RELEASES.get(str(distribution), ())
    if release is not None and releases and release not in releases:
        fix = f"Choose {' or '.join(releases)}, or another dev_distribution"
        found.append(Finding("dev_release", f"is not a release of {distribution}", fix, release))
    return found


def _isolation(site: Site) -> list[Finding]:
    """Check the exceptions to what containers may not reach."""
    found = []
    for name in ("docker_builds_may_reach", "docker_apps_may_reach"):
        reach = site.get(name, [])
        for network in reach if isinstance(reach, list) else []:
            if network is UNKNOWN:
                continue
            try:
                ipaddress.ip_network(str(network), strict=False)
            except ValueError:
                fix = (
                    "Write it like 10.0.0.7, 10.0.0.0/24 or fd00::/64; host names do not work here"
                )
                found.append(Finding(name, "is neither an address nor a network", fix, network))
    name = "docker_apps_may_reach_ports"
    ports = site.get(name, [])
    for port in ports if isinstance(ports, list) else []:
        if re.fullmatch(r"-?\d+", str(port)) and not 1 <= int(port) <= 65535:
            found.append(Finding(name, "is not a valid port", "Choose 1 to 65535", port))
    return found
