"""Reports of failures: of an app's start, of a build, and of other programs."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import failure
import pytest
from checks.report import quote
from checks.ssh import ssh_advice

from app import release_advice

ROOT = Path(__file__).parents[2]

BANNER = """[uWSGI] getting INI configuration from /etc/uwsgi.ini
running "unix_signal:15 _exit" (asap)...
*** Starting uWSGI 2.0.31 (64bit) on [Sun Nov 29 14:20:08 2026] ***
compiled with version: 14.2.0 on 29 November 2026 14:17:25
os: Linux-6.18.44 #1 SMP PREEMPT_DYNAMIC @0
nodename: dfbeac1e7484
machine: x86_64
clock source: unix
detected number of CPU cores: 2
current working directory: /app
detected binary path: /opt/venv/bin/uwsgi
!!! no internal routing support, rebuild with pcre support !!!
your processes number limit is 96365
your memory page size is 4096 bytes
detected max file descriptor number: 20000
lock engine: pthread robust mutexes
thunder lock: disabled (you can enable it with --thunder-lock)
uwsgi socket 0 bound to UNIX address /sockets/4411b99bacac.sock fd 3
Python version: 3.13.5 (main, Aug 10 2026, 12:06:59) [GCC 14.2.0]
Python main interpreter initialized at 0x7f8af0d70610
python threads support enabled
your server socket listen backlog is limited to 1024 connections
your mercy for graceful operations on workers is 50 seconds
setting request body buffering size to 65536 bytes
mapped 1443360 bytes (1409 KB) for 8 cores
*** Operational MODE: preforking+threaded ***
"""
FRAMES = "".join(f'  File "/opt/venv/lib/x{n}.py", line {n}, in f\n    f()\n' for n in range(20))
WRITES = (
    "Traceback (most recent call last):\n"
    + FRAMES
    + "OSError: [Errno 30] Read-only file system: '/app/logs/x.log'\n"
)
UNABLE = """unable to load app 0 (mountpoint='') (callable not found or import error)
*** no app loaded. GAME OVER ***
"""


def compose(text: str, who: str = "web-1") -> str:
    return "".join(f"{who}  | {line}\n" for line in text.splitlines())


def test_a_start_that_failed_again_and_again_shows_its_traceback_once() -> None:
    # The output of Docker's restarts must not hide that of the first start.
    start = BANNER + WRITES + UNABLE
    shown = failure.failure_log(compose(start * 7 + BANNER)).splitlines()
    assert shown[:3] == ["web:", "Traceback (most recent call last):", "  ..."]
    assert shown.count("OSError: [Errno 30] Read-only file system: '/app/logs/x.log'") == 1
    assert (
        "unable to load app 0 (mountpoint='') (callable not found or import error) (7 times)"
        in shown
    )
    assert not [line for line in shown if line in BANNER.splitlines()]
    assert len(shown) < 25


def test_the_end_of_a_log_without_traceback_is_shown_without_repeats() -> None:
    lines = [f"2026-11-29 14:00:{n:02} waiting for port {8000 + n}" for n in range(50)]
    shown = failure.failure_log("\n".join([*lines, "gave up"]))
    assert shown == f"{lines[0]} (50 times)\ngave up"
    assert failure.failure_log("") == ""
    # A banner is better than nothing.
    assert failure.failure_log(BANNER).splitlines()[-1] == BANNER.splitlines()[-1]


def test_chained_tracebacks_keep_their_first_cause() -> None:
    text = (
        "Traceback (most recent call last):\n  File 'a', line 1, in a\n"
        "psycopg2.OperationalError: connection refused\n\tIs the server running?\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        "Traceback (most recent call last):\n  File 'b', line 1, in b\n"
        "sqlalchemy.exc.OperationalError: (psycopg2.OperationalError) connection refused\n"
        "(Background on this error at: https://sqlalche.me/e/20/e3q8)\n"
        "[2026-11-29] INFO in app: next\n"
    )
    for log in (text, compose(text)):
        shown = failure.failure_log(log).removeprefix("web:\n").splitlines()
        assert shown[0] == "Traceback (most recent call last):"
        assert shown[2] == "psycopg2.OperationalError: connection refused"
        assert shown[4].startswith("The above exception was the direct cause")
        assert shown[-2] == "(Background on this error at: https://sqlalche.me/e/20/e3q8)"
        assert shown[-1] == "[2026-11-29] INFO in app: next"
        assert "" not in shown


def test_a_group_of_exceptions_is_shown_whole() -> None:
    code = """
def each():
    errors = []
    for value in ("one", "two"):
        try:
            int(value)
        except ValueError as error:
            errors.append(error)
    raise ExceptionGroup("many", errors)
