"""The contract of the companion: certificates are issued, kept and renewed.

Against a real CA, Pebble (https://github.com/letsencrypt/pebble).
"""

import http.client
import re
import ssl
from contextlib import contextmanager

import pytest
from lab import SANDBOX, SOCKET, TMP, Edge, eventually, trust

HOSTS = ["first.test", "second-a.test", "second-b.test", "short.test", "link.test", "good.test"]
SHORT_CA = "https://short:14000/dir"


class Site:
    """An edge with a companion and two CAs; one issues certificates for 24 seconds."""

    def __init__(self, lab):
        self.lab = lab
        self.edge = Edge(lab, {"ENABLE_HTTP_ON_MISSING_CERT": "false"}, aliases=HOSTS)
        self.network = self.edge.network
        self.state = lab.volume("acme")
        self.api = lab.volume("pebble")
        self.ca = self.start_ca("pebble")
        # The second one must find the API certificate of the first, which names both.
        eventually(lambda: b"Listening on" in self.ca.logs())
        self.short_ca = self.start_ca("short", PEBBLE_CERTIFICATE_SECONDS="24")
        self.companion = self.start_companion()

    def start_ca(self, name, **environment):
        return self.lab.run(
            "pebble",
            name,
            network=self.network,
            aliases=[name],
            environment={"PEBBLE_HOSTNAMES": "pebble,short", **environment},
            binds=[f"{self.api.name}:/var/lib/pebble"],
            tmpfs={TMP: ""},
            **SANDBOX,
        )

    def start_companion(self):
        volumes = self.edge.volumes
        return self.lab.run(
            "companion",
            "companion",
            network=self.network,
            environment={
                "ACME_CA_URI": "https://pebble:14000/dir",
                "CA_BUNDLE": "/pebble/api-ca.pem",
                "CERTS_UPDATE_INTERVAL": "2",
                "DEFAULT_EMAIL": "admin@example.org",
                "DEFAULT_KEY_SIZE": "ec-256",
                "DHPARAM_SKIP": "true",
                "DOCKER_CONTAINER_FILTERS": f"label={self.edge.tag}",
                "DOCKER_GEN_WAIT": "500ms:2s",
                "NGINX_DOCKER_GEN_CONTAINER": self.edge.docker_gen.name,
                "NGINX_PROXY_CONTAINER": self.edge.nginx.name,
            },
            binds=[
                f"{volumes['certs'].name}:/etc/nginx/certs",
                f"{volumes['html'].name}:/usr/share/nginx/html",
                f"{self.state.name}:/etc/acme.sh",
                f"{self.api.name}:/pebble:ro",
                f"{SOCKET}:{SOCKET}:ro",
            ],
            tmpfs={TMP: ""},
            **SANDBOX,
        )

    def start_app(self, name, hosts=None, **environment):
        hosts = hosts or f"{name}.test"
        return self.edge.backend(
            name, {"VIRTUAL_HOST": hosts, "LETSENCRYPT_HOST": hosts, **environment}
        )

    @contextmanager
    def app(self, name, hosts=None, **environment):
        """Run an application for one test, so that the next one has less to renew."""
        container = self.start_app(name, hosts, **environment)
        yield container
        self.lab.remove(container)

    def root(self, ca):
        """Get the root certificate of a CA, which makes a new one at each start."""
        ca.reload()
        address = ca.attrs["NetworkSettings"]["Networks"][self.network.name]["IPAddress"]
        context = ssl._create_unverified_context()  # noqa: S323 # its root is what we ask for
        connection = http.client.HTTPSConnection(address, 15000, context=context, timeout=5)
        connection.request("GET", "/roots/0")
        return connection.getresponse().read().decode()

    def answer(self, host, ca=None):
        """Return a host's response over HTTPS, and its certificate's serial number."""
        answer = self.edge.fetch(host, tls=trust(self.root(ca or self.ca)))
        assert answer.status == 200, answer.status
        return answer

    def served(self, host, ca=None, seconds=40):
        return eventually(lambda: self.answer(host, ca), seconds, f"a certificate for {host}")

    def log(self):
        return self.companion.logs().decode()

    def serial(self, host):
        """Read the serial number of a host's certificate from its file, without a CA."""
        return self.edge.shell(f"openssl x509 -noout -serial -in /etc/nginx/certs/{host}.crt")


@pytest.fixture(scope="module")
def site(lab):
    """The edge, and one application that runs during all tests."""
    made = Site(lab)
    made.start_app("first")
    made.served("first.test")
    return made


def test_certificate_comes_by_itself_and_is_served(site):
    answer = site.answer("first.test")
    assert answer.names == {"first.test"}
    assert answer.json["headers"]["x-forwarded-proto"] == "https"
    assert site.edge.fetch("first.test").status == 301


