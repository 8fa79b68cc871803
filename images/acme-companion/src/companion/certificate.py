"""Read certificates on disk, decide whether to renew them, and install new ones.

The layout of /etc/nginx/certs is upstream's, so that both images can take turns on the same
volumes: https://github.com/nginx-proxy/acme-companion/blob/main/docs/Persistent-data.md.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from .wanted import Wanted

#: Files of /etc/nginx/certs/<folder> and where acme.sh keeps them; the key comes last.
FILES = {
    "cert.pem": "{base}.cer",
    "chain.pem": "ca.cer",
    "fullchain.pem": "fullchain.cer",
    "key.pem": "{base}.key",
}
#: Links for each host, under the names that nginx-proxy looks for.
LINKS = {".crt": "fullchain.pem", ".key": "key.pem", ".chain.pem": "chain.pem"}


@dataclass(frozen=True)
class Certificate:
    """The relevant fields of a certificate."""

    names: frozenset[str]
    not_before: datetime
    not_after: datetime
    key_size: str
    issuer: str = ""


def _openssl(*arguments: str) -> str:
    done = subprocess.run(("openssl", *arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"openssl {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def parse(text: str) -> Certificate:
    """Read the output of ``openssl x509 -text``.

    Raises
    ------
    ValueError
        If a field is missing.
    """

    def find(pattern: str) -> str:
        match = re.search(pattern, text)
        if not match:
            raise ValueError(f"no {pattern!r} in the certificate")
        return match[1]

    def date(label: str) -> datetime:
        value = datetime.strptime(find(rf"{label} *: (.+) GMT"), "%b %d %H:%M:%S %Y")
        return value.replace(tzinfo=UTC)

    bits = find(r"Public-Key: \((\d+) bit")
    curve = "ec-" if "id-ecPublicKey" in text else ""
    return Certificate(
        names=frozenset(name.lower() for name in re.findall(r"DNS:([^,\s]+)", text)),
        not_before=date("Not Before"),
        not_after=date("Not After"),
        key_size=curve + bits,
        issuer=find(r"Issuer: (.*)"),
    )


def read(path: Path) -> Certificate | None:
    """Read a certificate, or None if there is none that can be read."""
    if not path.exists():
        return None
    try:
        return parse(_openssl("x509", "-in", str(path), "-noout", "-text"))
    except ValueError:
        return None


def due(wanted: Wanted, current: Certificate | None, last_ca: str, now: datetime) -> str | None:
    """Tell why a new certificate is due.

    Parameters
    ----------
    wanted : Wanted
        What the containers ask for.
    current : Certificate or None
        What nginx has.
    last_ca : str
        Directory URL the current one came from; empty if unknown.
    now : datetime
        The current time, with a time zone.

    Returns
    -------
    str or None
        The reason in words, or None while it is good.
    """
    if current is None:
        return "there is none yet"
    if missing := sorted(set(wanted.names) - current.names):
        return f"{', '.join(missing)} is not in it"
    if current.key_size != wanted.key_size:
        return f"its key is {current.key_size}, wanted is {wanted.key_size}"
    if last_ca and last_ca.rstrip("/") != wanted.ca_uri.rstrip("/"):
        return f"it came from {last_ca}"
    # 60 days fit certificates for 90. Lifetimes get shorter, so two thirds of it at the latest:
    # https://letsencrypt.org/docs/integration-guide/#when-to-renew
    lifetime = current.not_after - current.not_before
    age = min(timedelta(days=wanted.renew_after_days), lifetime * 2 / 3)
    if now >= current.not_before + age:
        return f"it is from {current.not_before:%Y-%m-%d}"
    return None


def last_ca(domain_conf: Path) -> str:
    """Return the directory URL in acme.sh's record of a certificate, or nothing."""
    try:
        match = re.search(r"^Le_API='([^']*)'", domain_conf.read_text(), re.MULTILINE)
    except OSError:
        return ""
    return match[1] if match else ""


def _replace(path: Path, content: bytes, mode: int) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def install(wanted: Wanted, acme_home: Path, certs: Path, version: str) -> Certificate:
    """Put acme.sh's result where nginx reads it.

    acme.sh could copy it too, but not in one step, and not after checking it.

    Raises
    ------
    ValueError
        If key and certificate do not belong together, or names are missing. Nothing has
        changed then.
    """
    source = acme_home / wanted.domain_folder
    files = {name: source / path.format(base=wanted.base) for name, path in FILES.items()}
    public = _openssl("x509", "-in", str(files["cert.pem"]), "-noout", "-pubkey")
    if public != _openssl("pkey", "-in", str(files["key.pem"]), "-pubout"):
        raise ValueError("the new key does not belong to the new certificate")
    new = parse(_openssl("x509", "-in", str(files["cert.pem"]), "-noout", "-text"))
    if missing := set(wanted.names) - new.names:
        raise ValueError(f"the CA left out {', '.join(sorted(missing))}")
    folder = certs / wanted.folder
    folder.mkdir(mode=0o755, exist_ok=True)
    for name, path in files.items():
        _replace(folder / name, path.read_bytes(), 0o600 if name == "key.pem" else 0o644)
    _replace(folder / ".companion", f"{version}\n".encode(), 0o644)
    return new


def link(wanted: Wanted, certs: Path) -> tuple[bool, list[str]]:
    """Point each host's names at the certificate, if there is one.

    Links are never removed. A host whose container is away for a moment would lose its
    certificate with them (https://github.com/nginx-proxy/acme-companion/issues/1299), and a
    link that no virtual host uses harms nobody.

    Returns
    -------
    bool
        Whether something changed.
    list of str
        Paths that were left alone: real files, so somebody else's certificate.
    """
    folder = certs / wanted.folder
    if not all((folder / name).exists() for name in LINKS.values()):
        return False, []
    changed, foreign = False, []
    for host in wanted.names:
        if any((p := certs / f"{host}{e}").exists() and not p.is_symlink() for e in LINKS):
            foreign.append(str(certs / f"{host}.crt"))
            continue
        for extension, file in LINKS.items():
            path, target = certs / f"{host}{extension}", f"./{wanted.folder}/{file}"
            if path.is_symlink() and os.readlink(path) == target:  # noqa: PTH115 # Path drops ./
                continue
            new = certs / f".{host}{extension}.new"
            new.unlink(missing_ok=True)
            new.symlink_to(target)
            new.replace(path)
            changed = True
    return changed, foreign


def status(certs: Path) -> str:
    """Describe all certificates of the companion, for people."""
    lines = []
    for marker in sorted(certs.glob("*/.companion")):
        folder = marker.parent
        found = read(folder / "fullchain.pem")
        if found is None:
            lines.append(f"{folder.name}: no certificate that can be read")
            continue
        hosts = [
            path.name.removesuffix(".crt")
            for path in sorted(certs.glob("*.crt"))
            if path.is_symlink() and path.resolve().parent == folder.resolve()
        ]
        state = "valid" if datetime.now(UTC) < found.not_after else "EXPIRED"
        lines += [
            f"{folder.name}: {state} until {found.not_after:%Y-%m-%d %H:%M} UTC, "
            f"{found.key_size}, issued by {found.issuer}",
            f"    names: {' '.join(sorted(found.names))}",
            f"    used by: {' '.join(hosts) or 'no host'}",
        ]
    return "\n".join(lines) or "no certificates"
