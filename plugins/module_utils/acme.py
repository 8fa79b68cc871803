"""Certificate authorities that have a name in inventories."""

from __future__ import annotations

# https://letsencrypt.org/docs/acme-protocol-updates/ and https://zerossl.com/documentation/acme/
DIRECTORIES = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt_staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
    "zerossl": "https://acme.zerossl.com/v2/DV90",
}


def directory(ca: str) -> str:
    """Return the URL of an authority's ACME directory, which may be named or given as it is."""
    return DIRECTORIES.get(ca, ca)
