"""Turn containers into virtual hosts. All decisions are made here, none in the template.

The rules are those of nginx-proxy, from its documentation and from tests of its behaviour:
https://github.com/nginx-proxy/nginx-proxy/blob/main/docs/README.md
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .settings import LABEL, Backend, Config, is_true, read_backend

CERTS = "/etc/nginx/certs"
VHOSTS = "/etc/nginx/vhost.d"
HTPASSWD = "/etc/nginx/htpasswd"

#: Tells whether a file exists, by its path.
Exists = Callable[[str], bool]


@dataclass(frozen=True)
class Location:
    """One path of a virtual host, and the upstream behind it."""

    path: str  # as nginx takes it, with its modifier
    proto: str
    dest: str
    root: str
    upstream: str
    servers: tuple[tuple[str, str], ...]  # container, address:port
    loadbalance: str
    keepalive: int  # idle connections; 0 for none
    internal: bool
    override: str | None  # file that replaces the location
    include: str | None
    htpasswd: str | None
    realm: str


@dataclass(frozen=True)
class VirtualHost:
    """One server name."""

    name: str
    default: bool
    https_method: str
    certificate: str | None  # file name without .crt
    dhparam: bool
    hsts: str | None
    http2: bool
    acme_on_redirect: bool
    acme_on_http: bool
    non_get_redirect: str
    server_tokens: str
    client_ca: str | None
    client_crl: str | None
    verify_client: str
    include: str | None
    has_root: bool
    locations: tuple[Location, ...]


@dataclass(frozen=True)
class Proxy:
    """All of nginx's generated configuration."""

    config: Config
    networks: tuple[str, ...]  # nginx's own
    nginx_found: bool
    hosts: tuple[VirtualHost, ...]
    fallback_http: bool
    fallback_https: bool
    default_certificate: bool
    dhparam: bool
    proxy_conf: bool
    error_page: bool


def sha1(text: str) -> str:
    """Return the hexadecimal SHA-1 that names files and upstreams (no secret is involved)."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def networks_of(container: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return a container's networks by name, as Docker's inspect gives them."""
    settings = (container or {}).get("NetworkSettings") or {}
    return {name: value or {} for name, value in sorted((settings.get("Networks") or {}).items())}


def address_of(
    container: Mapping[str, Any],
    nginx: Mapping[str, dict[str, Any]],
    internal: Iterable[str],
    prefer_ipv6: bool,
) -> str | None:
    """Find the address at which nginx reaches a container.

    Parameters
    ----------
    container : dict
        Docker's inspect answer.
    nginx : dict
        nginx's networks by name.
    internal : iterable of str
        Names of networks that have no gateway to the host.
    prefer_ipv6 : bool
        Which of two addresses to take.

    Returns
    -------
    str or None
        The address of the first shared network only: a second one would double the
        container's weight. None if they share none.
    """
    for name, network in networks_of(container).items():
        if name == "ingress":  # Swarm's routing mesh reaches published ports only
            continue
        if name == "host":
            if "host" in nginx:
                return "127.0.0.1"
            gateways = (v.get("Gateway") for k, v in nginx.items() if k not in internal)
            if gateway := next(filter(None, gateways), None):
                return gateway
            continue
        if name not in nginx and "host" not in nginx:
            continue
        ipv4, ipv6 = network.get("IPAddress"), network.get("GlobalIPv6Address")
        if ipv6 and (prefer_ipv6 or not ipv4):
            return f"[{ipv6}]"
        if ipv4:
            return ipv4
    return None


def certificate_for(
    host: str, cert_name: str | None, trust_default: bool, exists: Exists
) -> str | None:
    """Choose a certificate: named, the host's own, its parent's, the default.

    Returns
    -------
    str or None
        File name without extension. None if there is none with its key.
    """
    parent = host.split(".", 1)[1] if host.count(".") >= 2 else ""
    candidates = [cert_name] if cert_name else [host, parent, "default" if trust_default else ""]
    for name in filter(None, candidates):
        if cert_name or exists(f"{CERTS}/{name}.crt"):
            complete = exists(f"{CERTS}/{name}.crt") and exists(f"{CERTS}/{name}.key")
            return name if complete else None
    return None


