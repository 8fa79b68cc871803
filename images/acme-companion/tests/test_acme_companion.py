"""The companion's decisions, without Docker and a CA."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from companion import service
from companion.acme import (
    AcmeSh,
    CaUnreachableError,
    OrderError,
    Result,
    cause,
    complete,
    raise_failure,
)
from companion.certificate import Certificate, due, install, last_ca, link, parse, status
from companion.wanted import Wanted, read_wanted, split_names

NOW = datetime(2026, 6, 1, tzinfo=UTC)
WANTED = Wanted(
    ("a.test", "b.test"), "me@example.org", "https://ca.test:14000/dir", "ec-256", 60, True
)


def container(name, **environment):
    return {"Name": f"/{name}", "Config": {"Env": [f"{k}={v}" for k, v in environment.items()]}}


def certificate(age_days=0, lifetime_days=90, names=WANTED.names, key_size="ec-256"):
    start = NOW - timedelta(days=age_days)
    return Certificate(frozenset(names), start, start + timedelta(days=lifetime_days), key_size)


def test_names_may_have_spaces_and_empty_items():
    assert split_names(" A.test , b.test.,, a.test") == ("a.test", "b.test")


@pytest.mark.parametrize(
    "name", ["*.a.test", "../a", "a b", "-", "a/b", "ä.test", "$(id)", "a_.test;"]
)
def test_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match=r"name|wildcard"):
        split_names(name)


def test_container_without_hosts_wants_nothing():
    assert read_wanted([container("a"), container("b", LETSENCRYPT_HOST=" , ")], {}) == ([], [])


def test_containers_own_settings_win():
    own = container(
        "a",
        LETSENCRYPT_HOST="a.test",
        LETSENCRYPT_EMAIL="own@example.org",
        LETSENCRYPT_KEYSIZE="ec-384",
        ACME_CA_URI="https://own.test/dir",
        ACME_RENEW_AFTER="30",
    )
    default = {
        "DEFAULT_EMAIL": "d@example.org",
        "DEFAULT_KEY_SIZE": "2048",
        "ACME_CA_URI": "https://d.test/",
    }
    [wanted], _ = read_wanted([own], default)
    assert wanted == Wanted(
        ("a.test",), "own@example.org", "https://own.test/dir", "ec-384", 30, True
    )


def test_containers_of_one_base_share_a_certificate_with_all_names():
    new = container("new", LETSENCRYPT_HOST="a.test,c.test")
    old = container("old", LETSENCRYPT_HOST="a.test,b.test")
    [wanted], _ = read_wanted([new, old], {})
    assert wanted.names == ("a.test", "c.test", "b.test")


def test_bad_container_is_named_and_leaves_the_others_alone():
    bad = container("bad", LETSENCRYPT_HOST="a.test", LETSENCRYPT_EMAIL="../../etc")
    wanted, problems = read_wanted([bad, container("good", LETSENCRYPT_HOST="b.test")], {})
    assert [one.base for one in wanted] == ["b.test"]
    assert "bad" in problems[0] and "e-mail" in problems[0]


def test_secret_of_eab_is_not_in_a_message():
    bad = container("bad", LETSENCRYPT_HOST="a.test", ACME_EAB_KID="k", ACME_EAB_HMAC_KEY="s3cret'")
    _, problems = read_wanted([bad], {})
    assert "s3cret" not in problems[0]


@pytest.mark.parametrize("days", ["0", "-1", "soon"])
def test_renewal_without_pause_is_refused(days):
    _, problems = read_wanted(
        [container("a", LETSENCRYPT_HOST="a.test", ACME_RENEW_AFTER=days)], {}
    )
    assert "ACME_RENEW_AFTER" in problems[0]


def test_single_domain_certificates():
    own = container("a", LETSENCRYPT_HOST="a.test,b.test", LETSENCRYPT_SINGLE_DOMAIN_CERTS="true")
    wanted, _ = read_wanted([own], {})
    assert [one.names for one in wanted] == [("a.test",), ("b.test",)]


def test_layout_is_upstreams():
    assert WANTED.home == "me@example.org"
    assert WANTED.account_folder == "ca/ca.test/dir"
    assert WANTED.domain_folder == "a.test_ecc"
    assert replace(WANTED, email="").home == "default"
    staging = replace(WANTED, ca_uri="https://acme-staging-v02.api.letsencrypt.org/directory")
    assert (staging.home, staging.folder) == ("staging", "_test_a.test")


@pytest.mark.parametrize(
    ("current", "last", "reason"),
    [
        (None, "", "none yet"),
        (certificate(), "", None),
        (certificate(59), WANTED.ca_uri, None),
        (certificate(60), "", "2026-04-02"),
        (certificate(31, lifetime_days=45), "", "2026-05-01"),
        (certificate(29, lifetime_days=45), "", None),
        (certificate(names=["a.test"]), "", "b.test is not in it"),
        (certificate(names=["a.test", "b.test", "c.test"]), "", None),
        (certificate(key_size="2048"), "", "its key is 2048"),
        (certificate(), "https://other.test/dir", "other.test"),
    ],
)
def test_certificate_is_due_for_a_reason(current, last, reason):
    found = due(WANTED, current, last, NOW)
    assert found is None if reason is None else reason in found


def test_last_ca_is_read_from_acme_shs_record(tmp_path):
    path = tmp_path / "a.conf"
    assert last_ca(path) == ""
    path.write_text("Le_Domain='a'\nLe_API='https://ca.test/dir'\n")
    assert last_ca(path) == "https://ca.test/dir"


@pytest.fixture
def acme_home(tmp_path):
    """What acme.sh leaves behind for WANTED."""
    folder = tmp_path / "home" / WANTED.domain_folder
    folder.mkdir(parents=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "90", "-subj", "/CN=a.test", "-keyout", folder / "a.test.key",
         "-out", folder / "a.test.cer", "-addext", "subjectAltName=DNS:a.test,DNS:b.test"],
        check=True, capture_output=True,
    )  # fmt: skip
    for name in ("ca.cer", "fullchain.cer"):
        (folder / name).write_bytes((folder / "a.test.cer").read_bytes())
    return tmp_path / "home"


def test_installed_files_and_links_are_upstreams(acme_home, tmp_path):
    certs = tmp_path / "certs"
    certs.mkdir()
    assert link(WANTED, certs) == (False, []), "nothing to point at"
    new = install(WANTED, acme_home, certs, "v1")
    assert new.names == {"a.test", "b.test"} and new.key_size == "ec-256"
    modes = {p.name: oct(p.stat().st_mode)[-3:] for p in (certs / "a.test").iterdir()}
    assert modes.pop("key.pem") == "600"
    assert set(modes) == {"cert.pem", "chain.pem", "fullchain.pem", ".companion"}
    assert set(modes.values()) == {"644"}
    assert link(WANTED, certs) == (True, [])
    assert link(WANTED, certs) == (False, [])
    target = os.readlink(certs / "b.test.crt")  # noqa: PTH115 # Path drops ./
    assert target == "./a.test/fullchain.pem"
    assert "used by: a.test b.test" in status(certs)


def test_mismatched_key_is_not_installed(acme_home, tmp_path):
    certs = tmp_path / "certs"
    (certs / "a.test").mkdir(parents=True)
    (certs / "a.test" / "key.pem").write_text("old")
    key = acme_home / WANTED.domain_folder / "a.test.key"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-out", key],
        check=True, capture_output=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match="does not belong"):
        install(WANTED, acme_home, certs, "v1")
    assert (certs / "a.test" / "key.pem").read_text() == "old"


def test_certificate_of_somebody_else_is_left_alone(acme_home, tmp_path):
    certs = tmp_path / "certs"
    certs.mkdir()
    install(WANTED, acme_home, certs, "v1")
    (certs / "b.test.crt").write_text("mine")
    changed, foreign = link(WANTED, certs)
    assert changed and foreign == [str(certs / "b.test.crt")]
    assert (certs / "b.test.crt").read_text() == "mine"


def test_rsa_key_size_is_read():
    text = """Not Before: Jan  2 03:04:05 2026 GMT
            Not After : Apr  2 03:04:05 2026 GMT
            Issuer: CN=x
                Public Key Algorithm: rsaEncryption
                    Public-Key: (2048 bit)
                DNS:A.test, DNS:b.test"""
    found = parse(text)
    assert found.key_size == "2048" and found.names == {"a.test", "b.test"}
    assert found.not_before == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


OUTPUT = """[Sun Nov 22 23:07:53 UTC 2026] Verifying: a.test
[Sun Nov 22 23:07:55 UTC 2026] a.test: Invalid status. Verification error details: no such host
[Sun Nov 22 23:07:55 UTC 2026] Please add '--debug' or '--log' to see more information.
[Sun Nov 22 23:07:55 UTC 2026] See: https://github.com/acmesh-official/acme.sh/wiki
"""


def test_cause_is_what_acme_sh_says_without_its_advice():
    assert cause(OUTPUT) == (
        "Verifying: a.test | a.test: Invalid status. Verification error details: no such host"
    )


def test_cause_that_is_long_loses_whole_lines_first():
    text = cause("\n".join(["first " + "x" * 700, "second " + "y" * 700, "third " + "z" * 700]))
    assert text.startswith("second y") and text.endswith("z")
    assert cause("begins " + "x" * 2000).startswith("begins x")


def test_reason_of_the_ca_is_not_cut_at_its_first_quotation_mark():
    cut = "a.test: Invalid status. Verification error details: Get \n"
    answers = (
        r'[Sun] error="error":{"type":"urn:ietf:params:acme:error:connection","detail":'
        r'"Get \"http://a.test/.well-known/x\": dial tcp: no such host","status":400'
    )
    whole = 'details: Get "http://a.test/.well-known/x": dial tcp: no such host'
    assert cause(complete(cut, answers)).endswith(whole)
    assert complete(OUTPUT, answers) == OUTPUT
    assert complete(cut, 'detail": "no end') == cut
    assert complete(cut, answers.replace("Get", "Got")) == cut


def test_connection_failure_is_told_from_a_refusal():
    with pytest.raises(OrderError, match="no such host"):
        raise_failure(Result(False, OUTPUT))
    with pytest.raises(CaUnreachableError):
        raise_failure(Result(False, "Cannot init API for: https://ca.test/dir"))
    raise_failure(Result(True, ""))


def test_secret_of_eab_goes_into_a_file_and_not_into_the_arguments(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(AcmeSh, "_run", lambda _, __, *args: calls.append(args) or Result(True, ""))
    wanted = replace(WANTED, eab=("kid", "hmac-secret"))
    AcmeSh(tmp_path, "")._register(wanted)
    AcmeSh(tmp_path, "")._register(wanted)
    conf = tmp_path / wanted.home / wanted.account_folder / "ca.conf"
    assert conf.read_text() == "CA_EAB_KEY_ID='kid'\nCA_EAB_HMAC_KEY='hmac-secret'\n"
    assert oct(conf.stat().st_mode)[-3:] == "600"
    assert "hmac-secret" not in str(calls)


def test_failures_of_one_hour_stay_below_the_cas_limit():
    backoff, now, tries = service.Backoff(), 0.0, []
    while now < 3600:
        tries.append(now)
        now += backoff.failed(now)
    assert len(tries) <= 4
    assert backoff.failed(now) <= 14400


class FakeDocker:
    """Knows containers by label, and remembers what it was told."""

    def __init__(self, containers, labels):
        self.listed, self.labels, self.told = containers, labels, []

    def containers(self, filters):
        label = filters.get("label", [""])[0]
        return (
            ([{"Id": self.labels[label]}] if label in self.labels else []) if label else self.listed
        )

    def kill(self, name, sig):
        self.told.append((sig, name))

    def execute(self, name, command):
        self.told.append(("exec", name))
        return 0


@pytest.mark.parametrize(
    ("labels", "environment", "told"),
    [
        ({"com.github.nginx-proxy.nginx": "n", "com.github.nginx-proxy.docker-gen": "d"}, {},
         [("SIGHUP", "d"), ("SIGHUP", "n")]),
        ({}, {"NGINX_PROXY_CONTAINER": "n", "NGINX_DOCKER_GEN_CONTAINER": "d"},
         [("SIGHUP", "d"), ("SIGHUP", "n")]),
        ({"com.github.jrcs.letsencrypt_nginx_proxy_companion.nginx_proxy": "n"}, {},
         [("exec", "n")]),
    ],
)  # fmt: skip
def test_docker_gen_is_told_before_nginx(labels, environment, told):
    docker = FakeDocker([], labels)
    service.Companion(docker, environment).reload()
    assert docker.told == told


@pytest.fixture
def companion(tmp_path, monkeypatch):
    """A companion with two certificates to get, and an acme.sh that obeys ``behaviour``."""
    monkeypatch.setattr(service, "CERTS", tmp_path)
    monkeypatch.setattr(service, "LOCK", tmp_path / "lock")
    asked = [container("a", LETSENCRYPT_HOST="a.test"), container("b", LETSENCRYPT_HOST="b.test")]
    made = service.Companion(FakeDocker(asked, {"com.github.nginx-proxy.nginx": "n"}), {})
    made.behaviour, made.tried = {}, []

    def check(uri):
        if made.behaviour.get("ca") == "down":
            raise CaUnreachableError(uri)

    def issue(wanted):
        made.tried.append(wanted.base)
        if made.behaviour.get(wanted.base) == "fail":
            raise OrderError("refused")

    good = certificate(names=("a.test", "b.test"), key_size="4096")
    done = set()
    monkeypatch.setattr(made._acme, "check_directory", check)
    monkeypatch.setattr(made._acme, "issue", issue)
    monkeypatch.setattr(
        service.certificate, "install", lambda wanted, *_: done.add(wanted.base) or good
    )
    monkeypatch.setattr(made, "_due", lambda w: None if w.base in done else "there is none yet")
    return made


def test_failing_certificate_waits_and_does_not_hold_up_the_other(companion):
    companion.behaviour["a.test"] = "fail"
    pause = companion.run_pass()
    assert companion.tried == ["a.test", "b.test"]
    assert companion.run_pass() <= pause <= service.BACKOFF_SECONDS[0]
    assert companion.tried == ["a.test", "b.test"], "not again at once"


def test_ca_that_is_down_is_asked_again_soon_and_counts_no_failure(companion):
    companion.behaviour["ca"] = "down"
    pause = companion.run_pass()
    assert pause <= 60 and companion.tried == []
    assert all(backoff.failures == 0 for backoff in companion._backoff.values())
    companion.behaviour.clear()
    companion._ca_down_until.clear()  # as if the pause were over
    companion.run_pass()
    assert sorted(companion.tried) == ["a.test", "b.test"]


def test_a_signal_causes_a_retry_and_keeps_the_count_of_failures(companion):
    companion.behaviour["a.test"] = "fail"
    companion.run_pass()
    companion.run_pass()
    assert companion.tried == ["a.test", "b.test"], "not again by itself"
    companion.tell()
    pause = companion.run_pass()
    assert companion.tried == ["a.test", "b.test", "a.test"]
    assert service.BACKOFF_SECONDS[0] < pause <= service.BACKOFF_SECONDS[1]
    companion.run_pass()
    assert len(companion.tried) == 3, "once for each time that it is told"


def test_signal_wakes_it_in_the_midst_of_a_pause(tmp_path):
    # A process of its own, since a signal's handler belongs to the main thread.
    code = """
import os, signal, sys, threading, time
from companion import service
made = service.Companion(None, {})
passes = []
def run_pass():
    if passes:
        assert made._told
        print("woken"); sys.stdout.flush(); os._exit(0)
    passes.append(1)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGHUP)).start()
    return 900.0
made.run_pass = run_pass
made.follow_events = lambda wake: None
made.serve()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout == "woken\n", done.stderr


def test_ca_that_gives_something_else_is_not_asked_for_ever(companion, monkeypatch):
    monkeypatch.setattr(companion, "_due", lambda _: "its key is 2048, wanted is 4096")
    companion.run_pass()
    assert sorted(companion.tried) == ["a.test", "b.test"]
