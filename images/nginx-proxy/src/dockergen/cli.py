"""docker-gen: watch the engine, write the configuration, tell nginx.

The options are those of docker-gen that nginx-proxy's images and acme-companion use
(https://github.com/nginx-proxy/docker-gen#usage).
"""

import argparse
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jinja2

from .docker_api import Docker, DockerError, own_id, parse_filters, parse_wait
from .ending import end_when_told
from .model import build
from .render import render
from .settings import LABEL, Config, SettingError

EVENTS = ["start", "stop", "die", "health_status"]
RETRY_SECONDS = 2
log = logging.getLogger("docker-gen")


def write_if_changed(path: Path, text: str) -> bool:
    """Replace a file in one step, so that nginx never reads half of it.

    Returns
    -------
    bool
        Whether it was different.
    """
    if path.exists() and path.read_text() == text:
        return False
    # Not *.conf, so that nginx does not include it; another docker-gen may run beside us.
    new = path.with_name(f".docker-gen-{os.getpid()}")
    try:
        with new.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return True


class Generator:
    """Keeps one file up to date with the running containers."""

    def __init__(self, args: argparse.Namespace, config: Config, docker: Docker) -> None:
        self._args = args
        self._config = config
        self._docker = docker
        self._filters = parse_filters(os.environ.get("DOCKER_CONTAINER_FILTERS", ""))
        self._known_problems: set[str] = set()
        self.owes_notice = False

    def generate(self) -> None:
        """Write the file if its content changed.

        Raises
        ------
        DockerError, OSError, jinja2.TemplateError
            The file is then unchanged.
        """
        docker, label = self._docker, self._config.nginx_label
        containers = docker.containers(self._filters)
        # Looked up separately: DOCKER_CONTAINER_FILTERS may exclude nginx itself.
        nginx = next(iter(docker.containers({"label": [label]})), None)
        if nginx is None:
            container_id = own_id(Path("/proc/self/mountinfo").read_text())
            nginx = docker.call("GET", f"/containers/{container_id}/json") if container_id else None
        networks = docker.call("GET", "/networks")
        internal = [network["Name"] for network in networks if network.get("Internal")]
        proxy, problems = build(containers, nginx, internal, self._config, os.path.exists)
        for problem in sorted(set(problems) - self._known_problems):
            log.warning("%s", problem)
        self._known_problems = set(problems)
        text = render(self._args.template, proxy)
        if self._args.dest is None:
            sys.stdout.write(text)
        elif write_if_changed(self._args.dest, text):
            log.info("Generated '%s' from %d containers", self._args.dest, len(containers))
            self.owes_notice = True

    def notify(self) -> None:
        """Run the commands and send the signals that a changed file asks for.

        Raises
        ------
        DockerError
            If a signal could not be sent; it is sent at the next run.
        """
        args = self._args
        for command in args.notify:
            # The command line is the operator's own, and a shell is what upstream gives it.
            shell = ["/bin/sh", "-c", command]
            done = subprocess.run(shell, text=True, capture_output=True, check=False)
            if done.returncode:
                log.error("%r failed: %s", command, (done.stderr or done.stdout).strip())
        targets = [(name, signal.SIGHUP) for name in args.notify_sighup]
        targets += [(name, args.notify_signal) for name in args.notify_container]
        if args.notify_filter:
            found = self._docker.containers(parse_filters(",".join(args.notify_filter)))
            targets += [(container["Id"], args.notify_signal) for container in found]
        for container, number in targets:
            try:
                self._docker.kill(container, int(number))
                log.info("Sent signal %d to %s", number, container[:12])
            except DockerError as error:
                if error.status not in (404, 409):
                    raise
                # Not running: it reads the new file when it starts.
                log.warning("%s", error)
        self.owes_notice = False

    def run_once(self) -> bool:
        """Generate and notify; log a failure instead of raising it.

        Returns
        -------
        bool
            Whether all went well.
        """
        try:
            self.generate()
            if self.owes_notice:
                self.notify()
        except (DockerError, OSError, jinja2.TemplateError) as error:
            log.error("%s: %s; the old configuration stays", type(error).__name__, error)
            return False
        return True

    def follow_events(self, wake: "queue.SimpleQueue[str]") -> None:
        """Report each event, and each time the stream opens (something may have been missed)."""
        extra = parse_filters(",".join(self._args.event_filter)).get("event", [])
        filters = {"event": EVENTS + extra}
        while True:
            try:
                for event in self._docker.events(filters):
                    if not event:
                        log.info("Watching docker events")
                    wake.put("event")
                log.warning("Docker closed the event stream, connecting again")
            except DockerError as error:
                log.warning("%s, connecting again", error)
            time.sleep(RETRY_SECONDS)

    def watch(self) -> None:
        """Generate at each event and at SIGHUP, for ever."""
        wake: queue.SimpleQueue[str] = queue.SimpleQueue()
        signal.signal(signal.SIGHUP, lambda *_: wake.put("now"))
        threading.Thread(target=self.follow_events, args=(wake,), daemon=True).start()
        shortest, longest = self._args.wait
        well = True
        while True:
            try:
                reason = wake.get(timeout=None if well else RETRY_SECONDS)
                deadline = time.monotonic() + longest
                while reason == "event" and time.monotonic() < deadline:
                    reason = wake.get(timeout=shortest)
            except queue.Empty:
                pass  # silence: nothing more came, or it is time to try again
            well = self.run_once()


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Read docker-gen's command line."""
    parser = argparse.ArgumentParser(prog="docker-gen", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("-watch", action="store_true", help="stay, and generate again at each event")
    add("-wait", type=parse_wait, default=(0.1, 0.5), metavar="MIN:MAX")
    add("-event-filter", action="append", default=[], metavar="event=NAME")
    add("-notify", action="append", default=[], metavar="COMMAND")
    add("-notify-output", action="store_true", help="accepted; failures are logged anyway")
    add("-notify-sighup", action="append", default=[], metavar="CONTAINER")
    add("-notify-container", action="append", default=[], metavar="CONTAINER")
    add("-notify-filter", action="append", default=[], metavar="label=NAME")
    add("-notify-signal", type=int, default=int(signal.SIGHUP), metavar="NUMBER")
    add("template", type=Path)
    add("dest", type=Path, nargs="?", help="default: standard output")
    args = parser.parse_args(argv)
    # The image's CMD has no shell that would fill in the label.
    label = os.environ.get("NGINX_CONTAINER_LABEL") or LABEL + "nginx"
    args.notify_filter = [f.replace("$NGINX_CONTAINER_LABEL", label) for f in args.notify_filter]
    return args


def main(argv: list[str]) -> int:
    """Run docker-gen.

    Returns
    -------
    int
        Exit status.
    """
    logging.basicConfig(format="docker-gen: %(message)s", level=logging.INFO, stream=sys.stderr)
    args = parse_args(argv)
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if host.startswith("unix://") and not Path(host[7:]).is_socket():
        log.error("%s is no socket: mount Docker's there", host[7:])
        return 1
    try:
        generator = Generator(args, Config.read(os.environ), Docker(host))
    except (SettingError, DockerError) as error:
        log.error("%s", error)
        return 1
    if not os.environ.get("TRUST_DOWNSTREAM_PROXY"):
        log.warning(
            "TRUST_DOWNSTREAM_PROXY is not set, so clients may set X-Forwarded-*; "
            "say false unless a proxy of yours is in front"
        )
    if not args.watch:
        return 0 if generator.run_once() else 1
    end_when_told()
    generator.watch()
    return 0