each()
"""
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    shown = failure.failure_log(compose((said + "the end\n") * 3)).splitlines()
    assert [line for line in shown if "invalid literal" in line and "'one'" in line]
    assert [line for line in shown if "invalid literal" in line and "'two'" in line]
    assert shown[-1] == "the end (3 times)" and len(shown) < 30


def test_tracebacks_that_cut_into_each_other_are_shown_once() -> None:
    first, second = WRITES.splitlines(), WRITES.splitlines()
    cut = "SIGINT/SIGTERM received...killing workers..."
    mixed = [*first, *second[:3], cut, *second[3:], *second[1:4], "the end"]
    shown = failure.failure_log(compose("\n".join(mixed))).splitlines()
    assert shown.count(first[-1]) == 1 and cut not in shown and shown[-1] == "the end"
    assert len([line for line in shown if line.startswith("  ")]) == failure.FRAME_LINES + 1


def test_who_has_a_traceback_comes_first() -> None:
    log = compose("connect() failed (111: Connection refused)", "relay-1") + compose(WRITES)
    shown = failure.failure_log(log)
    assert shown.index("OSError") < shown.index("relay:")


def test_another_error_after_the_first_is_named() -> None:
    other = "Traceback (most recent call last):\n  File 'a', line 1, in a\nValueError: other\n"
    shown = failure.failure_log(WRITES + other + other)
    assert shown.index("OSError") < shown.index("ValueError: other (2 times)")


def test_colours_and_progress_bars_are_not_shown() -> None:
    assert failure.failure_log("\x1b[31mred\x1b[0m\r\n10%\r50%\r100%") == "red\n100%"


@pytest.mark.parametrize(
    ("log", "advice"),
    [
        (
            "OSError: [Errno 30] Read-only file system: '/app/logs/x.log'",
            "writes to /app/logs/x.log",
        ),
        ("OSError: [Errno 30] Read-only file system: 'logs'", "writes to logs"),
        ("OSError: [Errno 30] Read-only file system: b'/app/x'", "writes to /app/x"),
        ("mkdir: cannot create directory '/app/x': Read-only file system", "writes to /app/x"),
        ("sqlite3.OperationalError: attempt to write a readonly database", "volumes"),
        ("PermissionError: [Errno 13] Permission denied: '/data/x'", "may not open /data/x"),
        ("PermissionError: [Errno 13] Permission denied: 'logs/x'", "may not open logs/x"),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: '/app/logs/x.log'",
            "folder of /app/logs/x.log is not in the app's image",
        ),
        (
            "importlib.metadata.PackageNotFoundError: No package metadata was found for httpbin",
            "metadata of httpbin",
        ),
        ("decouple.UndefinedValueError: MAIL_SERVER not found. Declare it", "MAIL_SERVER"),
        ('environs.EnvError: Environment variable "MAIL_SERVER" not set', "MAIL_SERVER"),
    ],
)
def test_an_error_is_explained(log: str, advice: str) -> None:
    assert advice in release_advice(f"Traceback (most recent call last):\n{log}")


BUILD = """#1 [internal] load build definition from Dockerfile
#9 [build 2/6] RUN apt-get update
#9 0.512 Get:1 http://deb.example trixie InRelease [140 kB]
#12 1.234 WARNING: Retrying (Retry(total=9)) broken by '[Errno -3] {error}': /simple/
#12 2.234 WARNING: Retrying (Retry(total=8)) broken by '[Errno -3] {error}': /simple/
#12 3.000 ERROR: Could not find a version that satisfies the requirement flask (from versions: none)
#12 3.001 ERROR: No matching distribution found for flask
------
 > [dependencies 3/3] RUN install-dependencies:
