"""Containers for contract tests, and a client for them.

At the end, everything that was made here is removed by its ID, and nothing else.
"""

import hashlib
import http.client
import io
import json
import os
import socket
import ssl
import tarfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import docker

IMAGES = {
    "nginx": os.environ.get("NGINX_IMAGE", "flask-vps/nginx"),
    "nginx-proxy": os.environ.get("NGINX_PROXY_IMAGE", "flask-vps/nginx-proxy"),
    "docker-gen": os.environ.get("DOCKERGEN_IMAGE", "flask-vps/dockergen"),
    "companion": os.environ.get("ACME_COMPANION_IMAGE", "flask-vps/acme-companion"),
    "pebble": os.environ.get("PEBBLE_IMAGE", "flask-vps/pebble"),
    "web": os.environ.get("WEB_IMAGE", "flask-vps/python"),
}
BACKEND = (Path(__file__).parent / "backend.py").read_text()
SOCKET = "/var/run/docker.sock"
# Inside the containers, where it is a tmpfs.
TMP = "/tmp"  # noqa: S108
SANDBOX = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}


def eventually(check, seconds=20, what="the condition"):
    """Poll until check() returns something true, and return that."""
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        try:
            if last := check():
                return last
        except (OSError, http.client.HTTPException, AssertionError) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds} s; last result: {last!r}")


@dataclass
class Answer:
    """A response."""

    status: int
    headers: http.client.HTTPMessage
    text: str
    serial: str | None = None
    names: frozenset[str] = frozenset()
    protocol: str | None = None

    @property
    def json(self):
        return json.loads(self.text)


def trust(pem):
    """Make a client context that trusts one root, without strict checks, which test roots fail."""
    context = ssl.create_default_context(cadata=pem)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def fetch(address, host, path="/", *, tls=None, port=None, method="GET", headers=None):
    """Send a request to an address, with the host name in TLS and in the Host header."""
    connection = http.client.HTTPConnection(host, timeout=5)
    raw = socket.create_connection((address, port or (443 if tls else 80)), timeout=5)
    try:
        connection.sock = tls.wrap_socket(raw, server_hostname=host) if tls else raw
        certificate, serial = {}, None
        if tls:
            certificate = connection.sock.getpeercert() or {}
            serial = certificate.get("serialNumber")
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return Answer(
            response.status,
            response.headers,
            response.read().decode(),
            serial,
            frozenset(name for _, name in certificate.get("subjectAltName", ())),
        )
    finally:
        connection.close()
        raw.close()


class Lab:
    """Makes containers, networks and volumes, and removes them."""

    def __init__(self):
        self.client = docker.from_env()
        self.run_id = uuid.uuid4().hex[:8]
        self.label = f"flask-vps.test.{self.run_id}"
        self._containers, self._networks, self._volumes = [], [], []
        self._count = 0

    def name(self, purpose):
        self._count += 1
        return f"contract-{self.run_id}-{self._count}-{purpose}"

    def network(self, purpose, **options):
        network = self.client.networks.create(self.name(purpose), **options)
        self._networks.append(network)
        return network

    def volume(self, purpose):
        volume = self.client.volumes.create(self.name(purpose))
        self._volumes.append(volume)
        return volume

    def run(self, image, purpose, *, network=None, aliases=(), expose=(), labels=None, **options):
        """Start a container; options are docker-py's of create_host_config and create_container."""
        api = self.client.api
        create = {
            k: options.pop(k) for k in ("command", "entrypoint", "environment") if k in options
        }
        if network in (None, "none"):
            options["network_mode"] = "none"
            networking = None
        else:
            endpoint = api.create_endpoint_config(aliases=list(aliases))
            networking = api.create_networking_config({network.name: endpoint})
            options["network_mode"] = network.name
        made = api.create_container(
            IMAGES[image],
            name=self.name(purpose),
            labels={self.label: purpose, **(labels or {})},
            ports=list(expose),
            host_config=api.create_host_config(**options),
            networking_config=networking,
            **create,
        )
        container = self.client.containers.get(made["Id"])
        self._containers.append(container)
        container.start()
        return container

    def backend(self, name, environment, *, network, port=80, proto="http", **options):
        """Start an application that responds with its name and the request."""
        return self.run(
            "web",
            f"app-{name}",
            network=network,
            entrypoint=[],
            command=["python3", "-c", BACKEND, proto, str(port)],
            environment={"ECHO_NAME": name, **environment},
            init=True,
            **options,
        )

    def remove(self, container):
        container.remove(force=True, v=True)
        self._containers.remove(container)

    def logs(self):
        for container in self._containers:
            with suppress(docker.errors.APIError):
                text = container.logs(tail=15).decode(errors="replace")
                yield container.labels[self.label], text

    def close(self):
        def remove(thing):
            options = {} if thing in self._networks else {"force": True}
            with suppress(docker.errors.APIError):
                thing.remove(**options)

        with ThreadPoolExecutor(4) as pool:
            for things in (self._containers, self._networks, self._volumes):
                list(pool.map(remove, things))


