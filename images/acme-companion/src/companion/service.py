"""Decide when to try, and reload nginx."""

import argparse
import fcntl
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dockergen.docker_api import Docker, DockerError, parse_filters, parse_wait
from dockergen.ending import end_when_told

from . import certificate
from .acme import AcmeSh, CaUnreachableError, OrderError
from .wanted import Wanted, read_wanted

CERTS = Path("/etc/nginx/certs")
STATE = Path("/etc/acme.sh")
LOCK = Path("/tmp/acme-companion.lock")  # noqa: S108 # a tmpfs of ours alone
NGINX_LABELS = (
    "com.github.nginx-proxy.nginx",
    "com.github.jrcs.letsencrypt_nginx_proxy_companion.nginx_proxy",
)
DOCKER_GEN_LABELS = (
    "com.github.nginx-proxy.docker-gen",
    "com.github.jrcs.letsencrypt_nginx_proxy_companion.docker_gen",
)
# What upstream's companion runs where nginx and docker-gen share a container.
RELOAD_ALL_IN_ONE = (
    "/app/docker-entrypoint.sh /usr/local/bin/docker-gen /app/nginx.tmpl "
    "/etc/nginx/conf.d/default.conf; /usr/sbin/nginx -s reload"
)
CA_RETRY_SECONDS = 10
# Let's Encrypt allows five failed validations an hour and name; this makes four, then fewer.
# https://letsencrypt.org/docs/rate-limits/#authorization-failures-per-identifier-per-account
BACKOFF_SECONDS = (60, 900, 1800, 3600, 7200, 14400)
log = logging.getLogger("acme-companion")


@dataclass
class Backoff:
    """Consecutive failures to get one certificate."""

    failures: int = 0
    not_before: float = 0.0  # seconds, monotonic clock

    def failed(self, now: float) -> float:
        """Count a failure.

        Returns
        -------
        float
            Seconds until the next try.
        """
        pause = BACKOFF_SECONDS[min(self.failures, len(BACKOFF_SECONDS) - 1)]
        self.failures += 1
        self.not_before = now + pause
        return pause


