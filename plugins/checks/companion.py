"""Read the state of each certificate from the companion's log. Pure functions."""

import datetime
import re
from dataclasses import dataclass

from module_utils.names import Names

# This project's companion: images/acme-companion/src/companion/service.py.
_REFUSED = re.compile(
    r"acme-companion: (?P<name>\S+): no certificate, next try in \d+ s: (?P<why>.*)"
)
_ODD = re.compile(r"acme-companion: (?P<name>\S+): got a certificate, but (?P<why>.*); next try in")
_AWAY = re.compile(
    r"acme-companion: (?P<name>\S+): the CA cannot be reached, trying on: (?P<why>.*)"
)
_LEFT_OUT = re.compile(r"acme-companion: (?P<name>\S+): (?P<why>.*); left out$")
_BEGINS = re.compile(r"acme-companion: (?P<name>\S+): getting a certificate")
_GOT = re.compile(r"acme-companion: (?P<name>\S+): certificate for ")
_ANSWERS = re.compile(r"acme-companion: \S+ answers again")

# Upstream's companion, which prints the output of acme.sh between two lines of its own:
# https://github.com/nginx-proxy/acme-companion/blob/main/app/letsencrypt_service
_SECTION = re.compile(r"^Creating/renewal (?P<name>\S+) certificates\.\.\.")
_SECTION_ENDS = re.compile(r"^(Creating/renewal |Sleep for |Reloading nginx)")
_FAILED = re.compile(r"\berror\b|invalid status|cannot init api|timed? ?out|rate.?limit", re.I)
_SUCCESS = re.compile(
    r"cert success|your cert is in|skipping\. next renewal|domains not changed", re.I
)
_UNREACHABLE = re.compile(r"cannot init api|could ?n.t connect|could not resolve", re.I)
_CLUTTER = re.compile(r"\x1b\[[0-9;]*m|^\[\w{3} \w{3} [^\]]*\] ?")
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z ")
_ADVICE = re.compile(r"please (add|check|refer)|^see:", re.I)


@dataclass(frozen=True)
class Word:
    """
    The companion's last message on one certificate.

    Parameters
    ----------
    kind : str
        ``refused`` by the authority; ``away`` if the authority cannot be reached; ``trying`` while
        a request runs; ``got``; ``left out`` if the containers' settings are wrong.
    why : str, optional
        The reason, in full.
    """

    kind: str
    why: str = ""

    @property
    def failed(self) -> bool:
        """Whether this means that there is no new certificate."""
        return self.kind in ("refused", "away", "left out")


def read_log(log: str, since: float = 0) -> dict[str, Word]:
    """
    Read the log of this project's companion or of upstream's.

    Parameters
    ----------
    log : str
        The log, oldest line first, with or without Docker's time stamps.
    since : float, optional
        Ignore older lines, in seconds since 1970. The result of a try that began earlier is ignored
        too, because it reflects an earlier state.

    Returns
    -------
    dict of str to Word
        By a certificate's first name, or by a container's name for what was left out. The companion
        reports an unreachable authority once for all certificates, so that message is also under
        the empty name.
    """
    found: dict[str, Word] = {}
    section, said = "", []
    begun: set[str] | None = set() if since else None
    for raw in log.splitlines():
        stamp, line = _split(raw)
        if stamp is not None and stamp < since:
            continue
        if section and _SECTION_ENDS.match(line):
            found[section] = _upstreams(said) or found.get(section, Word("trying"))
            section, said = "", []
        if match := _SECTION.match(line):
            section = match["name"]
            found[section] = Word("trying")
        elif section:
            said.append(line)
        _ours(line, found, begun)
    if section and said:
        # A section without an end may still go on, so only its success counts.
        word = _upstreams(said)
        if word and not word.failed:
            found[section] = word
    return found


def _split(raw: str) -> tuple[float | None, str]:
    match = _STAMP.match(raw)
    if not match:
        return None, _CLUTTER.sub("", raw).strip()
    whole = datetime.datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.UTC)
    rest = _CLUTTER.sub("", raw[match.end() :]).strip()
    return whole.timestamp() + float(f"0{match[2] or ''}"), rest


def _ours(line: str, found: dict[str, Word], begun: set[str] | None) -> None:
    if match := _REFUSED.match(line) or _ODD.match(line):
        if begun is None or match["name"] in begun:
            found[match["name"]] = Word("refused", match["why"])
    elif match := _AWAY.match(line):
        found[match["name"]] = found[""] = Word("away", match["why"])
    elif match := _LEFT_OUT.match(line):
        found[match["name"]] = Word("left out", match["why"])
    elif match := _BEGINS.match(line):
        found[match["name"]] = Word("trying")
        found.pop("", None)
        if begun is not None:
            begun.add(match["name"])
    elif match := _GOT.match(line):
        found[match["name"]] = Word("got")
        found.pop("", None)
    elif _ANSWERS.match(line):
        for name in [n for n, word in found.items() if word.kind == "away"]:
            del found[name]


def _upstreams(said: list[str]) -> Word | None:
    if any(_SUCCESS.search(line) for line in said):
        return Word("got")
    failures = [line for line in said if _FAILED.search(line) and not _ADVICE.search(line)]
    if not failures:
        return None
    why = " | ".join(failures[-3:])
    return Word("away" if _UNREACHABLE.search(why) else "refused", why)


def word_on(app: str, domains: list[str], words: dict[str, Word]) -> Word | None:
    """
    Find the last message on the certificate of an app.

    Parameters
    ----------
    app : str
        The app's name.
    domains : list of str
        Its domains; the first one names the certificate.
    words : dict of str to Word
        What `read_log` returned.

    Returns
    -------
    Word or None
        None if the log has no message on it.
    """
    own = next((words[name] for name in domains if name in words), None)
    if own and (own.failed or own.kind == "got"):
        return own
    for name, word in words.items():
        if word.kind == "left out" and name.startswith(Names(app).domains_project):
            return word
    return words.get("") or own
