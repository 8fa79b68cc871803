"""Deploys, rollbacks and broken releases of the app in tests/apps/ledger, under load."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.load import SLOW_EVERY_SECONDS, Request

ROOT = Path(__file__).parents[1]
LEDGER = ROOT / "tests/apps/ledger"
# Faults of a release. The app itself simulates all of them but `build`.
FAULTS = ("exit", "hang", "error", "init", "secret", "build")
# The phases of a deploy, each with its first task.
PHASES = {
    "checks, images, database": "",
    "source": "App | List the volumes",
    "build": "App | Build the image",
    "configure": "App | Create the app's internal network",
    "start": "App | Start the release beside",
    "release command": "App | Wait for a release command",
    "healthy": "App | Wait until the release is healthy",
    "smoke test": "App | Request the release's health path",
    "switch": "App | Give the release the traffic",
    "host names": "App | Describe the site to nginx",
    "drain and stop": "App | Look for containers of other releases",
    "jobs, prune": "App | Look for cron",
}


@dataclass
class Event:
    """One run of a playbook; times in seconds since the epoch."""

    name: str
    start: float
    end: float
    succeeded: bool
    output: str = field(repr=False)
    tasks: list[tuple[float, str]] = field(default_factory=list, repr=False)


@dataclass
class Campaign:
    """Runs of playbooks for one app on one server, and the requests sent meanwhile.

    Attributes
    ----------
    url : str
        Address of the app.
    ca : pathlib.Path
        Certificates to trust.
    source : pathlib.Path
        Folder of the app's source; it is created and changed here.
    inventories : list of str
        Inventories of the playbooks.
    work : pathlib.Path
        Folder for the results of the load.
    on_server : callable
        Runs a command on the server and returns what it prints.
    nice : bool
        Whether playbooks run at a low priority, for measurements of latency: usually the
        controller is another machine and does not take CPU time from the server.
    """

    url: str
    ca: Path
    source: Path
    inventories: list[str]
    work: Path
    on_server: Callable[..., str]
    nice: bool = False
    events: list[Event] = field(default_factory=list, repr=False)
    requests: list[Request] = field(default_factory=list, repr=False)
    number: int = 0
    rate: float = 0

    def change(self, fault: str = "none") -> None:
        """Change the source, so that it makes a new release with the given fault."""
        self.number += 1
        self.source.mkdir(parents=True, exist_ok=True)
        shutil.copytree(LEDGER, self.source, dirs_exist_ok=True)
        (self.source / "release.txt").write_text(f"{self.number}\n")
        (self.source / "fault.txt").write_text(f"{fault}\n")
        for file in (self.source / "static").iterdir():
            file.unlink()
        # A name with a hash, like those of build tools; no other release has this file.
        name = f"release-{self.number}.{self.number:08x}.txt"
        (self.source / "static" / name).write_text(f"release {self.number}\n")
        if fault == "build":
            with (self.source / "requirements.txt").open("a") as file:
                file.write("flask==0.0.999\n")

    def play(self, playbook: str, *arguments: str, kill_at: str = "") -> Event:
        """Run a playbook, or kill it at a task, and record the times and the result."""
        start = time.time()
        command = ["ansible-playbook", str(ROOT / "playbooks" / playbook), "-e", "app=ledger"]
        command += [f"--inventory={path}" for path in self.inventories]
        self.work.mkdir(parents=True, exist_ok=True)
        tasks = self.work / "tasks.txt"
        tasks.write_text("")
        environment = {
            **os.environ,
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "bench/callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "tasks",
            "TASKS_FILE": str(tasks),
            "KILL_AT_TASK": kill_at,
            "ANSIBLE_FORCE_COLOR": "false",
            "ANSIBLE_NOCOLOR": "true",
        }
        priority = ["nice"] if self.nice else []
        done = subprocess.run(
            [*priority, *command, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        name = f"{playbook.removesuffix('.yml')} {' '.join(arguments)}".strip()
        event = Event(name, start, time.time(), done.returncode == 0, done.stdout + done.stderr)
        lines = (line.split("\t") for line in tasks.read_text().splitlines())
        event.tasks = [(float(begun), task) for begun, task in lines]
        self.events.append(event)
        print(f"{event.name}: {event.end - event.start:.1f} s, {event.succeeded}", flush=True)
        return event

    def deploy(self, fault: str = "none", *arguments: str) -> Event:
        """Change the source and deploy it."""
        self.change(fault)
        event = self.play("deploy.yml", *arguments)
        event.name = "deploy" if fault == "none" else f"broken deploy: {fault}"
        return event

    @contextmanager
    def load(self, rate: float, slow_seconds: float) -> Iterator[None]:
        """Send `rate` requests per second meanwhile, and slow requests besides."""
        self.rate = rate
        self.work.mkdir(parents=True, exist_ok=True)
        out = self.work / "requests.jsonl"
        # Real visitors are other machines. Without permission to raise it, the priority stays.
        command = ["nice", "-n", "-5", sys.executable, "-m", "bench.load", self.url]
        command += ["--ca", str(self.ca), "--rate", str(rate)]
        command += ["--slow-seconds", str(slow_seconds), "--out", str(out)]
        with subprocess.Popen(command, cwd=ROOT) as process:
            try:
                yield
            finally:
                # The load waits for requests in flight before it ends.
                process.terminate()
                process.wait(timeout=120)
        lines = out.read_text().splitlines()
        self.requests += [Request(**json.loads(line)) for line in lines]

    # -- results ----------------------------------------------------------------------------------

    def failures(self) -> Counter[tuple[str, str]]:
        """Count the failed requests by kind and outcome."""
        return Counter((r.kind, r.outcome) for r in self.requests if r.outcome != "ok")

    def lost_and_doubled(self) -> tuple[list[str], list[str]]:
        """Compare the acknowledged forms with the rows in the database."""
        acknowledged = {r.id for r in self.requests if r.id and r.outcome == "ok"}
        rows = Counter(self.query("SELECT id FROM entry WHERE id IS NOT NULL"))
        lost = [marker for marker in acknowledged if rows[marker] == 0]
        return lost, [marker for marker, count in rows.items() if count > 1]

    def query(self, statement: str) -> list[str]:
        """Run a query in the app's database."""
        psql = ["psql", "-U", "postgres", "-d", "ledger", "-Atc", statement]
        return self.on_server("docker", "exec", "ledger-db-db-1", *psql).splitlines()

    def latency(self, *, during: list[Event] | None = None) -> str:
        """Summarise the latency of requests during some runs, or during no run at all."""

        def met(request: Request, events: list[Event]) -> bool:
            return any(e.start <= request.end and request.start <= e.end for e in events)

        took = [
            r.end - r.start
            for r in self.requests
            if r.outcome == "ok" and not r.kind.startswith("slow")
            if (met(r, during) if during is not None else not met(r, self.events))
        ]
        if len(took) < 2:
            return "no requests"
        cuts = statistics.quantiles(took, n=100)
        p50, p99 = cuts[49] * 1000, cuts[98] * 1000
        return f"{len(took)} requests, p50 {p50:.0f} ms, p99 {p99:.0f} ms"

    def phases(self) -> dict[str, float]:
        """Return the median duration of each phase of a good deploy in seconds."""
        took: dict[str, list[float]] = {name: [] for name in PHASES}
        for event in self.events:
            if event.name != "deploy" or not event.succeeded:
                continue
            begun = {"checks, images, database": event.start}
            for moment, task in event.tasks:
                for name, first in PHASES.items():
                    if first and task.rpartition(" : ")[2].startswith(first):
                        begun.setdefault(name, moment)
            moments = [*sorted(begun.values()), event.end]
            for name, moment in begun.items():
                took[name].append(moments[moments.index(moment) + 1] - moment)
        return {name: statistics.median(each) for name, each in took.items() if each}

    def table(self) -> str:
        """Summarise the results as text."""
        slow = f"a slow one every {SLOW_EVERY_SECONDS:.0f} s"
        lines = [f"{self.rate:.0f} requests a second, {slow}"]
        lines.append(f"{len(self.requests)} requests, {sum(self.failures().values())} failed")
        lines += [
            f"  {count} x {kind}: {outcome}" for (kind, outcome), count in self.failures().items()
        ]
        lines.append(f"quiet: {self.latency()}")
        lines.append(f"during runs: {self.latency(during=self.events)}")
        for name in sorted({event.name for event in self.events}):
            events = [event for event in self.events if event.name == name]
            median = statistics.median(event.end - event.start for event in events)
            latency = self.latency(during=events)
            lines.append(f"{len(events)} x {name}: median {median:.1f} s; {latency}")
        lines += [f"  {seconds:5.1f} s  {name}" for name, seconds in self.phases().items()]
        return "\n".join(lines)

    def plot(self, file: Path) -> None:
        """Plot latency over time, with the runs of playbooks as bands."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        zero = min(request.start for request in self.requests)
        figure, axes = pyplot.subplots(figsize=(14, 6))
        colours = {True: "tab:blue", False: "tab:orange"}
        for event in self.events:
            axes.axvspan(
                event.start - zero,
                event.end - zero,
                color=colours[event.succeeded],
                alpha=0.15,
            )
        for fine, colour, size in ((True, "tab:green", 2), (False, "tab:red", 20)):
            some = [r for r in self.requests if (r.outcome == "ok") == fine]
            some = [r for r in some if not r.kind.startswith("slow") or not fine]
            x = [r.start - zero for r in some]
            y = [(r.end - r.start) * 1000 for r in some]
            axes.scatter(x, y, s=size, c=colour, label="answered" if fine else "failed")
        axes.set(yscale="log", xlabel="seconds", ylabel="milliseconds until answered")
        axes.set_title("blue: a deploy or rollback, orange: a deploy of a broken release")
        axes.legend()
        figure.tight_layout()
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=100)