@contextmanager
def alone() -> Iterator[None]:
    """Keep force_renew and the service from running acme.sh at the same time."""
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Companion:
    """Keeps the certificates of all containers."""

    def __init__(self, docker: Docker, environment: dict[str, str]) -> None:
        bundle = environment.get("CA_BUNDLE", "").strip()
        if bundle and not Path(bundle).is_file():
            log.warning("CA_BUNDLE=%s is no file yet", bundle)
        self._docker = docker
        self._environment = environment
        self._acme = AcmeSh(STATE, bundle)
        self._backoff: dict[Wanted, Backoff] = {}
        self._ca_down_until: dict[str, float] = {}
        self._known_problems: set[str] = set()
        self._owes_reload = False
        self._reload_tried = 0.0
        self._told = False

    def wanted(self) -> list[Wanted]:
        """Ask Docker which certificates are wanted; log what was left out, once."""
        filters = parse_filters(self._environment.get("DOCKER_CONTAINER_FILTERS", ""))
        wanted, problems = read_wanted(self._docker.containers(filters), self._environment)
        for one in wanted:
            changed, foreign = certificate.link(one, CERTS)
            self._owes_reload |= changed
            problems += [f"{path} is not ours and stays as it is" for path in foreign]
        for problem in sorted(set(problems) - self._known_problems):
            log.warning("%s", problem)
        self._known_problems = set(problems)
        return wanted

    def _due(self, wanted: Wanted) -> str | None:
        conf = STATE / wanted.home / wanted.domain_folder / f"{wanted.base}.conf"
        current = certificate.read(CERTS / wanted.folder / "fullchain.pem")
        return certificate.due(wanted, current, certificate.last_ca(conf), datetime.now(UTC))

    def _find(self, labels: tuple[str, ...], variable: str) -> str | None:
        """Return the id or name of a container: by label, else by variable."""
        for label in labels:
            if found := self._docker.containers({"label": [label]}):
                return found[0]["Id"]
        return self._environment.get(variable, "").strip() or None

    def reload(self) -> None:
        """Tell docker-gen about new files, then nginx about new content.

        Raises
        ------
        DockerError
            If that failed; it is tried again at the next pass.
        """
        nginx = self._find(NGINX_LABELS, "NGINX_PROXY_CONTAINER")
        docker_gen = self._find(DOCKER_GEN_LABELS, "NGINX_DOCKER_GEN_CONTAINER")
        if nginx is None:
            raise DockerError(f"no nginx container: none has the label {NGINX_LABELS[0]}")
        if docker_gen:
            self._docker.kill(docker_gen, "SIGHUP")
            self._docker.kill(nginx, "SIGHUP")
        elif self._docker.execute(nginx, ["sh", "-c", RELOAD_ALL_IN_ONE]):
            raise DockerError(f"reloading nginx in {nginx[:12]} failed")
        self._owes_reload = False
        log.info("nginx reloaded")

    def issue(self, wanted: Wanted, reason: str) -> bool:
        """Get and install one certificate. Whatever fails, the old one stays.

        Returns
        -------
        bool
            Whether there is a new one.
        """
        label, now = wanted.base, time.monotonic()
        backoff = self._backoff.setdefault(wanted, Backoff())
        try:
            self._acme.check_directory(wanted.ca_uri)
            if self._ca_down_until.pop(wanted.ca_uri, None):
                log.info("%s answers again", wanted.ca_uri)
            log.info("%s: getting a certificate, %s", label, reason)
            with alone():
                self._acme.issue(wanted)
                new = certificate.install(
                    wanted, STATE / wanted.home, CERTS, os.environ.get("COMPANION_VERSION", "")
                )
        except CaUnreachableError as error:
            if wanted.ca_uri not in self._ca_down_until:
                log.error("%s: the CA cannot be reached, trying on: %s", label, error)
            self._ca_down_until[wanted.ca_uri] = time.monotonic() + CA_RETRY_SECONDS
            return False
        except (OrderError, OSError, ValueError) as error:
            pause = backoff.failed(now)
            log.error("%s: no certificate, next try in %d s: %s", label, pause, error)
            return False
        certificate.link(wanted, CERTS)
        self._owes_reload = True
        if still := self._due(wanted):
            # Otherwise a CA that issues something else would be asked again without a pause.
            pause = backoff.failed(now)
            log.error("%s: got a certificate, but %s; next try in %d s", label, still, pause)
        else:
            del self._backoff[wanted]
        log.info(
            "%s: certificate for %s, valid until %s",
            label, " ".join(wanted.names), f"{new.not_after:%Y-%m-%d}",
        )  # fmt: skip
        return True

    def tell(self) -> None:
        """Make the next pass try all due certificates, without further pauses."""
        self._told = True

    def _forget_pauses(self) -> None:
        # The failures still count: later pauses are as long as before.
        self._told = False
        self._ca_down_until.clear()
        for backoff in self._backoff.values():
            backoff.not_before = 0.0

    def _next(self) -> tuple[Wanted, str] | None:
        """Choose the due certificate with the fewest failures that may be tried now."""
        if self._told:
            self._forget_pauses()
        now = time.monotonic()
        # A certificate with changed settings is a new one, without failures.
        wanted = self.wanted()
        self._backoff = {key: value for key, value in self._backoff.items() if key in wanted}
        wanted.sort(key=lambda one: self._backoff.get(one, Backoff()).failures)
        for one in wanted:
            waits = max(
                self._backoff.get(one, Backoff()).not_before, self._ca_down_until.get(one.ca_uri, 0)
            )
            if now >= waits and (reason := self._due(one)):
                return one, reason
        return None

    def _reload_if_owed(self) -> None:
        if self._owes_reload:
            try:
                self.reload()
            except DockerError as error:
                log.error("%s; trying again", error)

    def run_pass(self) -> float:
        """Do all that can be done now.

        Returns
        -------
        float
            Seconds until there may be more to do.

        Raises
        ------
        DockerError
            If Docker cannot be asked.
        """
        # Asked again after each certificate: one may take minutes, and containers come and go.
        while chosen := self._next():
            self.issue(*chosen)
            self._reload_if_owed()
        self._reload_if_owed()
        times = [backoff.not_before for backoff in self._backoff.values() if backoff.failures]
        times += self._ca_down_until.values()
        interval = float(self._environment.get("CERTS_UPDATE_INTERVAL") or 3600)
        pause = min([interval, *(when - time.monotonic() for when in times)])
        return max(1.0, min(pause, CA_RETRY_SECONDS) if self._owes_reload else pause)

    def force_renew(self) -> bool:
        """Get every certificate anew.

        Returns
        -------
        bool
            Whether all were got.
        """
        results = [self.issue(wanted, "renewal is forced") for wanted in self.wanted()]
        if any(results):
            self.reload()
        return all(results)

    def follow_events(self, wake: "queue.SimpleQueue[None]") -> None:
        """Report each container that starts, and each time the stream opens."""
        while True:
            try:
                for _ in self._docker.events({"type": ["container"], "event": ["start"]}):
                    wake.put(None)
            except DockerError as error:
                log.warning("%s, connecting again", error)
            time.sleep(2)

    def serve(self) -> None:
        """Run for ever."""
        wake: queue.SimpleQueue[None] = queue.SimpleQueue()

        # A handler may run in the midst of the queue's own code, which SimpleQueue is made for.
        def told(*_: object) -> None:
            self.tell()
            wake.put(None)

        signal.signal(signal.SIGHUP, told)
        threading.Thread(target=self.follow_events, args=(wake,), daemon=True).start()
        # nginx must have the new host's configuration before the CA asks it.
        shortest, longest = parse_wait(self._environment.get("DOCKER_GEN_WAIT") or "5s:20s")
        while True:
            try:
                pause = self.run_pass()
            except DockerError as error:
                log.error("%s", error)
                pause = 5.0
            except Exception:  # one odd certificate must not end the renewal of all
                log.exception("this pass failed")
                pause = 300.0
            try:
                wake.get(timeout=pause)
                deadline = time.monotonic() + longest
                while time.monotonic() < deadline and not self._told:
                    wake.get(timeout=shortest)
            except queue.Empty:
                pass


def main(argv: list[str]) -> int:
    """Run the companion, or one of its utilities.

    Returns
    -------
    int
        Exit status.
    """
    logging.basicConfig(format="acme-companion: %(message)s", level=logging.INFO, stream=sys.stdout)
    parser = argparse.ArgumentParser(prog="acme-companion", description=__doc__)
    parser.add_argument("--force-renew", action="store_true", help="renew all now, and end")
    parser.add_argument("--status", action="store_true", help="list certificates, and end")
    args = parser.parse_args(argv)
    if args.status:
        print(certificate.status(CERTS))
        return 0
    companion = Companion(Docker(os.environ["DOCKER_HOST"]), dict(os.environ))
    if args.force_renew:
        return 0 if companion.force_renew() else 1
    end_when_told()
    log.info("watching; certificates in %s, accounts in %s", CERTS, STATE)
    companion.serve()
    return 0
