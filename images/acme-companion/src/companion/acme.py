"""Debian's acme.sh, and what its output means.

Options: https://github.com/acmesh-official/acme.sh/wiki/Options-and-Params
"""

import json
import logging
import os
import re
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .wanted import Wanted

WEBROOT = Path("/usr/share/nginx/html")
TIMEOUT_SECONDS = 300
DIRECTORY_TIMEOUT_SECONDS = 10
log = logging.getLogger("acme-companion")

_TIMESTAMP = re.compile(r"^\[[^\]]*\] ?|\x1b\[[0-9;]*m")
_NOISE = re.compile(
    r"^$|please (add|check|refer)|^see:|sleeping|retry|^(pending|processing)\b|^\d+$", re.I
)
_CONNECTION = re.compile(
    r"cannot init api|libcurl-errors|could ?n.t connect|could not (resolve|connect)|timed out", re.I
)
# A string of JSON, with what is escaped in it.
_DETAIL = re.compile(r'"detail": *("(?:[^"\\]|\\.)*")')
_UNKNOWN_ACCOUNT = re.compile(r"accountDoesNotExist|unable to find (registration|account)", re.I)


class CaUnreachableError(Exception):
    """The CA cannot be reached, which counts against no rate limit."""


class OrderError(Exception):
    """The CA refused the order, or could not validate a domain."""


@dataclass(frozen=True)
class Result:
    """One run of acme.sh."""

    ok: bool
    output: str


def cause(output: str) -> str:
    """Return the last useful lines of acme.sh's output as one line.

    Parameters
    ----------
    output : str
        Its standard output and error.

    Returns
    -------
    str
        At most three lines and 1500 characters.
    """
    lines = [_TIMESTAMP.sub("", line).strip() for line in output.splitlines()]
    useful = [line for line in lines if not _NOISE.search(line)][-3:]
    # Whole lines from the end; the beginning of a long one says more than its end.
    while len(useful) > 1 and len(" | ".join(useful)) > 1500:
        useful.pop(0)
    return " | ".join(useful)[:1500] or "acme.sh said nothing"


def complete(output: str, details: str) -> str:
    """Put back what acme.sh cuts off: it prints the CA's reason up to the first quotation mark.

    Parameters
    ----------
    output : str
        Its standard output and error.
    details : str
        Its log, which has the CA's answers.

    Returns
    -------
    str
        The output with whole reasons.
    """
    for literal in dict.fromkeys(_DETAIL.findall(details)):
        cut, escape, _ = literal[1:-1].partition('\\"')
        if not escape:
            continue
        try:
            whole = " ".join(json.loads(literal).split())
        except ValueError:
            continue
        pattern = rf"(?<=error details: ){re.escape(cut.rstrip())}[ \\]*$"
        output = re.sub(pattern, lambda _, w=whole: w, output, flags=re.MULTILINE)
    return output


def raise_failure(result: Result) -> None:
    """Raise what a run's failure means.

    Raises
    ------
    CaUnreachableError, OrderError
        Unless the run was good.
    """
    if result.ok:
        return
    if _CONNECTION.search(result.output):
        raise CaUnreachableError(cause(result.output))
    raise OrderError(cause(result.output))


class AcmeSh:
    """Runs acme.sh for one certificate.

    Parameters
    ----------
    state : Path
        ``/etc/acme.sh``.
    ca_bundle : str
        Path of the CA's own root certificate, or empty for Debian's list.
    """

    def __init__(self, state: Path, ca_bundle: str) -> None:
        self._state = state
        self._ca_bundle = ca_bundle

    def check_directory(self, uri: str) -> None:
        """See whether the CA answers, since acme.sh would take minutes to find out.

        curl, since acme.sh uses it: the same proxies, the same idea of a valid certificate.

        Raises
        ------
        CaUnreachableError
            With the reason.
        """
        command = ["curl", "-fsS", "--max-time", str(DIRECTORY_TIMEOUT_SECONDS), "-o", "/dev/null"]
        if self._ca_bundle:
            command += ["--cacert", self._ca_bundle]
        done = subprocess.run([*command, uri], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CaUnreachableError(f"{uri}: {done.stderr.strip()}")

    def _run(self, wanted: Wanted, action: str, *arguments: str) -> Result:
        home = self._state / wanted.home
        home.mkdir(mode=0o700, exist_ok=True)
        command = ["acme.sh", action, "--home", "/usr/share/acme.sh", "--config-home", str(home)]
        command += ["--server", wanted.ca_uri, "--auto-upgrade", "0"]
        if self._ca_bundle:
            command += ["--ca-bundle", self._ca_bundle]
        # Only these, because acme.sh saves some variables of its environment in its files.
        passed = ("PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "https_proxy", "no_proxy")
        environment = {name: os.environ[name] for name in passed if name in os.environ}
        with (
            tempfile.NamedTemporaryFile() as details,
            subprocess.Popen(
                [*command, "--log", details.name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment | {"HOME": "/tmp"},  # noqa: S108 # a tmpfs of ours alone
                start_new_session=True,
                umask=0o077,  # keys; acme.sh opens the challenge's files itself
            ) as process,
        ):
            try:
                output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output = f"{process.communicate()[0]}\nacme.sh timed out"
            answers = Path(details.name).read_text(errors="replace")
        return Result(process.returncode == 0, complete(output, answers))

    def _register(self, wanted: Wanted) -> None:
        folder = self._state / wanted.home / wanted.account_folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if wanted.eab:
            # In a file, because other users could read the command line.
            path = folder / "ca.conf"
            path.touch(mode=0o600)
            kept = [line for line in path.read_text().splitlines() if "CA_EAB_" not in line]
            names = ("CA_EAB_KEY_ID", "CA_EAB_HMAC_KEY")
            kept += [f"{n}='{v}'" for n, v in zip(names, wanted.eab, strict=True)]
            path.write_text("\n".join(kept) + "\n")
        email = ("--accountemail", wanted.email) if wanted.email else ()
        raise_failure(self._run(wanted, "--register-account", *email))
        # If the CA knows the key already, it sends no account, and acme.sh creates no file.
        (folder / "account.json").touch(mode=0o600)
        log.info("%s: account registered at %s", wanted.email or "no e-mail", wanted.ca_uri)

    def issue(self, wanted: Wanted) -> None:
        """Get a certificate into acme.sh's own folders.

        Raises
        ------
        CaUnreachableError, OrderError
            With the cause.
        """
        if not (self._state / wanted.home / wanted.account_folder / "account.json").exists():
            self._register(wanted)
        # World-readable for nginx's workers; acme.sh does not change existing folders.
        challenge = WEBROOT / ".well-known/acme-challenge"
        challenge.mkdir(parents=True, exist_ok=True)
        arguments = ["--webroot", str(WEBROOT), "--keylength", wanted.key_size, "--force"]
        arguments += ["--days", str(wanted.renew_after_days)]
        for name in wanted.names:
            arguments += ["--domain", name]
        if wanted.renew_key:
            arguments.append("--always-force-new-domain-key")
        result = self._run(wanted, "--issue", *arguments)
        if not result.ok and _UNKNOWN_ACCOUNT.search(result.output):
            log.warning("%s does not know our account any more", wanted.ca_uri)
            self._register(wanted)
            result = self._run(wanted, "--issue", *arguments)
        raise_failure(result)
