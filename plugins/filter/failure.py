"""Filters that find the reason of a failure in the output of programs."""

import itertools
import re
from collections.abc import Iterable
from typing import Any

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
# Prefixes of lines in `docker compose logs` and `docker compose build`.
ORIGIN = re.compile(r"^(?P<who>[A-Za-z0-9][\w.-]*?)-\d+ +\| ?")
STEP = re.compile(r"^(?:#\d+ )?(?:\d+\.\d+ )?")

TRACEBACK = re.compile(
    r"(?P<indent>[\s|+]*?)(?:Exception Group )?Traceback \(most recent call last\)"
)
CHAINED = re.compile(
    r"\s*(During handling of the above exception|The above exception was the direct cause)"
)
# How many lines of a traceback's frames, and of an exception's message, are shown.
FRAME_LINES = 14
MESSAGE_LINES = 5
LAST_LINES = 15
LOG_LINES = 40

# Messages of servers at each start, which say nothing about the app.
BANNER = re.compile(
    "|".join(
        [
            r"\[uWSGI\] getting |running \".*\" \((asap|master-start|post-fork|as-root)",
            r"\*{3} (Starting uWSGI|Operational MODE|uWSGI is running|WARNING: you are running)",
            r"(compiled with version|nodename|machine|clock source): |os: Linux",
            r"lock engine: |thunder lock: ",
            r"detected (number of CPU|binary path|max file)|current working directory: |chdir\(\) ",
            r"!!! no internal routing|your (processes|memory|server socket|mercy|request) ",
            r"uwsgi socket \d|Python version: \d|Python main interpreter|python threads support",
            r"setting request body|mapped \d+ bytes|spawned uWSGI|set[gu]id\(\) to ",
            r"\.*gracefully killing|worker \d+ buried|goodbye to uWSGI|VACUUM: |SIG[\w/]+ received",
            r"WSGI app \d+ .* ready in ",
            r"(\[[^]]*\] )*\[INFO\] (Starting gunicorn|Listening|Using|Booting|Handling|Shut)",
            r"(\[[^]]*\] )*\[INFO\] (Started server|Waiting for app|Application |Worker exiting)",
            r"added /opt/flask-vps/? to pythonpath",
            r"INFO:\s+(Started |Waiting for app|Application |Uvicorn running|Finished |Shutting)",
            r"\d{4}/\d\d/\d\d [\d:]+ \[notice\]",
        ]
    )
)
# Progress of BuildKit, and success messages of package managers.
PROGRESS = re.compile(
    "|".join(
        [
            r"\[internal\]|\[.*\] (FROM|COPY|RUN|WORKDIR|ENV|ARG|USER|CMD)\b|building with |\W+$",
            r"(CACHED|DONE [\d.]+s|\.\.\.)$",
            r"(transferring|extracting|exporting|writing|naming|resolve|sha256:|preparing)\b",
            r"(Get|Hit|Ign):\d|\(?Reading |Building dependency",
            r"(Selecting|Preparing to|Unpacking|Setting up|Processing triggers) ",
            r"\s*(Downloading|Using cached|Collecting|Requirement already|Obtaining|━|╸)",
            r"\s*(Getting req\w+|Preparing metadata|Installing build) .*: (start|finish)ed",
            r"(The following|Suggested packages|Recommended packages|Need to get|After this op)",
            r"\d+\.\d+$|\d+ upgraded, |Fetched \d",
        ]
    )
)

