"""Rules for the operator's own certificate: complete, in order, valid now, and with its key."""

import datetime
import itertools
from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtensionOID

from checks.domains import ascii_domain, domain_error
from checks.report import HIDDEN, UNKNOWN, Finding

WARN_DAYS = 14


def check_certificate(
    app: dict, where: str, read: Callable[[str], bytes], now: datetime.datetime
) -> list[Finding]:
    """
    Check an app's ``certificate`` and ``certificate_key``.

    Parameters
    ----------
    app : dict
        Entry of the app.
    where : str
        How a finding names the entry.
    read : callable
        Reads a file of the controller, decrypted if necessary. Raises OSError or ValueError.
    now : datetime.datetime
        The current time, with time zone.

    Returns
    -------
    list of Finding
        Problems, and a warning if the certificate expires soon.
    """
    found, content = [], {}
    for name in ("certificate", "certificate_key"):
        path = app.get(name)
        if path is UNKNOWN:
            continue
        if not path:
            fix = "Set it to a PEM file on this machine, or set tls to acme or selfsigned"
            found.append(Finding(f"{where}.{name}", "is missing, but tls is own", fix))
            continue
        try:
            content[name] = read(str(path))
        except OSError as error:
            wrong = f"cannot be read on this machine ({error.strerror or error})"
            fix = "Start the path with '{{ inventory_dir }}/' or '/'"
            found.append(Finding(f"{where}.{name}", wrong, fix, path))
        except ValueError as error:
            found.append(Finding(f"{where}.{name}", str(error), "Give the vault's password", path))
    chain: list[x509.Certificate] = []
    if "certificate" in content:
        place, value = f"{where}.certificate", app["certificate"]
        try:
            chain = x509.load_pem_x509_certificates(content["certificate"])
        except ValueError:
            fix = "Write the leaf certificate first, then the intermediates, each as PEM"
            found.append(Finding(place, "contains no readable PEM certificate", fix, value))
    if chain:
        found += [Finding(place, w, f, value, warning) for w, f, warning in _chain(chain, now)]
        found += _names(chain[0], app, where)
    if "certificate_key" in content:
        found += _key(content["certificate_key"], chain, f"{where}.certificate_key")
    return found


def _chain(chain: list[x509.Certificate], now: datetime.datetime) -> list[tuple[str, str, bool]]:
    renew = "Put the renewed certificate into the file"
    found = []
    for number, certificate in enumerate(chain, start=1):
        name = f"certificate {number} of the file ({certificate.subject.rfc4514_string()})"
        ends, starts = certificate.not_valid_after_utc, certificate.not_valid_before_utc
        if ends < now:
            found.append((f"{name} expired on {ends:%Y-%m-%d}", renew, False))
        elif starts > now:
            fix = "Wait, or check this machine's clock"
            found.append((f"{name} is not valid before {starts:%Y-%m-%d %H:%M} UTC", fix, False))
        elif ends - now < datetime.timedelta(days=WARN_DAYS):
            found.append((f"{name} expires on {ends:%Y-%m-%d}", renew, True))
    fix = "Write the leaf first, then each certificate that signed the one before it"
    for number, (below, above) in enumerate(itertools.pairwise(chain), start=1):
        try:
            below.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature):
            wrong = f"certificate {number + 1} of the file did not sign certificate {number}"
            found.append((wrong, fix, False))
    if _is_authority(chain[0]) and chain[0].subject != chain[0].issuer:
        found.append(("the first certificate of the file is that of an authority", fix, False))
    if len(chain) == 1 and chain[0].subject != chain[0].issuer:
        wrong = "has no intermediate certificate after the leaf, so most browsers refuse it"
        found.append((wrong, "Add the intermediates, unless a root signed the leaf", True))
    return found


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        extension = certificate.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS)
    except x509.ExtensionNotFound:
        return False
    return extension.value.ca


def _names(leaf: x509.Certificate, app: dict, where: str) -> list[Finding]:
    try:
        names = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        covered = {name.lower() for name in names.value.get_values_for_type(x509.DNSName)}
    except x509.ExtensionNotFound:
        covered = set()
    lists = [app[key] for key in ("domains", "redirect") if isinstance(app.get(key), list)]
    wanted = [domain for domains in lists for domain in domains if not domain_error(domain)]
    missing = []
    for domain in wanted:
        name = ascii_domain(domain)
        if name not in covered and "*." + name.partition(".")[2] not in covered:
            missing.append(name)
    if not missing:
        return []
    wrong = f"does not cover {', '.join(missing)}, only {', '.join(sorted(covered)) or 'no name'}"
    fix = "Use a certificate with all of the app's domains, or remove the domain"
    return [Finding(f"{where}.certificate", wrong, fix, app["certificate"])]


def _key(pem: bytes, chain: list[x509.Certificate], place: str) -> list[Finding]:
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        fix = "Remove the passphrase (openssl pkey -in FILE) and encrypt with ansible-vault instead"
        return [Finding(place, "has a passphrase, which nginx cannot ask for", fix, HIDDEN)]
    except ValueError:
        fix = "Write a private key as PEM"
        return [Finding(place, "contains no readable private key", fix, HIDDEN)]
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if chain and key.public_key().public_bytes(*form) != chain[0].public_key().public_bytes(*form):
        wrong = "is not the key of the first certificate in the certificate's file"
        return [Finding(place, wrong, "Use the key with which the certificate was requested")]
    return []
