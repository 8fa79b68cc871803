"""An app whose image comes from a registry that asks for a login."""

import socket
import ssl
from http.client import HTTPSConnection

from conftest import Site


def test_an_image_that_is_built_elsewhere_is_served(site: Site) -> None:
    unverified = ssl.create_default_context()
    # No authority signs the certificate of `tls: selfsigned`.
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    visitor = HTTPSConnection("elsewhere.localhost", site.https_port)
    raw = socket.create_connection(("127.0.0.1", site.https_port))
    visitor.sock = unverified.wrap_socket(raw, server_hostname=visitor.host)
    visitor.request("GET", "/")
    assert visitor.getresponse().read() == b"built elsewhere\n"
    # Nothing was built or uploaded for it.
    folder = "/opt/flask-vps/apps/elsewhere/releases"
    assert site.on_server("find", folder, "-name", "source") == ""
    assert site.on_server("find", folder, "-name", "release.json") != ""