def build(
    containers: list[dict[str, Any]],
    nginx_container: dict[str, Any] | None,
    internal_networks: Iterable[str],
    config: Config,
    exists: Exists,
) -> tuple[Proxy, list[str]]:
    """Turn running containers into virtual hosts.

    Parameters
    ----------
    containers : list of dict
        Docker's inspect answers, newest first: where two containers of one host disagree,
        the newer one is right.
    nginx_container : dict or None
        The one whose networks count.
    internal_networks : iterable of str
        Names of networks without a gateway.
    config : Config
        The operator's settings.
    exists : callable
        ``os.path.exists``, or a stand-in.

    Returns
    -------
    Proxy
        What to render.
    list of str
        What was left out, and why: one line each.
    """
    problems: list[str] = []
    nginx = networks_of(nginx_container)
    internal = set(internal_networks)
    by_host: dict[str, list[Backend]] = {}
    for container in containers:
        if backend := read_backend(container, problems):
            for host in backend.hosts:
                by_host.setdefault(host, []).append(backend)

    def address(backend: Backend) -> str | None:
        return address_of(backend.container, nginx, internal, config.prefer_ipv6)

    hosts = tuple(
        _virtual_host(name, backends, address, config, exists, problems)
        for name, backends in sorted(by_host.items())
    )
    uses_http = [host for host in hosts if host.https_method != "nohttp"]
    uses_https = [host for host in hosts if host.https_method != "nohttps"]
    proxy = Proxy(
        config=config,
        networks=tuple(nginx),
        nginx_found=nginx_container is not None,
        hosts=hosts,
        fallback_http=not any(host.default for host in uses_http),
        fallback_https=not any(host.default for host in uses_https),
        default_certificate=exists(f"{CERTS}/default.crt") and exists(f"{CERTS}/default.key"),
        dhparam=exists("/etc/nginx/dhparam/dhparam.pem"),
        proxy_conf=exists("/etc/nginx/proxy.conf"),
        error_page=exists("/usr/share/nginx/html/errors/50x.html"),
    )
    return proxy, problems


def _first(backends: Iterable[Backend], key: str, default: str) -> str:
    """Return the newest container's value."""
    return next((b.values[key] for b in backends if key in b.values), default)


def _existing(exists: Exists, *paths: str) -> str | None:
    return next(filter(exists, paths), None)


def _virtual_host(
    name: str,
    backends: list[Backend],
    address: Callable[[Backend], str | None],
    config: Config,
    exists: Exists,
    problems: list[str],
) -> VirtualHost:
    # A regexp is not a valid file name, so its files are named after its hash.
    file_name = sha1(name) if name.startswith("~") else name

    def get(key: str, default: str) -> str:
        return _first(backends, key, default)

    certificate = certificate_for(
        name,
        get("CERT_NAME", "") or None,
        is_true(get(LABEL + "trust-default-cert", str(config.trust_default_cert))),
        exists,
    )
    https_method = get("HTTPS_METHOD", config.https_method)
    http_on_missing = get("ENABLE_HTTP_ON_MISSING_CERT", str(config.http_on_missing_cert))
    if certificate is None and https_method in ("redirect", "nohttp") and is_true(http_on_missing):
        https_method = "noredirect"
    hsts = get("HSTS", config.hsts)
    acme = get("ACME_HTTP_CHALLENGE_LOCATION", config.acme_challenge)
    client_ca = _existing(exists, f"{CERTS}/{file_name}.ca.crt", f"{CERTS}/ca.crt")
    client_crl = client_ca and _existing(exists, client_ca.replace("ca.crt", "crl.pem"))
    if client_ca == f"{CERTS}/ca.crt":
        client_crl = _existing(exists, f"{CERTS}/ca.crl.pem")
    locations = _locations(name, file_name, backends, address, config, exists, problems)
    return VirtualHost(
        name=name,
        default=name == config.default_host,
        https_method=https_method,
        certificate=certificate,
        dhparam=exists(f"{CERTS}/{certificate}.dhparam.pem"),
        hsts=None if hsts == "off" or https_method == "noredirect" else hsts,
        http2=is_true(get(LABEL + "http2.enable", str(config.enable_http2))),
        # "legacy": acme-companion writes the location into vhost.d itself, which the
        # redirecting server does not include.
        acme_on_redirect=acme == "legacy" or is_true(acme),
        acme_on_http=is_true(acme),
        non_get_redirect=get(LABEL + "non-get-redirect", config.non_get_redirect),
        server_tokens=get("SERVER_TOKENS", ""),
        client_ca=client_ca,
        client_crl=client_crl,
        verify_client=get(LABEL + "ssl_verify_client", "on"),
        include=_existing(exists, f"{VHOSTS}/{file_name}", f"{VHOSTS}/default"),
        has_root=any(location.path == "/" for location in locations),
        locations=locations,
    )