def test_files_have_the_documented_names_and_modes(site):
    listing = site.edge.shell(
        "cd /etc/nginx/certs; stat -c '%a %N' first.test.* first.test/* first.test/.companion"
    )
    for expected in (
        "'first.test.crt' -> './first.test/fullchain.pem'",
        "'first.test.key' -> './first.test/key.pem'",
        "'first.test.chain.pem' -> './first.test/chain.pem'",
        "600 'first.test/key.pem'",
        "644 'first.test/fullchain.pem'",
        "644 'first.test/cert.pem'",
        "'first.test/.companion'",
    ):
        assert expected in listing
    _, keys = site.companion.exec_run(
        ["sh", "-c", "find /etc/acme.sh /etc/nginx/certs -name '*key*' -type f -perm /077"]
    )
    assert keys.decode() == "", "only root can read keys"
    status, _ = site.companion.exec_run(
        ["test", "-s", "/etc/acme.sh/admin@example.org/ca/pebble/dir/account.json"]
    )
    assert status == 0


def test_status_lists_certificates(site):
    status, output = site.companion.exec_run(["/app/cert_status"])
    assert status == 0
    assert "first.test: valid until" in output.decode()


def test_second_name_is_added_to_the_certificate(site):
    with site.app("second", "second-a.test", LETSENCRYPT_KEYSIZE="2048"):
        before = site.served("second-a.test")
    with site.app("second", "second-a.test, second-b.test", LETSENCRYPT_KEYSIZE="2048"):
        after = site.served("second-b.test")
        assert after.names == {"second-a.test", "second-b.test"}
        assert after.serial != before.serial
        assert site.served("second-a.test").serial == after.serial


def test_key_is_on_the_default_curve_unless_the_container_says_otherwise(site):
    show = "openssl x509 -noout -text -in /etc/nginx/certs/{}.crt | grep -A1 'Public Key Alg'"
    text = site.edge.shell(show.format("first.test"))
    assert "id-ecPublicKey" in text and "256 bit" in text
    assert "rsaEncryption" in site.edge.shell(show.format("second-a.test"))


def test_renewal_can_be_forced(site):
    before = site.answer("first.test").serial
    status, output = site.companion.exec_run(["/app/force_renew"])
    assert status == 0, output.decode()
    eventually(lambda: site.answer("first.test").serial != before, what="another serial")


def test_companion_can_be_told_to_look_at_once(site):
    site.companion.reload()
    started = site.companion.attrs["State"]["StartedAt"]
    status, output = site.companion.exec_run(["/app/signal_le_service"])
    assert status == 0, output.decode()
    site.companion.reload()
    assert site.companion.status == "running"
    assert site.companion.attrs["State"]["StartedAt"] == started


def test_certificate_is_renewed_in_time_although_its_ca_was_down(site):
    with site.app("short", ACME_CA_URI=SHORT_CA):
        site.served("short.test", site.short_ca)
        site.short_ca.stop(timeout=1)
        before = site.serial("short.test")
        # The renewal is due after two thirds of the 24 seconds.
        eventually(lambda: "cannot be reached" in site.log(), 40, "a line with the cause")
        assert site.serial("short.test") == before, "the old certificate stays"
        assert site.answer("first.test").status == 200, "other sites are not affected"
        site.short_ca.start()
        eventually(lambda: site.serial("short.test") != before, 60, "another serial")


def test_companion_recreated_on_the_same_volumes_asks_for_nothing(site):
    before = site.answer("first.test").serial
    account = "sha256sum /etc/acme.sh/admin@example.org/ca/pebble/dir/account.key"
    _, key = site.companion.exec_run(["sh", "-c", account])
    site.lab.remove(site.companion)
    site.companion = site.start_companion()
    with site.app("link"):
        site.served("link.test")  # so the companion has processed all containers
    _, same_key = site.companion.exec_run(["sh", "-c", account])
    assert same_key == key
    assert "account registered" not in site.log()
    assert re.findall(r"(\S+): getting a certificate", site.log()) == ["link.test"]
    assert site.answer("first.test").serial == before


def test_ca_that_forgot_the_account_gets_it_again(site):
    before = site.answer("first.test").serial
    site.ca.restart(timeout=1)
    eventually(lambda: site.root(site.ca))
    status, output = site.companion.exec_run(["/app/force_renew"])
    assert status == 0 and b"does not know our account" in output, output.decode()
    assert site.served("first.test").serial != before


def test_failing_name_does_not_hold_up_another_and_says_why(site):
    # Nothing serves this name, so the CA cannot validate it.
    with site.app("bad", "nowhere.test"):
        eventually(lambda: "nowhere.test: no certificate" in site.log(), 60, "the failure")
        line = next(x for x in site.log().splitlines() if "nowhere.test: no certificate" in x)
        assert "next try in" in line and "Verification error" in line, line
        with site.app("good"):
            site.served("good.test", seconds=20)
        assert site.log().count("nowhere.test: getting a certificate") == 1, (
            "it waits before the next attempt"
        )


def test_brief_absence_of_the_container_keeps_its_certificate(site):
    with site.app("good"):
        before = site.served("good.test").serial
    # A whole pass without the container, in which upstream would remove the links.
    assert site.companion.exec_run(["/app/force_renew"])[0] == 0
    assert site.edge.shell("readlink /etc/nginx/certs/good.test.crt")
    with site.app("good"):
        assert site.served("good.test", seconds=10).serial == before


def test_no_secret_is_logged(site):
    assert "PRIVATE KEY" not in site.log()