3.001 ERROR: No matching distribution found for flask
------
ERROR: failed to solve: process "/bin/sh -c install-dependencies" did not complete: exit code: 1
"""


def test_a_build_that_cannot_look_up_names_says_so_and_is_not_tried_again() -> None:
    output = BUILD.format(error="Temporary failure in name resolution")
    shown = failure.build_log(output)
    assert shown.startswith("The build could not look up a name")
    assert "(2 times)" in shown and "[internal]" not in shown and "Get:1" not in shown
    assert shown.count("No matching distribution") == 1 and "---" not in shown
    assert not failure.may_pass({"failed": True, "stderr": output, "msg": "failed"})


@pytest.mark.parametrize(
    ("text", "resolver"),
    [
        ("npm error request failed, reason: getaddrinfo EAI_AGAIN registry.example", True),
        ("NewConnectionError: [Errno -3] Try again", True),
        ("dial tcp: lookup proxy.example on 10.0.0.2:53: read udp: i/o timeout", True),
        ("dns error: failed to lookup address: Temporary failure in name resolution", True),
        ("Failed to resolve 'indx.example' ([Errno -2] Name or service not known)", False),
        ("[Errno -2] Name does not resolve", False),
        ("npm error getaddrinfo ENOTFOUND registy.example", False),
        ("fatal: unable to access 'https://gthub.example/': Could not resolve host: x", False),
        ("wget: unable to resolve host address 'x.example'", False),
        ("dial tcp: lookup x.example: no such host", False),
    ],
)
def test_no_resolver_and_no_such_name_are_told_apart(text: str, resolver: bool) -> None:
    (advice,) = failure.build_advice(text)
    assert ("no resolver answers" in advice) is resolver
    assert advice.startswith("The build could not look up a name")
    assert not failure.may_pass({"msg": text})


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("E: Failed to fetch http://deb.example/x  503  Service Unavailable", True),
        ("Connection reset by peer", True),
        ("net/http: TLS handshake timeout", True),
        ("E: Failed to fetch http://x: Temporary failure resolving 'x'", False),
        ("ERROR: No matching distribution found for flask==99", False),
        ("error: command 'gcc' failed with exit code 1", False),
        ("npm error code ECONNRESET", True),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 502", True),
        ("no space left on device", False),
        # What looks like a network error in the output of a compiler, or as a size.
        ("x.c:1: warning: 'strncpy' output truncated [-Wstringop-truncation]", False),
        ("  note: the string is truncated here", False),
        ("Downloading flask.whl (500 kB)\nERROR: Invalid requirement: 'x y'", False),
        (
            "WARNING: Retrying (Retry(total=9)) after connection broken by 'x'\nIndentationError",
            False,
        ),
        ("Failed to fetch http://deb.example/x\nE: Unable to locate package libx", False),
        ("x.c:7:9: error: unknown type name 'timed_out'\nConnection timed out", False),
        # pip could not ask the index, so the package may well exist.
        ("Retrying (Retry(total=0)) after reset\nERROR: No matching distribution found", True),
        ("connect to 10.0.0.7 port 443: No route to host", False),
    ],
)
def test_a_build_is_tried_again_only_where_that_can_help(text: str, again: bool) -> None:
    assert failure.may_pass({"msg": "The build failed", "stderr": text}) is again
    assert failure.may_pass({"msg": text}) is again


def test_what_a_build_failed_at_comes_before_its_warnings() -> None:
    warnings = [
        f"#12 {n}.5       src/greenlet/x{n}.c:{n}:3: warning: 'PyEval_{n}' is deprecated [-Wdep]"
        for n in range(70)
    ]
    output = "\n".join(
        [
            "#12 1.0   \u00d7 Building wheel for greenlet did not run successfully.",
            "#12 1.0       [60 lines of output]",
            *warnings[:35],
            "#12 9.0       error: command 'g++' failed: No such file or directory",
            *warnings[35:],
            "#12 9.1       [end of output]",
            "#12 9.2   note: This error originates from a subprocess, and is likely not with pip.",
            "#12 9.3   ERROR: Failed building wheel for greenlet",
            "#12 9.4 A package could not be compiled without g++: `build_packages: [g++]`.",
            'ERROR: failed to solve: process "/bin/sh -c install" did not complete: exit code: 1',
        ]
    )
    shown = failure.build_log(output).splitlines()
    assert "build_packages: [g++]" in shown[0]
    assert "command 'g++' failed" in "\n".join(shown[:4])
    assert "Failed building wheel for greenlet" in "\n".join(shown[:4])
    assert "warning" not in "\n".join(shown) and len(shown) < 12
    assert not failure.may_pass({"stderr": output})


def test_the_end_of_a_build_of_another_kind_is_still_shown() -> None:
    lines = [f"step {n} went well" for n in "abcdefgh"]
    shown = failure.build_log("\n".join([*lines, "Assertion of the compiler", "exit"]))
    assert shown.splitlines()[-1] == "exit" and "step a went well" in shown


def test_what_builds_may_not_reach_is_explained() -> None:
    assert "docker_builds_may_reach" in failure.build_advice("10.0.0.7: No route to host")[0]


CHANGED_KEY = """Failed to connect to the host via ssh: @@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Someone could be eavesdropping on you right now (man-in-the-middle attack)!
It is also possible that a host key has just been changed.
The fingerprint for the ED25519 key sent by the remote host is
SHA256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.
Please contact your system administrator.
Add correct host key in /home/me/.ssh/known_hosts to get rid of this message.
Offending ED25519 key in /home/me/.ssh/known_hosts:7
  remove with:
  ssh-keygen -f '/home/me/.ssh/known_hosts' -R '[web1]:2222'
Host key for [web1]:2222 has changed and you have requested strict checking.
Host key verification failed."""
PYENV = """pyenv: python3: command not found

