"""The settings of containers and of docker-gen, and their checks.

Values from a container's environment end up in nginx's configuration, where one ``;`` or ``}``
could change the rules of all sites. So each value must match a pattern before it is used; nginx
has no quoting that works everywhere.

Names and meanings: https://github.com/nginx-proxy/nginx-proxy/blob/main/docs/README.md.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .docker_api import environment_of

LABEL = "com.github.nginx-proxy.nginx-proxy."
SSL_POLICIES = ("Mozilla-Intermediate", "Mozilla-Modern")
# Go's parseBool, which the documented variables go through upstream.
_TRUE = ("1", "t", "T", "true", "True", "TRUE")
_FALSE = ("0", "f", "F", "false", "False", "FALSE")

_BOOLEAN = "|".join(_TRUE + _FALSE)
_PORT = r"[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]"
_HTTPS_METHOD = "redirect|noredirect|nohttp|nohttps"
_REDIRECT_CODE = "30[1278]"
_ACME = f"legacy|{_BOOLEAN}"
_SSL_POLICY = "|".join(SSL_POLICIES)
_HSTS = "off|[A-Za-z0-9=; -]+"  # stands in double quotes
_PATH_CHARACTERS = r"[A-Za-z0-9/_.~%+@!&,:=*()-]*"
_NAME = r"[A-Za-z0-9_-]{1,63}"

HOST_PATTERN = re.compile(
    rf"(\*\.)?{_NAME}(\.{_NAME})*|{_NAME}(\.{_NAME})*\.\*|\[[0-9a-fA-F:]+\]", re.ASCII
)
# Plain, exact or longest-prefix locations. https://nginx.org/en/docs/http/ngx_http_core_module.html#location
_PREFIX_PATH = re.compile(rf"((?:=|\^~) ?)?(/{_PATH_CHARACTERS})", re.ASCII)
_REGEXP_PATH = re.compile(r"(~\*?) ?(\S+)")

#: Patterns for a container's environment and, with LABEL in front, its labels.
CONTAINER_PATTERNS = {
    "ACME_HTTP_CHALLENGE_LOCATION": _ACME,
    "CERT_NAME": r"[A-Za-z0-9_.-]+",
    "ENABLE_HTTP_ON_MISSING_CERT": _BOOLEAN,
    "HSTS": _HSTS,
    "HTTPS_METHOD": _HTTPS_METHOD,
    "NETWORK_ACCESS": "internal|external",
    "SERVER_TOKENS": "on|off|build",
    "VIRTUAL_DEST": f"/{_PATH_CHARACTERS}",
    "VIRTUAL_PORT": _PORT,
    "VIRTUAL_PROTO": "http|https|uwsgi|fastcgi|grpc|grpcs",
    "VIRTUAL_ROOT": f"/{_PATH_CHARACTERS}",
    LABEL + "http2.enable": _BOOLEAN,
    LABEL + "keepalive": r"auto|disabled|[1-9]\d{0,3}",
    LABEL + "loadbalance": r"(least_conn|ip_hash|random( two least_conn)?"
    r"|hash \$(remote_addr|request_uri|uri|host)( consistent)?);?",
    LABEL + "non-get-redirect": _REDIRECT_CODE,
    LABEL + "ssl_verify_client": "on|off|optional|optional_no_ca",
    LABEL + "trust-default-cert": _BOOLEAN,
}
#: Documented upstream but not supported; reported instead of ignored. SSL_POLICY is global: nginx
#: chooses the TLS version before it knows the host (until 1.29), so one host cannot differ.
UNSUPPORTED = (
    "DEBUG_ENDPOINT",
    "ENABLE_HTTP3",
    "ENABLE_PROXY_PROTOCOL",
    "EXTERNAL_HTTP_PORT",
    "EXTERNAL_HTTPS_PORT",
    "SSL_POLICY",
    "VIRTUAL_HOST_MULTIPORTS",
)


class SettingError(ValueError):
    """A value that is not safe in nginx's configuration."""


def check(name: str, value: str, pattern: str) -> str:
    """Return ``value`` without outer blanks if all of it matches.

    Raises
    ------
    SettingError
        Naming the variable and what it may be.
    """
    value = value.strip()
    if not re.fullmatch(pattern, value, re.ASCII):
        if pattern == _SSL_POLICY:
            raise SettingError(f"{name}={value!r}: supported are {', '.join(SSL_POLICIES)}")
        raise SettingError(f"{name}={value!r} does not match {pattern}")
    return value


