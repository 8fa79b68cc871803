"""Visits of a site over TLS: the verdict, and the wait for certificates."""

import base64
import datetime
import importlib.util
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import release_served
import site_probe
from checks.companion import Word, read_log, word_on
from checks.throwaway import check_names
from checks.visits import Verdict, judge
from checks.waiting import AWAY_SECONDS, UNASKED_SECONDS, Look, Waiting
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


def load_action() -> ModuleType:
    """Load the action plugin, which has the same name as the module."""
    file = Path(__file__).parents[2] / "plugins/action/site_visit.py"
    spec = importlib.util.spec_from_file_location("site_visit_action", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ACTION = load_action()
NOW = datetime.datetime(2026, 6, 1, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


class Authority:
    """A CA that signs certificates."""

    def __init__(self, name: str, signer: "Authority | None" = None, ends: int = 900) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = signer or self
        self.certificate = self._made(self.name, self.key, signer, [], -900, ends)

    def _made(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        signer: "Authority",
        names: list[str],
        starts: int,
        ends: int,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signer.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + starts * DAY)
            .not_valid_after(NOW + ends * DAY)
        )
        if names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(n) for n in names])
            builder = builder.add_extension(alternatives, critical=False)
        else:
            ca = x509.BasicConstraints(ca=True, path_length=None)
            builder = builder.add_extension(ca, critical=True)
        return builder.sign(signer.key, hashes.SHA256())

    def leaf(
        self, *names: str, starts: int = -10, ends: int = 80
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        return self._made(subject, key, self, list(names), starts, ends), key


ROOT = Authority("Root")
MIDDLE = Authority("Middle", ROOT)


def visited(*chain: x509.Certificate, **changed: Any) -> dict[str, Any]:
    shown = [base64.b64encode(c.public_bytes(Encoding.DER)).decode() for c in chain]
    visit = {
        "app": "shop", "domain": "shop.test", "path": "/", "reached": True, "refused": "",
        "chain": shown, "verified": True, "verify_code": 0, "verify_message": "", "status": 200,
        "answer_error": "", "maintenance": False,
    }  # fmt: skip
    return visit | changed


def good(**dates: int) -> dict[str, Any]:
    return visited(MIDDLE.leaf("shop.test", **dates)[0], MIDDLE.certificate)


UNKNOWN_ROOT = {"verified": False, "verify_code": 20, "verify_message": "unable to get issuer"}


def errors(verdict: Verdict) -> list[str]:
    return [str(finding) for finding in verdict.found if not finding.warning]


def warnings(verdict: Verdict) -> list[str]:
    return [str(finding) for finding in verdict.found if finding.warning]


def test_a_site_as_it_should_be() -> None:
    verdict = judge(good(), "acme", True, NOW)
    assert verdict.found == [] and not verdict.unfit
    assert verdict.certificate == "Middle, 80 days left, until 2026-08-20, trusted"
    assert verdict.answer == "200"


@pytest.mark.parametrize(
    ("visit", "tls", "words"),
    [
        (good(starts=-91, ends=-1), "acme", "its certificate expired on 2026-05-31 12:00 UTC"),
        (good(starts=-91, ends=-1), "own", "its certificate expired on"),
        (good(starts=1), "acme", "not valid before 2026-06-02"),
        (visited(MIDDLE.leaf("other.test")[0], MIDDLE.certificate), "acme", "(other.test)"),
        (visited(MIDDLE.leaf("*.shop.test")[0], MIDDLE.certificate), "acme", "is for another name"),
        (
            visited(chain=[], refused="unrecognized name"),
            "acme",
            "refuses the connection (unrecognized name)",
        ),
        (visited(reached=False, refused="Connection refused"), "acme", "nothing listens"),
        (good() | UNKNOWN_ROOT, "acme", "its chain does not verify: unable to get issuer"),
        (
            visited(MIDDLE.leaf("shop.test")[0], ROOT.certificate, **UNKNOWN_ROOT),
            "own",
            "CN=Root did not sign CN=shop.test",
        ),
        (good() | {"status": 502}, "acme", "it answers 502 at /"),
        (good() | {"status": 0}, "acme", "it does not answer (the connection was closed)"),
        (good() | {"status": 502, "maintenance": True}, "acme", "it answers 502"),
    ],
)
def test_problems_of_visitors_are_errors(visit: dict[str, Any], tls: str, words: str) -> None:
    found = errors(judge(visit, tls, True, NOW))
    assert len(found) == 1 and words in found[0], found
    assert found[0].startswith("https://shop.test/: ")


def test_an_expired_intermediate_is_an_error_and_an_expired_one_that_nobody_needs_is_none() -> None:
    old = Authority("Old", ROOT, ends=-1)
    visit = visited(old.leaf("shop.test")[0], old.certificate)
    failed = {"verified": False, "verify_code": 10, "verify_message": "certificate has expired"}
    [found] = errors(judge(visit | failed, "acme", True, NOW))
    assert "CN=Old in it expired on 2026-05-31" in found
    assert errors(judge(visit, "acme", True, NOW)) == []


def test_a_certificate_of_a_private_authority_is_held_against_its_own_chain() -> None:
    verdict = judge(good() | UNKNOWN_ROOT, "acme", False, NOW)
    assert verdict.found == [] and verdict.certificate.endswith("from a private authority")
    broken = visited(MIDDLE.leaf("shop.test")[0], ROOT.certificate, **UNKNOWN_ROOT)
    assert "did not sign" in errors(judge(broken, "acme", False, NOW))[0]


def test_a_server_without_a_list_of_authorities_blames_no_site() -> None:
    verdict = judge(good() | {"verified": None}, "acme", True, NOW)
    assert verdict.found == [] and "not verified" in verdict.certificate


def test_a_certificate_signed_by_itself_fits_only_where_it_is_wanted() -> None:
    own = Authority("shop.test")

    def signed_by_itself(ends: int) -> dict[str, Any]:
        leaf = own._made(own.name, own.key, own, ["shop.test"], -10, ends)
        return visited(leaf, **(UNKNOWN_ROOT | {"verify_code": 18}))

    visit = signed_by_itself(3640)
    assert judge(visit, "selfsigned", False, NOW).found == []
    assert judge(visit, "acme", False, NOW).unfit
    assert "expired" in errors(judge(signed_by_itself(-2), "selfsigned", False, NOW))[0]


@pytest.mark.parametrize(
    ("tls", "starts", "ends", "warned"),
    [
        ("acme", -61, 29, True),
        ("acme", -60, 30, False),
        # Lifetime of six days, of which a third is two.
        ("acme", -5, 1, True),
        ("acme", -3, 3, False),
        ("own", -300, 65, False),
        ("own", -345, 20, True),
        ("selfsigned", -10, 3640, False),
    ],
)
def test_a_certificate_that_ends_soon_is_a_warning(
    tls: str, starts: int, ends: int, warned: bool
) -> None:
    verdict = judge(good(starts=starts, ends=ends), tls, True, NOW)
    assert bool(warnings(verdict)) == warned
    assert errors(verdict) == [] and not verdict.unfit


def test_a_health_path_that_is_not_there_is_a_warning() -> None:
    verdict = judge(good() | {"status": 404, "path": "/health"}, "acme", True, NOW)
    assert errors(verdict) == [] and "404 at /health" in warnings(verdict)[0]
    # Many apps have no page at their root.
    assert judge(good() | {"status": 404}, "acme", True, NOW).found == []


def test_maintenance_is_no_fault_and_hides_no_expired_certificate() -> None:
    shown = {"status": 503, "maintenance": True}
    assert judge(good() | shown, "acme", True, NOW).found == []
    assert "expired" in errors(judge(good(starts=-91, ends=-1) | shown, "acme", True, NOW))[0]


# -- the module ------------------------------------------------------------------------------------


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Serve a certificate and a response on a port of this machine."""
    servers = []

    def start(
        leaf: Any, answer: bytes = b"HTTP/1.1 204 No Content\r\n\r\n", alert: int | None = None
    ) -> int:
        certificate, key = leaf
        file = tmp_path / f"{len(servers)}.pem"
        pem = certificate.public_bytes(Encoding.PEM) + MIDDLE.certificate.public_bytes(Encoding.PEM)
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(key.private_bytes(*form) + pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.sni_callback = lambda *_: alert
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def loop() -> None:
            while True:
                try:
                    raw, _ = server.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(raw, server_side=True) as connection:
                        connection.recv(4096)
                        connection.sendall(answer)
                except OSError:
                    raw.close()

        threading.Thread(target=loop, daemon=True).start()
        return server.getsockname()[1]

    yield start
    for server in servers:
        server.close()


def test_a_visit_reads_the_chain_that_does_not_verify(serve: Callable[..., int]) -> None:
    leaf = MIDDLE.leaf("shop.test", starts=-91, ends=-1)
    found = site_probe.visit("shop.test", serve(leaf), "/health")
    assert found["reached"] and found["status"] == 204
    assert found["verified"] is False and found["verify_code"] != 0
    given = {"app": "shop", "domain": "shop.test", "path": "/", "maintenance": False}
    verdict = judge(given | found, "acme", False, NOW)
    assert "expired" in errors(verdict)[0]
    # The whole chain, also on versions of Python without a public function for it.
    assert len(found["chain"]) == 2


def test_a_chain_need_not_please_more_than_browsers(
    serve: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    monkeypatch.setattr("test_site_visit.NOW", now)
    # A company's own CA, without extensions that RFC 5280 requires.
    own = Authority("Company")
    (tmp_path / "root.pem").write_bytes(own.certificate.public_bytes(Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
    make = ssl.create_default_context

    def newer_python(*arguments: Any, **options: Any) -> ssl.SSLContext:
        context = make(*arguments, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", newer_python)
    found = site_probe.visit("shop.test", serve(own.leaf("shop.test")), "/")
    assert found["verified"] is True, found


def test_a_visit_says_why_nobody_answers(serve: Callable[..., int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert not site_probe.visit("shop.test", port, "/")["reached"]
    silent = serve(MIDDLE.leaf("shop.test"), b"")
    assert site_probe.visit("shop.test", silent, "/")["status"] == 0


def test_a_release_is_asked_for_by_the_site_s_name(serve: Callable[..., int]) -> None:
    leaf = MIDDLE.leaf("other.test", starts=-91, ends=-1)
    # The status does not depend on a valid certificate.
    assert release_served.status_of("shop.test", serve(leaf), "/") == 204
    assert release_served.status_of("shop.test", serve(leaf, b""), "/") == 0


def test_only_who_refuses_a_name_has_no_certificate_for_it(serve: Callable[..., int]) -> None:
    """Otherwise a switch would count as verified while nginx serves no visitor."""
    alert = ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    with pytest.raises(release_served.UnreachableError, match=r"shop[.]test: .*UNRECOGNIZED"):
        release_served.status_of("shop.test", serve(MIDDLE.leaf("shop.test"), alert=alert), "/")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                # Unread data would make the close a reset.
                connection.recv(65536)

        threading.Thread(target=hang_up, daemon=True).start()
        assert release_served.status_of("shop.test", port, "/") == 0
    assert release_served.status_of("shop.test", port, "/") == 0


# -- the companion's log ---------------------------------------------------------------------------

OURS = """\
2026-06-01T12:00:00.5Z acme-companion: watching; certificates in /etc/nginx/certs, accounts in /x
2026-06-01T12:00:01.5Z acme-companion: a.test: getting a certificate, there is none yet
2026-06-01T12:00:02.5Z acme-companion: a.test: no certificate, next try in 60 s: Get "http://a.test"
2026-06-01T12:00:03.5Z acme-companion: b.test: getting a certificate, there is none yet
2026-06-01T12:00:04.5Z acme-companion: b.test: certificate for b.test, valid until 2026-08-30
2026-06-01T12:00:05.5Z acme-companion: shop-vhost-vhost-1: 'x y' is not a host name; left out
"""


def test_our_companions_log_is_read() -> None:
    words = read_log(OURS)
    assert words["a.test"] == Word("refused", 'Get "http://a.test"')
    assert words["b.test"] == Word("got")
    assert word_on("a", ["a.test", "www.a.test"], words) == words["a.test"]
    assert word_on("shop", ["shop.test"], words).kind == "left out"
    assert word_on("other", ["other.test"], words) is None
    later = datetime.datetime(2026, 6, 1, 12, 0, 3, tzinfo=datetime.UTC).timestamp()
    assert "a.test" not in read_log(OURS, later)


def test_an_authority_that_is_away_is_said_once_and_counts_for_all() -> None:
    away = "acme-companion: a.test: the CA cannot be reached, trying on: https://ca: no route\n"
    words = read_log(away)
    assert word_on("b", ["b.test"], words) == Word("away", "https://ca: no route")
    assert read_log(away + "acme-companion: https://ca answers again\n") == {}


def test_upstreams_log_is_read() -> None:
    log = """\
Creating/renewal a.test certificates... (a.test www.a.test)
[Mon Jun  1 12:00:00 UTC 2026] Getting webroot for domain='a.test'
[Mon Jun 1 12:00:01 UTC 2026] \x1b[31ma.test: Invalid status. Verification error details: 404\x1b[m
[Mon Jun  1 12:00:01 UTC 2026] Please add '--debug' or '--log' to see more information.
Creating/renewal b.test certificates... (b.test)
[Mon Jun  1 12:00:02 UTC 2026] \x1b[32mCert success.\x1b[0m
Creating/renewal c.test certificates... (c.test)
[Mon Jun  1 12:00:02 UTC 2026] Skipping. Next renewal time is: 2026-07-30T12:00:00Z
Creating/renewal d.test certificates... (d.test)
"""
    words = read_log(log)
    assert words["a.test"].kind == "refused" and "error details: 404" in words["a.test"].why
    assert (words["b.test"].kind, words["c.test"].kind) == ("got", "got")
    assert words["d.test"].kind == "trying"


# -- the wait --------------------------------------------------------------------------------------


class Server:
    """A server with a simulated clock and a companion that follows a script."""

    def __init__(self, **unfit_until: float) -> None:
        self.time, self.unfit_until = 0.0, unfit_until
        self.announced = dict.fromkeys(unfit_until, 0.0)
        self.log: list[tuple[float, str]] = []
        self.wakes: list[float] = []
        self.state, self.lines = "running", []

    def look(self, wake: bool) -> Look:
        if wake:
            self.wakes.append(self.time)
            self.on_wake()
        verdicts = [
            Verdict(app, f"{app}.test", "acme", unfit=self.time < until)
            for app, until in self.unfit_until.items()
        ]
        log = "\n".join(
            f"{datetime.datetime.fromtimestamp(at + 1000, datetime.UTC):%Y-%m-%dT%H:%M:%S}.0Z "
            f"acme-companion: {text}"
            for at, text in self.log
            if at <= self.time
        )
        return Look(verdicts, log, self.state, self.time + 1000, self.announced)

    def on_wake(self) -> None:
        pass

    def wait(self, seconds: float = 180, begun: float = 0) -> tuple[Waiting, Look]:
        def sleep(span: float) -> None:
            self.time += span

        waiting = Waiting(self.look, seconds, begun, self.lines.append, lambda: self.time, sleep)
        return waiting, waiting.run()


NEVER = 1e9


def test_nobody_is_waited_for_where_all_is_well() -> None:
    server = Server(a=0, b=0)
    _, found = server.wait()
    assert found.unfit == [] and server.time == 0 and server.wakes == []


def test_all_are_waited_for_together_and_the_companion_is_woken_once() -> None:
    server = Server(a=20, b=100, c=0)
    _, found = server.wait()
    assert found.unfit == [] and 100 <= server.time < 104
    assert server.wakes == [0.0]
    assert any("b.test (" in line and "a.test" not in line for line in server.lines), server.lines


def test_the_time_is_the_total() -> None:
    server = Server(a=NEVER, b=NEVER)
    _, found = server.wait(60)
    assert found.unfit == ["a", "b"] and 60 <= server.time < 64


def test_waiting_ends_when_the_authority_has_refused_all_certificates() -> None:
    server = Server(a=NEVER, b=30)
    server.log = [(-400, "a.test: no certificate, next try in 900 s: long ago")]
    server.on_wake = lambda: server.log.extend(
        [
            (server.time + 1, "a.test: getting a certificate, there is none yet"),
            (server.time + 5, "a.test: no certificate, next try in 60 s: no such host"),
        ]
    )
    waiting, found = server.wait()
    # An old refusal does not count; the other certificate is waited for.
    assert found.unfit == ["a"] and 30 <= server.time < 34
    assert waiting.words["a"] == Word("refused", "no such host")


def test_a_try_that_had_begun_before_does_not_count() -> None:
    server = Server(a=30)
    server.log = [(-9, "a.test: getting a certificate, there is none yet")]
    # The companion finishes that attempt before it reads that the name is fixed.
    server.on_wake = lambda: server.log.extend(
        [
            (server.time + 3, "a.test: no certificate, next try in 900 s: no such host"),
            (server.time + 7, "a.test: getting a certificate, there is none yet"),
        ]
    )
    waiting, found = server.wait()
    assert found.unfit == [] and waiting.words == {}


def test_names_that_were_announced_just_now_cost_no_second_try() -> None:
    server = Server(a=NEVER)
    server.announced["a"] = 990
    server.log = [
        (-6, "a.test: getting a certificate, there is none yet"),
        (-5, "a.test: no certificate, next try in 60 s: no such host"),
    ]
    waiting, _ = server.wait(begun=900)
    assert server.wakes == [] and server.time < 4 and "a" in waiting.words


def test_a_companion_that_does_not_look_by_itself_is_woken() -> None:
    server = Server(a=NEVER)
    server.announced["a"] = 990
    server.wait(60, begun=900)
    assert len(server.wakes) == 1 and server.wakes[0] > UNASKED_SECONDS


def test_an_authority_that_stays_away_ends_the_wait() -> None:
    server = Server(a=NEVER, b=NEVER)
    server.on_wake = lambda: server.log.append(
        (server.time + 1, "a.test: the CA cannot be reached, trying on: https://ca: refused")
    )
    waiting, _ = server.wait()
    assert AWAY_SECONDS < server.time < AWAY_SECONDS + 10
    assert {word.kind for word in waiting.words.values()} == {"away"}


def test_what_an_old_worker_of_nginx_answers_is_looked_at_again() -> None:
    server, looks = Server(), []

    def look(wake: bool) -> Look:
        looks.append(wake)
        verdict = Verdict("own", "own.test", "own")
        if len(looks) < 3:
            verdict.add("its certificate expired", "Renew it", unfit=True)
        return Look([verdict], "", "running", 0, {})

    server.look = look
    _, found = server.wait()
    assert looks == [False] * 3 and not found.verdicts[0].fails


def test_a_certificate_that_nginx_does_not_show_is_not_said_to_be_missing() -> None:
    server = Server(a=NEVER, b=NEVER)
    server.log = [(-400, "b.test: certificate for b.test, valid until 2026-08-30")]
    server.on_wake = lambda: server.log.append(
        (server.time + 1, "a.test: certificate for a.test, valid until 2026-08-30")
    )
    waiting, _ = server.wait(60)
    assert {app: word.kind for app, word in waiting.words.items()} == {"a": "got"}


@pytest.mark.parametrize(
    ("word", "state", "said"),
    [
        (Word("refused", "no such host"), "running", "The authority refused: no such host"),
        (Word("got"), "running", "has a certificate, but nginx does not show it"),
        (Word("got"), "exited", "does not run: its container is exited"),
        (None, "running", "does not mention it"),
    ],
)
def test_what_the_companion_said_is_told(word: Word | None, state: str, said: str) -> None:
    assert said in ACTION.companions_word(word, state, "")


def test_a_companion_that_does_not_run_is_not_waited_for() -> None:
    server = Server(a=NEVER)
    server.state = "exited"
    server.wait()
    assert server.time < 1
    server.state = "restarting"
    server.wait(60)
    assert server.time >= 60


# -- a throwaway server ----------------------------------------------------------------------------


def test_a_domain_that_the_test_authority_cannot_find_is_said_before() -> None:
    domains = {"shop.localhost": "apps.shop", "new.localhost": "apps.new"}
    [found] = check_names(domains, {"shop.localhost", "1077ccec24c1"})
    assert found.warning and "make up" in found.fix
    assert str(found).startswith("apps.new.domains = 'new.localhost': ")
    # Without a server or without Docker on this machine there is nothing to check.
    assert check_names(domains, set()) == []