def _locations(
    name: str,
    file_name: str,
    backends: list[Backend],
    address: Callable[[Backend], str | None],
    config: Config,
    exists: Exists,
    problems: list[str],
) -> tuple[Location, ...]:
    by_path: dict[str, list[Backend]] = {}
    owner: dict[tuple[str, str], str] = {}
    for backend in backends:
        modifier, path = backend.location
        # nginx takes "/a" and "^~ /a" for the same location and refuses the whole configuration.
        identity = ("" if modifier == "^~" else modifier, path)
        if owner.setdefault(identity, backend.path) == backend.path:
            by_path.setdefault(backend.path, []).append(backend)
        else:
            problems.append(
                f"{backend.name}: VIRTUAL_PATH={backend.path!r} is the location of "
                f"{owner[identity]!r} too; the container is left out of {name}"
            )
    short = sha1(name) if name.startswith("~") or config.sha1_upstream_name else name
    return tuple(
        _location(path, group, file_name, short, name, address, exists)
        for path, group in sorted(by_path.items())
    )


def _location(
    path: str,
    backends: list[Backend],
    file_name: str,
    upstream: str,
    name: str,
    address: Callable[[Backend], str | None],
    exists: Exists,
) -> Location:
    override = [f"{VHOSTS}/{file_name}_{sha1(path)}_location_override"]
    if path == "/":
        override.append(f"{VHOSTS}/{file_name}_location_override")
    servers = tuple(
        (backend.name, f"{found}:{backend.port}")
        for backend in sorted(backends, key=lambda b: b.name)
        if (found := address(backend))
    )
    proto = _first(backends, "VIRTUAL_PROTO", "http")
    keepalive = _first(backends, LABEL + "keepalive", "auto")
    if proto == "uwsgi" or keepalive == "disabled" or not servers:  # uwsgi has no keep-alive
        idle = 0
    else:
        idle = 2 * len(servers) if keepalive == "auto" else int(keepalive)
    modifier, plain = backends[0].location
    own_htpasswd = f"{HTPASSWD}/{file_name}_{sha1(path)}"
    # A "$" in a regular expression would be a variable there.
    realm = name + (path if exists(own_htpasswd) else "")
    return Location(
        path=f"{modifier} {plain}".strip(),
        proto=proto,
        dest=_first(backends, "VIRTUAL_DEST", ""),
        root=_first(backends, "VIRTUAL_ROOT", "/var/www/public"),
        upstream=upstream if path == "/" else f"{upstream}-{sha1(path)}",
        servers=servers,
        loadbalance=_first(backends, LABEL + "loadbalance", "").rstrip(";"),
        keepalive=idle,
        internal=_first(backends, "NETWORK_ACCESS", "external") == "internal",
        override=_existing(exists, *override),
        include=_existing(
            exists,
            f"{VHOSTS}/{file_name}_{sha1(path)}_location",
            f"{VHOSTS}/{file_name}_location",
            f"{VHOSTS}/default_location",
        ),
        htpasswd=_existing(exists, own_htpasswd, f"{HTPASSWD}/{file_name}"),
        realm="access" if "~" in realm else realm,
    )