def is_true(value: str) -> bool:
    """Tell whether a checked boolean means yes."""
    return value in _TRUE


def check_regexp(name: str, regexp: str) -> str:
    """Return a regular expression that is safe as one word of nginx's configuration.

    Raises
    ------
    SettingError
        For characters that end the word, for what does not compile, and for a named group
        (it would define an nginx variable, maybe one that exists): nginx would refuse the
        whole configuration.
    """
    try:
        re.compile(regexp)
    except re.error as error:
        raise SettingError(f"{name}={regexp!r}: {error}") from error
    if re.search(r"""[\s;{}"'#]|\(\?(?![:=!])|\\$""", regexp) or not regexp.isprintable():
        raise SettingError(f"{name}={regexp!r} has characters that are not allowed")
    return regexp


def check_host(host: str) -> str:
    """Return a server name in lower case, or a regexp as it is.

    Raises
    ------
    SettingError
        If nginx would not take it for one name.
    """
    if host.startswith("~"):
        return "~" + check_regexp("VIRTUAL_HOST", host[1:])
    if len(host) > 253 or not HOST_PATTERN.fullmatch(host):
        raise SettingError(f"VIRTUAL_HOST={host!r} is not a host name")
    return host.lower()


def check_path(path: str, dest: str) -> tuple[str, str]:
    """Check VIRTUAL_PATH together with VIRTUAL_DEST.

    Returns
    -------
    tuple of str
        nginx's modifier (may be empty) and the path itself.

    Raises
    ------
    SettingError
        If nginx would refuse the location, or it would shadow the ACME challenge.
    """
    if regexp := _REGEXP_PATH.fullmatch(path):
        if dest:
            # https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_pass
            raise SettingError("VIRTUAL_DEST does not go with a regular VIRTUAL_PATH")
        return regexp[1], check_regexp("VIRTUAL_PATH", regexp[2])
    prefix = _PREFIX_PATH.fullmatch(path)
    if not prefix or prefix[2].startswith("/.well-known/acme-challenge"):
        raise SettingError(f"VIRTUAL_PATH={path!r} is not a path for a container")
    return (prefix[1] or "").strip(), prefix[2]


@dataclass(frozen=True)
class Backend:
    """One container that asks for virtual hosts."""

    name: str
    hosts: tuple[str, ...]
    path: str
    location: tuple[str, str]
    port: int
    values: Mapping[str, str]
    container: Mapping[str, Any] = field(repr=False)


def exposed_ports(container: Mapping[str, Any]) -> list[str]:
    """List ports as ``80/tcp``; on some networks only the image's own list is there."""
    network = container.get("NetworkSettings") or {}
    return list(network.get("Ports") or container["Config"].get("ExposedPorts") or {})


def read_backend(container: Mapping[str, Any], problems: list[str]) -> Backend | None:
    """Read what one container asks for.

    Parameters
    ----------
    container : dict
        Docker's inspect answer.
    problems : list of str
        Takes one line for each value that was refused.

    Returns
    -------
    Backend or None
        None if it asks for nothing, or for something that is not allowed: a container with
        half of its settings would be a surprise.
    """
    environment = environment_of(container)
    if not environment.get("VIRTUAL_HOST", "").strip(" ,"):
        if "VIRTUAL_HOST_MULTIPORTS" in environment:
            problems.append(f"{container['Name']}: VIRTUAL_HOST_MULTIPORTS is not supported")
        return None
    name = container["Name"].lstrip("/")
    problems += [
        f"{name}: {key} is not supported on a container"
        for key in UNSUPPORTED
        if key in environment
    ]
    given = environment | (container["Config"].get("Labels") or {})
    hosts = []
    for host in filter(None, map(str.strip, environment["VIRTUAL_HOST"].split(","))):
        try:
            hosts.append(check_host(host))
        except SettingError as error:
            problems.append(f"{name}: {error}; that name is left out")
    try:
        values = {
            key: check(key, given[key], pattern)
            for key, pattern in CONTAINER_PATTERNS.items()
            if given.get(key, "").strip()
        }
        path = environment.get("VIRTUAL_PATH", "").strip() or "/"
        location = check_path(path, values.get("VIRTUAL_DEST", ""))
    except SettingError as error:
        problems.append(f"{name}: {error}; the container is left out")
        return None
    ports = exposed_ports(container)
    default = ports[0].split("/")[0] if len(ports) == 1 else "80"
    port = int(values.get("VIRTUAL_PORT", default))
    return Backend(name, tuple(dict.fromkeys(hosts)), path, location, port, values, container)