# Messages of glibc, musl, apt, npm, Go and apk when no resolver answered, ...
NO_RESOLVER = (
    r"Temporary failure in name resolution|Temporary failure resolving|\[Errno -3\]|EAI_AGAIN"
    r"|server misbehaving|lookup \S+ on \S+: .*(timeout|connection refused)|DNS: transient error"
)
# ... and when the name does not exist; some programs use the same message for both.
NO_NAME = (
    r"Name or service not known|No address associated with hostname|Name does not resolve"
    r"|\[Errno -[25]\]|getaddrinfo (failed|ENOTFOUND)|lookup \S+( on \S+)?: .*no such host"
    r"|could ?n.t resolve (host|proxy)|could not resolve (host|proxy)|unable to resolve host"
    r"|could not translate host name|DNS lookup error|DNS: name does not exist"
)
# Errors that may be gone on the next try.
PASSES = re.compile(
    r"connection (reset|broken|aborted|timed out)|timed? ?out|unexpected eof|incompleteread"
    r"|tls handshake|hash sum mismatch|file has unexpected size|mirror sync in progress"
    r"|failed to fetch|\b50[0234]\s+(internal|bad|service|gateway|server)|too many requests"
    r"|(error|status|code|returned)\D{0,12}\b50[0234]\b|remote end closed|ECONNRESET|ETIMEDOUT"
    r"|network is unreachable|oci runtime|\brunc\b|failed to create (shim|task)|no such container"
    r"|context canceled|broken pipe",
    re.IGNORECASE,
)
# pip gave up asking an index, and then reports that it has no such package.
GAVE_UP = "Retry(total=0"
# Errors that come again with the same source, whatever else the log says.
STAYS = re.compile(
    r"error: command .* failed with exit|\w\.\w+:\d+(:\d+)?: (fatal )?error:|resolutionimpossible"
    r"|no matching distribution|do not match the hashes|invalid requirement|unable to locate pack"
    r"|has no installation candidate|dockerfile parse error|failed to (compute cache|calculate)",
    re.IGNORECASE,
)
# Lines that say what went wrong, ...
TELLING = re.compile(
    r"(?i)\b(fatal|error|err!|failed|failure|exception|cannot|can't|could not|couldn't|not found"
    r"|no such|missing|denied|refused|undefined|unsupported|requires|killed|invalid|conflict\w*)\b"
)
# ... and those that only warn, or name a step around the error.
WARNING = re.compile(
    r"(?i)\s*(\S+:\d+(:\d+)?: )?(warning|note|hint|notice|deprecat\w+)\b|npm (warn|notice)\b"
    r"|.*\b\w*(deprecation|future|user|runtime)warning\b|\s*\[(notice|warn\w*)\]|.*-W\w+"
    r"|\s*(note: )?this (error originates|is an issue with)|.*\[(\d+ lines|end) of output\]"
    r"|\s*(compilation|build) terminated|\s*[^\w\s]+$"
)
# The last line of BuildKit repeats the command, which the report names already.
WRAPPER = re.compile(
    r"ERROR: (failed to (solve|build)|process)|failed to solve|Dockerfile:\d+|\s*>>> "
)
MEANINGFUL_LINES = 8
# Advice of the recipe's own programs.
OURS = re.compile(
    r"could not be compiled without|has no wheel for this Python|The build command failed"
    r"|^The versions are those of"
)
BUILD_ADVICE = {
    NO_RESOLVER: (
        "The build could not look up a name: no resolver answers in the network of builds. See "
        "/etc/resolv.conf on the server; where containers cannot reach the resolver, set "
        "build_network to host. The app's list of dependencies is not the cause."
    ),
    NO_NAME: (
        "The build could not look up a name, which is shown below. If it is correct, the server's "
        "resolver does not know it, or builds cannot reach it: see /etc/resolv.conf on the "
        "server, and build_network."
    ),
    r"No route to host|EHOSTUNREACH|administratively prohibited": (
        "The build asked a private address, which builds may not reach: name the address in "
        "docker_builds_may_reach if they should."
    ),
    r"No space left on device": (
        "The server's disk is full: `docker system df` shows what takes the space."
    ),
    r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSL certificate problem": (
        "Downloads go through a proxy with its own certificate authority: set build_ca_bundle."
    ),
}


def failure_log(log: str) -> str:
    """Shorten the log of a program that failed."""
    found = [_tell(who, lines) for who, lines in _by_origin(_lines(log)).items()]
    # A traceback is nearer to the cause than the messages of other containers.
    found.sort(key=lambda part: "Traceback" not in part)
    return "\n".join(part for part in found if part) or "\n".join(_lines(log)[-5:])


def build_log(output: str) -> str:
    """Shorten the output of a failed build: advice, then the lines that tell, then their end."""
    lines = [STEP.sub("", line) for line in _lines(output)]
    kept = _distinct(line for line in lines if not PROGRESS.match(line))
    telling = _telling(kept)
    rest = [line for line in kept if line not in telling and not WARNING.match(line)]
    left = LAST_LINES if telling else LOG_LINES
    return "\n".join([*build_advice(output), *telling, *rest[-left:]])


def _telling(lines: list[str]) -> list[str]:
    """Take the last lines that say what went wrong, without warnings."""
    ours = [line for line in lines if OURS.search(line)]
    errors = [
        line
        for line in lines
        if TELLING.search(line) and not WARNING.match(line) and not WRAPPER.match(line)
    ]
    others = [line for line in errors if line not in ours]
    return [*ours, *others[-MEANINGFUL_LINES:]]


def build_advice(output: str) -> list[str]:
    """Return advice for the first known error in a build's output."""
    for pattern, text in BUILD_ADVICE.items():
        if re.search(pattern, output, re.IGNORECASE):
            return [text]
    return []