The `python3' command exists in these Python versions:
  3.11.7

Note: See 'pyenv help global' for tips on allowing both
      Python versions to be found at the same time.
"""


def test_a_changed_host_key_is_named() -> None:
    text = quote(CHANGED_KEY)
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in text
    assert "Host key for [web1]:2222 has changed" in text
    assert "NASTY" not in text and "@@" not in text and len(text) < 320
    fix = ssh_advice(CHANGED_KEY, "web1", "2222")
    assert "ssh-keygen -R '[web1]:2222'" in fix
    assert "ssh-keygen -R web1`" in ssh_advice(CHANGED_KEY, "web1", "")


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("kex_exchange_identification: Connection closed by remote host", "PerSourcePenalties"),
        ("Connection closed by 192.0.2.7 port 22", "PerSourcePenalties"),
        ("Connection reset by 192.0.2.7 port 22", "PerSourcePenalties"),
        ("Not allowed at this time", "PerSourcePenalties"),
        ("admin@web1: Permission denied (publickey).", "Check ansible_user"),
        ("Too many authentication failures", "IdentitiesOnly"),
        ("Host key verification failed.", "log in once"),
        ("connect to host web1 port 22: Connection refused", "Nothing listens"),
        ("connect to host web1 port 22: Connection timed out", "a firewall"),
        ("ssh: Could not resolve hostname web1: Name or service not known", "DNS record"),
        ("something new", "Check ansible_host"),
    ],
)
def test_what_ssh_says_is_explained(said: str, fix: str) -> None:
    assert fix in ssh_advice(f"Failed to connect to the host via ssh: {said}")


def test_quotes_are_whole() -> None:
    text = quote(PYENV)
    assert text == (
        "pyenv: python3: command not found; The `python3' command exists in these Python versions: "
        "3.11.7; Note: See 'pyenv help global' for tips on allowing both Python versions to be "
        "found at the same time."
    )
    assert quote(
        "Traceback (most recent call last):\n  File 'a', line 1\n    x()\nKeyError: 1"
    ) == ("KeyError: 1")
    assert quote("") == "" and quote(None) == "None"


def test_what_is_wrong_is_quoted_before_what_surrounds_it() -> None:
    text = quote("\n".join(["cannot open the file", *(f"step {n} went well" for n in range(90))]))
    assert "cannot open the file" in text and len(text) <= 300


@pytest.mark.parametrize(
    ("line", "left"),
    [
        (
            "__main__.py: error: no such option: --force",
            "__main__.py: error: no such option: --force",
        ),
        ("cannot import __file__", "cannot import __file__"),
        ("@    WARNING: THE KEY HAS CHANGED!     @", "WARNING: THE KEY HAS CHANGED!"),
        ("=====ERROR=====", "ERROR"),
        ("## --- fatal: it failed ---", "fatal: it failed"),
    ],
)
def test_frames_are_left_out_and_names_are_not(line: str, left: str) -> None:
    assert quote(f"{line}\n========\n") == left


def test_a_line_that_is_too_long_is_cut_after_a_sentence_or_a_word() -> None:
    sentences = "This went wrong. " * 30
    assert quote(sentences).endswith("wrong.") and len(quote(sentences)) <= 300
    words = quote("word " * 100)
    assert words.endswith("word ...") and len(words) <= 305


def test_pip_is_not_left_to_try_for_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ROOT / "roles/app/files/recipe/runtime/install-dependencies"
    loader = importlib.machinery.SourceFileLoader("install_dependencies", str(file))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    monkeypatch.syspath_prepend(str(file.parent))
    loader.exec_module(module)
    pip = tmp_path / "bin/pip"
    pip.parent.mkdir()
    line = "WARNING: Retrying: [Errno -3] Temporary failure in name resolution"
    # pip would print a line per minute; the build is stopped after the third.
    pip.write_text(f"#!/bin/sh\nfor n in 1 2 3; do echo '{line}'; done\nexec sleep 600\n")
    pip.chmod(0o755)
    module.VENV = tmp_path
    begun = os.times().elapsed
    with pytest.raises(SystemExit) as stopped:
        module._pip("--requirement", "requirements.txt")
    assert os.times().elapsed - begun < 30
    assert "no resolver answers" in str(stopped.value) and "this Python" not in str(stopped.value)
    # A wrong host name is not the resolver's fault.
    (advice,) = module.advise(
        "Failed to resolve 'indx.example' ([Errno -2] Name or service not known)"
    )
    assert "no resolver" not in advice and "correct it in the list" in advice
    # Negative control: a package that the index does not have is still reported as such.
    assert "this Python" in " ".join(module.advise("No matching distribution found for flask==99"))
