"""What the log of the companion says about each certificate. Pure functions."""

import datetime
import re
from dataclasses import dataclass

# Ours: images/acme-companion/src/companion/service.py.
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

# Upstream's, which prints what acme.sh says between two lines of its own:
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
    The companion's last word on one certificate.

    Parameters
    ----------
    kind : str
        ``refused`` by the authority, or ``away`` when the authority cannot be reached; ``trying``
        while it is asked; ``got``; ``left out`` when what the containers ask for is wrong.
    why : str, optional
        The reason, in full.
    """

    kind: str
    why: str = ""

    @property
    def failed(self) -> bool:
        """Whether there is no certificate by this."""
        return self.kind in ("refused", "away", "left out")


def read_log(log: str, since: float = 0) -> dict[str, Word]:
    """
    Read the companion's log, ours or upstream's.

    Parameters
    ----------
    log : str
        Its lines, the oldest first, each perhaps after Docker's own time stamp.
    since : float, optional
        From when on it counts, in seconds since 1970. The end of a try that had begun before does
        not: it speaks of how things were then.

    Returns
    -------
    dict of str to Word
        By a certificate's first name; by a container's name for what was left out. An authority
        that cannot be reached is said once, for all of its certificates: its word is under the
        empty name, too.
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
        # Without its end a section may go on; what it says already counts if it succeeded.
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
    Find the last word on the certificate of an app.

    Parameters
    ----------
    app : str
        The app's name.
    domains : list of str
        Its domains; the first one names the certificate.
    words : dict of str to Word
        What `read_log` has found.

    Returns
    -------
    Word or None
        None if the log says nothing.
    """
    own = next((words[name] for name in domains if name in words), None)
    if own and (own.failed or own.kind == "got"):
        return own
    for name, word in words.items():
        if word.kind == "left out" and name.startswith(f"{app}-vhost"):
            return word
    return words.get("") or own