@dataclass(frozen=True)
class Config:
    """The operator's settings: docker-gen's own environment."""

    acme_challenge: str
    access_log: bool
    default_host: str
    default_root: str
    enable_http2: bool
    enable_ipv6: bool
    hsts: str
    http_on_missing_cert: bool
    http_port: int
    https_method: str
    https_port: int
    log_escape: str
    log_format: str
    non_get_redirect: str
    prefer_ipv6: bool
    resolvers: str
    sha1_upstream_name: bool
    ssl_policy: str
    trust_default_cert: bool
    trust_downstream_proxy: bool
    acme_for_unknown_hosts: bool
    nginx_label: str

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Config":
        """Read and check docker-gen's environment.

        Raises
        ------
        SettingError
            At the first value that cannot be used. Nothing is generated then.
        """

        def get(name: str, default: str, pattern: str) -> str:
            return check(name, environment.get(name, "").strip() or default, pattern)

        def flag(name: str, default: bool) -> bool:
            return is_true(get(name, str(default), _BOOLEAN))

        word = r"[^;{}\"\\\n]*"
        json_logs = flag("LOG_JSON", False)
        return cls(
            acme_challenge=get("ACME_HTTP_CHALLENGE_LOCATION", "true", _ACME),
            access_log=not flag("DISABLE_ACCESS_LOGS", False),
            default_host=environment.get("DEFAULT_HOST", "").strip().lower(),
            default_root=get("DEFAULT_ROOT", "404", word),
            enable_http2=flag("ENABLE_HTTP2", True),
            enable_ipv6=flag("ENABLE_IPV6", False),
            hsts=get("HSTS", "max-age=31536000", _HSTS),
            http_on_missing_cert=flag("ENABLE_HTTP_ON_MISSING_CERT", True),
            http_port=int(get("HTTP_PORT", "80", _PORT)),
            https_method=get("HTTPS_METHOD", "redirect", _HTTPS_METHOD),
            https_port=int(get("HTTPS_PORT", "443", _PORT)),
            log_escape=get(
                "LOG_FORMAT_ESCAPE", "json" if json_logs else "default", "default|json|none"
            ),
            log_format=get("LOG_FORMAT", _JSON_LOG if json_logs else _LOG, r"[^'\\\n]+"),
            non_get_redirect=get("NON_GET_REDIRECT", "301", _REDIRECT_CODE),
            prefer_ipv6=flag("PREFER_IPV6_NETWORK", False),
            resolvers=get("RESOLVERS", "", r"[0-9A-Za-z.:\[\] =_-]*"),
            sha1_upstream_name=flag("SHA1_UPSTREAM_NAME", False),
            ssl_policy=get("SSL_POLICY", SSL_POLICIES[0], _SSL_POLICY),
            trust_default_cert=flag("TRUST_DEFAULT_CERT", True),
            trust_downstream_proxy=flag("TRUST_DOWNSTREAM_PROXY", True),
            acme_for_unknown_hosts=flag("ACME_HTTP_CHALLENGE_ACCEPT_UNKNOWN_HOST", False),
            nginx_label=environment.get("NGINX_CONTAINER_LABEL") or LABEL + "nginx",
        )


_LOG = (
    '$host $remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
    '"$http_referer" "$http_user_agent" "$upstream_addr"'
)
_JSON_LOG = (
    '{"time_local":"$time_iso8601","remote_addr":"$remote_addr","host":"$host",'
    '"request":"$request","status":"$status","body_bytes_sent":"$body_bytes_sent",'
    '"request_time":"$request_time","upstream_response_time":"$upstream_response_time",'
    '"upstream_addr":"$upstream_addr","http_referrer":"$http_referer",'
    '"http_user_agent":"$http_user_agent","request_id":"$request_id"}'
)
