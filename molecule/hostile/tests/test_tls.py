"""An expired certificate is reported, and renewed on request."""

import datetime
import ssl
from collections.abc import Iterator

import hostile
import pytest
from conftest import Site, eventually
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from runs import play

DOMAIN = hostile.PROBE
COMPANION = "edge-acme-companion-1"
DAY = datetime.timedelta(days=1)


def expired() -> tuple[str, str]:
    """Make a chain for the domain's certificate, which expired yesterday, and its key, as PEM."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name.from_rfc4514_string(f"CN={name}") for name in ("Old authority", DOMAIN)]
    chain = []
    for key, name, ca in zip(keys, names, (True, False), strict=True):
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 91 * DAY)
            .not_valid_after(now - DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(DOMAIN)]), critical=False)
        )
        chain.insert(0, builder.sign(keys[0], hashes.SHA256()))
    pem = "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in chain)
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, keys[1].private_bytes(*form).decode()


def expire(site: Site) -> None:
    """Replace the certificate with an expired one, and wait until nginx uses it."""
    volume = site.on_server("docker", "volume", "inspect", "-f", "{{.Mountpoint}}", "edge_certs")
    pem, key = expired()
    for name, content in {"fullchain.pem": pem, "key.pem": key}.items():
        site.on_server("sh", "-c", f"cat > {volume.strip()}/{DOMAIN}/{name} <<'E'\n{content}E")
    site.on_server("docker", "exec", "edge-nginx-1", "nginx", "-s", "reload")

    def is_refused() -> bool:
        try:
            site.named(DOMAIN).request("/health")
        except ssl.SSLCertVerificationError:
            return True
        return False

    def is_shown() -> None:
        # Old workers of nginx may respond for a while after the reload.
        assert is_refused()

    eventually(is_shown)


def is_renewed(site: Site) -> None:
    """Check the certificate as a visitor's browser does."""
    assert site.named(DOMAIN).request("/health").status == 200


@pytest.fixture
def expired_alone(site: Site) -> Iterator[None]:
    """An expired certificate that is not renewed, because the companion is stopped."""
    site.on_server("docker", "stop", "--time", "1", COMPANION)
    expire(site)
    yield
    site.on_server("docker", "start", COMPANION)
    eventually(lambda: is_renewed(site))


def test_a_signal_makes_the_companion_renew_at_once(site: Site) -> None:
    expire(site)
    # Otherwise the companion checks once an hour.
    site.on_server("docker", "exec", COMPANION, "/app/signal_le_service")
    eventually(lambda: is_renewed(site), seconds=30)


@pytest.mark.usefixtures("expired_alone")
def test_an_expired_certificate_fails_status_and_deploy(site: Site) -> None:
    wrong = f"- https://{DOMAIN}/: its certificate expired on"
    cause = "The companion, which gets certificates, does not run: its container is exited"
    code, said = play("status.yml", "-e", "app=probe")
    assert code != 0
    assert wrong in said and cause in said, said
    assert f"- {COMPANION}: is exited" in said

    code, said = play("deploy.yml", "-e", "app=probe")
    assert code != 0
    assert "visitors do not reach these sites as they should" in said, said
    assert wrong in said and cause in said
    # The check comes last, when the lock is already released.
    assert said.index("TASK [Release the lock]") < said.index(wrong)
