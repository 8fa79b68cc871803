"""Judge a visit of a site over TLS: dates, names, chain and answer. Pure functions."""

import base64
import datetime
import itertools
import re
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtensionOID, NameOID

from checks.report import Finding

# The companion renews when a third of the lifetime is left, and looks every hour.
GRACE = datetime.timedelta(hours=6)
# Certificates that are renewed by hand may be valid for ten years.
BY_HAND = datetime.timedelta(days=30)
# Codes from https://www.openssl.org/docs/man3.0/man3/X509_STORE_CTX_get_error.html
UNTRUSTED = {18, 19, 20, 21}
CHAIN_EXPIRED = {10}
# Authorities that every machine trusts.
TRUSTED_AUTHORITIES = ("letsencrypt", "zerossl")


@dataclass
class Verdict:
    """
    The result for one site.

    Parameters
    ----------
    app, domain : str
        The app, and the domain that was visited.
    tls : str
        Where its certificate comes from: acme, own, or selfsigned.
    certificate : str
        Its certificate in a few words.
    answer : str
        What it answered, in a few words.
    unfit : bool
        Whether the site has no certificate that browsers accept.
    renewal : bool
        Whether the first finding is about a missing certificate or one that is due for renewal.
    found : list of Finding
        What is wrong.
    """

    app: str
    domain: str
    tls: str
    certificate: str = "none"
    answer: str = "none"
    unfit: bool = False
    renewal: bool = False
    found: list[Finding] = field(default_factory=list)

    def add(self, wrong: str, fix: str, *, warning: bool = False, unfit: bool = False) -> None:
        """Add a finding."""
        self.unfit |= unfit
        self.renewal |= unfit
        self.found.append(Finding(f"https://{self.domain}/", wrong, fix, warning=warning))

    @property
    def fails(self) -> bool:
        """Whether visitors are affected."""
        return any(not finding.warning for finding in self.found)

    def explain(self, text: str) -> None:
        """Add the companion's message to the first finding, which is the one on the certificate."""
        first = self.found[0]
        self.found[0] = replace(first, fix=f"{first.fix}.\n  {text}")


def judge(visit: dict[str, Any], tls: str, trusted_ca: bool, now: datetime.datetime) -> Verdict:
    """
    Judge a visit.

    Parameters
    ----------
    visit : dict
        What the module ``site_visit`` returned for one domain.
    tls : str
        Where the certificate should come from: acme, own, or selfsigned.
    trusted_ca : bool
        Whether the authority is one that every machine trusts. Certificates of another authority
        cannot be verified up to its root here: only the dates, the names and the signatures within
        the chain are checked.
    now : datetime.datetime
        The server's time, with time zone.

    Returns
    -------
    Verdict
        The texts and findings.
    """
    verdict = Verdict(visit["app"], visit["domain"], tls)
    if not visit["reached"]:
        wrong = f"nothing listens on the server's HTTPS port ({visit['refused']})"
        verdict.add(wrong, "Look at the container edge-nginx-1, or run site.yml", unfit=False)
        return verdict
    if not visit["chain"]:
        wrong = f"nginx has no certificate for it and refuses the connection ({visit['refused']})"
        verdict.add(wrong, _way_to_one(tls), unfit=True)
        return verdict
    _judge_certificate(verdict, visit, trusted_ca, now)
    _judge_answer(verdict, visit)
    return verdict


def _way_to_one(tls: str) -> str:
    if tls == "acme":
        return "Fix what the companion reports, and deploy again"
    if tls == "own":
        return "Set certificate and certificate_key to the right files, and deploy"
    return "Deploy the app, which creates one"


def _judge_certificate(
    verdict: Verdict, visit: dict[str, Any], trusted_ca: bool, now: datetime.datetime
) -> None:
    try:
        chain = [x509.load_der_x509_certificate(base64.b64decode(c)) for c in visit["chain"]]
        names = _names(chain[0])
    except ValueError as error:
        verdict.add(
            f"its certificate cannot be read ({error})", _way_to_one(verdict.tls), unfit=True
        )
        return
    leaf, fix = chain[0], _way_to_one(verdict.tls)
    starts, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    left = ends - now
    past = left <= datetime.timedelta(0)
    spent = f"expired {_days(-left)} ago" if past else f"{_days(left)} left"
    verdict.certificate = f"{_issuer(leaf)}, {spent}, until {ends:%Y-%m-%d}"
    if not _covers(names, verdict.domain):
        shown = ", ".join(sorted(names)) or "no name"
        wrong = f"its certificate is for another name ({shown}), so browsers warn every visitor"
        verdict.add(wrong, fix, unfit=True)
        return
    if past:
        wrong = f"its certificate expired on {ends:%Y-%m-%d %H:%M} UTC: visitors are turned away"
        verdict.add(wrong, fix, unfit=True)
    elif starts > now:
        wrong = f"its certificate is not valid before {starts:%Y-%m-%d %H:%M} UTC"
        verdict.add(wrong, "Check the server's clock (timedatectl)", unfit=True)
    elif soon := _ends_soon(verdict.tls, ends - starts, left):
        renewal = fix if verdict.tls == "acme" else "Renew it, and deploy"
        verdict.add(f"its certificate expires on {ends:%Y-%m-%d}, {soon}", renewal, warning=True)
        verdict.renewal = True
    _judge_chain(verdict, visit, chain, trusted_ca, now)


