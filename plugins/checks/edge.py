"""Variables and labels of a container that docker-gen and the companion act on."""

import re
from collections.abc import Iterable

# Variables of containers that the templates of nginx-proxy and acme-companion read, upstream's and
# this project's. https://github.com/nginx-proxy/nginx-proxy/blob/main/docs/README.md and
# https://github.com/nginx-proxy/acme-companion/blob/main/app/letsencrypt_service_data.tmpl, which
# writes some of them into a shell script.
EDGE_VARIABLE = re.compile(
    r"VIRTUAL_(HOST|HOST_MULTIPORTS|PORT|PROTO|PATH|DEST|ROOT)"
    r"|LETSENCRYPT_[A-Z0-9_]+"
    r"|ACME_(HOST|EMAIL|CA_URI|CHALLENGE|CERT_PROFILE|EAB_KID|EAB_HMAC_KEY|HTTP_CHALLENGE_LOCATION"
    r"|KEYSIZE|OCSP|POST_HOOK|PREFERRED_CHAIN|PRE_HOOK|RENEW_AFTER|RENEW_PRIVATE_KEYS"
    r"|RESTART_CONTAINER|SINGLE_DOMAIN_CERTS)"
    r"|ACMESH_DNS_API_CONFIG|CERT_NAME|DOCKER_GEN_VERSION|ENABLE_HTTP_ON_MISSING_CERT"
    r"|EXTERNAL_HTTPS?_PORT|HSTS|HTTPS_METHOD|NETWORK_ACCESS|SERVER_TOKENS|SSL_POLICY"
    r"|ZEROSSL_API_KEY"
)
# Labels by which docker-gen and the companion find nginx and each other. Any value counts, so a
# label cannot be undone.
EDGE_LABEL = re.compile(r"com\.github\.(nginx-proxy|jrcs\.letsencrypt_nginx_proxy_companion)\..*")


def edge_variables(names: Iterable[str]) -> list[str]:
    """Pick the names of variables that the edge acts on."""
    return sorted({name for name in names if EDGE_VARIABLE.fullmatch(name)})


def edge_labels(names: Iterable[str]) -> list[str]:
    """Pick the names of labels that the edge acts on."""
    return sorted({name for name in names if EDGE_LABEL.fullmatch(name)})