class Edge:
    """nginx, docker-gen and the folders they share, as the project runs them."""

    FOLDERS: ClassVar = {
        "conf.d": "/etc/nginx/conf.d",
        "vhost.d": "/etc/nginx/vhost.d",
        "certs": "/etc/nginx/certs",
        "htpasswd": "/etc/nginx/htpasswd",
        "html": "/usr/share/nginx/html",
    }

    def __init__(self, lab, environment=None, aliases=(), files=None):
        self.lab = lab
        self.network = lab.network("edge")
        self.volumes = {name: lab.volume(name.replace(".", "")) for name in self.FOLDERS}
        # Two stacks on one engine must not see each other's containers.
        self.tag = f"{lab.label}.{uuid.uuid4().hex[:6]}"
        self.files = lab.run(
            "pebble",
            "files",
            entrypoint=["sleep", "infinity"],
            command=[],
            init=True,
            binds=self.binds("rw"),
        )
        for path, text in (files or {}).items():
            self.write(path, text)
        # Started first, so that the tests also show that it starts without nginx.
        self.docker_gen = lab.run(
            "docker-gen",
            "docker-gen",
            network="none",
            environment={
                "NGINX_CONTAINER_LABEL": f"{self.tag}.nginx",
                "DOCKER_CONTAINER_FILTERS": f"label={self.tag}",
                "TRUST_DOWNSTREAM_PROXY": "false",
                "DHPARAM_SKIP": "true",
                **(environment or {}),
            },
            labels={"com.github.nginx-proxy.docker-gen": "", self.tag: ""},
            binds=[*self.binds("ro", "conf.d"), f"{SOCKET}:/tmp/docker.sock:ro"],
            tmpfs={TMP: ""},
            **SANDBOX,
        )
        self.nginx = lab.run(
            "nginx",
            "nginx",
            network=self.network,
            aliases=aliases,
            labels={f"{self.tag}.nginx": "", "com.github.nginx-proxy.nginx": "", self.tag: ""},
            binds=self.binds("ro"),
            tmpfs={TMP: "", "/run": "", "/var/cache/nginx": ""},
            cap_add=["CHOWN", "NET_BIND_SERVICE", "SETGID", "SETUID"],
            # As in the role's compose file. A signal of docker-gen that comes before runc has
            # become nginx ends the container.
            restart_policy={"Name": "always"},
            **SANDBOX,
        )
        self.nginx.reload()
        self.address = self.nginx.attrs["NetworkSettings"]["Networks"][self.network.name][
            "IPAddress"
        ]
        self._roots = {}

    def binds(self, mode, writable=""):
        return [
            f"{volume.name}:{self.FOLDERS[name]}:{'rw' if name == writable else mode}"
            for name, volume in self.volumes.items()
        ]

    def backend(self, name, environment, **options):
        labels = {self.tag: "", **options.pop("labels", {})}
        network = options.pop("network", self.network)
        return self.lab.backend(name, environment, network=network, labels=labels, **options)

    def write(self, path, text):
        """Write a file below /etc/nginx or into html."""
        folder, _, name = path.rpartition("/")
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text.encode()), 0o644
            archive.addfile(info, io.BytesIO(text.encode()))
        first, _, rest = folder.partition("/")
        self.shell(f"mkdir -p {self.FOLDERS[first]}/{rest}")
        self.files.put_archive(f"{self.FOLDERS[first]}/{rest}", data.getvalue())

    def shell(self, script):
        """Run a script beside the shared folders."""
        status, output = self.files.exec_run(["sh", "-ec", script])
        assert status == 0, output.decode()
        return output.decode()

    def certificate(self, name, *hosts):
        """Make a self-signed certificate as certs/NAME.crt and .key; trusted from now on."""
        names = ",".join(f"DNS:{host}" for host in hosts or [name])
        self.shell(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
            f" -subj /CN=test -addext subjectAltName={names}"
            f" -keyout /etc/nginx/certs/{name}.key -out /etc/nginx/certs/{name}.crt 2>/dev/null"
        )
        self._roots[name] = self.shell(f"cat /etc/nginx/certs/{name}.crt")

    def tls(self, name):
        """Return a context that trusts one certificate made here."""
        return trust(self._roots[name])

    def fetch(self, host, path="/", **options):
        return fetch(self.address, host, path, **options)

    def wait(self, host, path="/", status=200, **options):
        """Poll until a host answers with a status, from every worker of nginx."""
        processors = len(os.sched_getaffinity(0))

        def ready():
            # While nginx reloads, a worker of the old configuration may still take a connection.
            processes = [row[-1] for row in self.nginx.top()["Processes"]]
            workers = [title for title in processes if "worker process" in title]
            assert len(workers) <= processors, workers
            answer = self.fetch(host, path, **options)
            assert answer.status == status, f"{answer.status} {answer.text[:200]}"
            return answer

        # Once until the configuration is used, and once more after the reload has finished.
        eventually(ready, what=f"{host}{path} answers {status}")
        return eventually(ready, what=f"{host}{path} answers {status} again")

    def regenerate(self):
        """Make docker-gen read the folders again, and wait until nginx has the result."""
        self.docker_gen.kill(signal="HUP")

    def configuration(self):
        return self.shell("cat /etc/nginx/conf.d/default.conf")


def sha1(text):
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