def _ends_soon(tls: str, lifetime: datetime.timedelta, left: datetime.timedelta) -> str:
    third = lifetime / 3
    if tls == "acme":
        return (
            f"with less than a third of its {_days(lifetime)} left, and was not renewed"
            if left < third - min(GRACE, lifetime / 30)
            else ""
        )
    return f"in {_days(left)}" if left < min(third, BY_HAND) else ""


def _judge_chain(
    verdict: Verdict,
    visit: dict[str, Any],
    chain: list[x509.Certificate],
    trusted_ca: bool,
    now: datetime.datetime,
) -> None:
    """Judge the chain above the leaf, whose dates and names were judged before."""
    leaf, fix = chain[0], _way_to_one(verdict.tls)
    if visit["verified"]:
        verdict.certificate += ", trusted"
        return
    if leaf.issuer == leaf.subject:
        if not _signed(leaf, leaf):
            verdict.add(
                "its certificate claims to be self-signed, but has another signature",
                fix,
                unfit=True,
            )
        verdict.certificate += ", self-signed"
        if verdict.tls == "acme":
            wrong = "its certificate is self-signed, not issued by the authority"
            verdict.add(wrong, fix, unfit=True)
        return
    for below, above in itertools.pairwise(chain):
        if not _signed(below, above):
            wrong = f"its chain is broken: {_name(above)} did not sign {_name(below)}"
            verdict.add(wrong, fix, unfit=True)
            return
    for certificate in chain[1:]:
        ends = certificate.not_valid_after_utc
        if ends <= now:
            wrong = f"its chain is broken: {_name(certificate)} in it expired on {ends:%Y-%m-%d}"
            verdict.add(wrong, fix, unfit=True)
            return
    why = visit["verify_message"] or f"error {visit['verify_code']}"
    if visit["verified"] is None:
        verdict.certificate += ", not verified (the server has no list of trusted authorities)"
    elif visit["verify_code"] in CHAIN_EXPIRED and not verdict.unfit:
        verdict.add(f"its chain does not verify: {why}", fix, unfit=True)
    elif verdict.unfit or visit["verify_code"] in CHAIN_EXPIRED:
        pass
    elif verdict.tls == "acme" and not trusted_ca:
        verdict.certificate += ", from a private authority"
    elif verdict.tls == "own" and visit["verify_code"] in UNTRUSTED:
        wrong = f"its chain does not lead to an authority that the server trusts ({why})"
        fix = "Add the missing intermediates, unless all visitors trust your own authority"
        verdict.add(wrong, fix, warning=True)
    else:
        verdict.add(f"its chain does not verify: {why}", fix, unfit=True)


def _judge_answer(verdict: Verdict, visit: dict[str, Any]) -> None:
    status = visit["status"]
    verdict.answer = str(status or "none")
    if visit.get("to"):
        _judge_redirect(verdict, visit)
    elif visit["maintenance"] and status == 503:
        verdict.answer = "503, in maintenance"
    elif not status:
        why = visit["answer_error"] or "the connection was closed"
        verdict.add(f"it does not answer ({why})", "Look at the app's containers and their logs")
    elif status >= 500:
        fix = "Look at the app's containers and their logs"
        verdict.add(f"it answers {status} at {visit['path']}", fix)
    elif status == 404 and visit["path"] != "/":
        # The 404 is the app's or nginx's own: whether the page should exist is unknown here.
        fix = "Correct `health` in the app's entry, or run site.yml if the app has that page"
        verdict.add(f"it answers 404 at {visit['path']}, its health path", fix, warning=True)
    elif visit["maintenance"]:
        verdict.answer += ", in maintenance for others"


def _judge_redirect(verdict: Verdict, visit: dict[str, Any]) -> None:
    """Judge the answer of a domain that redirects to another one."""
    target, where = f"https://{visit['to']}", visit.get("location", "")
    if visit["status"] == 301 and re.match(rf"{re.escape(target)}(:\d+)?/", where):
        verdict.answer = f"301 to {visit['to']}"
        return
    what = f"{verdict.answer} to {where}" if where else verdict.answer
    wrong = f"it does not redirect to {target} (its answer: {what})"
    verdict.add(wrong, "Deploy the app, which writes the redirect")


def _signed(below: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(leaf: x509.Certificate) -> set[str]:
    try:
        names = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    except x509.ExtensionNotFound:
        return set()
    return {name.lower() for name in names.value.get_values_for_type(x509.DNSName)}


def _covers(names: set[str], domain: str) -> bool:
    return domain in names or "*." + domain.partition(".")[2] in names


def _issuer(leaf: x509.Certificate) -> str:
    for oid in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME):
        found = leaf.issuer.get_attributes_for_oid(oid)
        if found:
            return str(found[0].value)
    return "no issuer"


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "a certificate without a name"


def _days(span: datetime.timedelta) -> str:
    hours = span.total_seconds() / 3600
    if abs(hours) < 48:
        return f"{hours:.0f} h"
    return f"{int(hours // 24)} days"