def may_pass(result: dict[str, Any]) -> bool:
    """Tell whether another try of a build can help."""
    text = "\n".join(str(result.get(key) or "") for key in ("msg", "stdout", "stderr"))
    if build_advice(text):
        return False
    if GAVE_UP in text:
        return True
    # A warning of a compiler, or a download that succeeded at the second try, is not the cause.
    lines = [STEP.sub("", line) for line in _lines(text)]
    rest = "\n".join(n for n in lines if not WARNING.match(n) and not PROGRESS.match(n))
    return bool(PASSES.search(rest)) and not STAYS.search(rest)


def _lines(text: str) -> list[str]:
    # A progress bar overwrites its line.
    lines = [
        line.rsplit("\r", 1)[-1].rstrip()
        for line in ANSI.sub("", text).replace("\r\n", "\n").split("\n")
    ]
    return [line for line in lines if line]


def _by_origin(lines: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in lines:
        match = ORIGIN.match(line)
        # A line may be empty without its prefix.
        if text := line[match.end() :] if match else line:
            found.setdefault(match["who"] if match else "", []).append(text)
    return found


def _tell(who: str, lines: list[str]) -> str:
    """Shorten the log of one container."""
    shown, others, position = [], [], 0
    while position < len(lines):
        if TRACEBACK.match(lines[position]):
            block, position = _traceback(lines, position)
            if not shown:
                shown = block
            elif block[-1] not in shown:
                others.append(block[-1])
            continue
        others.append(lines[position])
        position += 1
    if shown:
        # Tracebacks of processes that fail at the same time may be interleaved.
        others = [line for line in others if line not in shown and not line.startswith("  ")]
    rest = _distinct(line for line in others if not BANNER.match(line))
    last = rest[-(LAST_LINES if shown else LOG_LINES) :]
    heading = [f"{who}:"] if who and (shown or last) else []
    return "\n".join([*heading, *shown, *last])


def _traceback(lines: list[str], start: int) -> tuple[list[str], int]:
    """
    Read a traceback and those that are chained to it.

    Parameters
    ----------
    lines : list of str
        A log without empty lines.
    start : int
        Where the traceback begins.

    Returns
    -------
    shown : list of str
        Its lines, without frames far from the error.
    end : int
        Index of the line after it.
    """
    shown: list[str] = []
    position = start
    while position < len(lines):
        match = TRACEBACK.match(lines[position])
        if not match:
            break
        heading, position = lines[position], position + 1
        if "Exception Group" in heading:
            group = _drawn(lines[position:])
            shown += [heading, *group[:LOG_LINES]]
            position += len(group)
            break
        frames = []
        # Frames are indented more than the lines around them.
        while position < len(lines) and re.match(
            rf"{re.escape(match['indent'])}[\s|]", lines[position]
        ):
            frames.append(lines[position])
            position += 1
        left_out = ["  ..."] if len(frames) > FRAME_LINES else []
        shown += [heading, *left_out, *frames[-FRAME_LINES:]]
        message = _message(lines[position : position + MESSAGE_LINES])
        shown += message
        position += len(message)
        if position == len(lines) or not CHAINED.match(lines[position]):
            break
        shown.append(lines[position])
        position += 1
    return shown, position


def _drawn(lines: list[str]) -> list[str]:
    """Take the tree of tracebacks that Python prints for a group of exceptions."""
    return list(itertools.takewhile(re.compile(r"\s+[|+]").match, lines))


def _message(lines: list[str]) -> list[str]:
    """Take the lines of an exception's message, which follow the frames."""
    found = lines[:1]
    for line in lines[1:]:
        if re.match(
            r"[\[*{]|\d{4}[-/]|(unable to load app|INFO|WARN|ERROR|DEBUG|CRITICAL)\b", line
        ):
            break
        if TRACEBACK.match(line) or CHAINED.match(line) or BANNER.match(line):
            break
        found.append(line)
    return found


def _distinct(lines: Iterable[str]) -> list[str]:
    """Drop lines that differ only in numbers; the first of them shows the count."""
    counts: dict[str, int] = {}
    first: dict[str, str] = {}
    for line in lines:
        key = re.sub(r"0x[0-9a-f]+|\d+", "#", line)
        counts[key] = counts.get(key, 0) + 1
        first.setdefault(key, line)
    return [
        f"{line} ({counts[key]} times)" if counts[key] > 1 else line for key, line in first.items()
    ]


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {"build_log": build_log, "failure_log": failure_log, "may_pass": may_pass}
