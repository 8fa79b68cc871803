"""Judge what a server runs, for the verb status. Pure functions."""

import datetime
from dataclasses import dataclass, field
from typing import Any

from module_utils.app import has_postgres, is_present, setting
from module_utils.names import DATABASE, Names, app_of
from module_utils.services import services_of

from checks.report import Finding, quote

FULL_PERCENT = 90
# A restart within this time is an error, as the container may keep failing; later it is a warning.
RECENT = datetime.timedelta(minutes=10)
LATELY = datetime.timedelta(days=1)
SKIPS = 3
# A job's container appears some seconds after the record of its start.
JOB_STARTS = datetime.timedelta(minutes=2)
GIGABYTE = 10**9


@dataclass
class Report:
    """
    What status shows for a server.

    Parameters
    ----------
    lines : list of str
        Tables for the operator.
    found : list of Finding
        Errors and warnings.
    """

    lines: list[str] = field(default_factory=list)
    found: list[Finding] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Findings that make status fail."""
        return [str(finding) for finding in self.found if not finding.warning]

    @property
    def cautions(self) -> list[str]:
        """Findings that do not make status fail."""
        return [str(finding) for finding in self.found if finding.warning]

    def add(self, where: str, wrong: str, fix: str, *, warning: bool = False) -> None:
        """Add a finding."""
        self.found.append(Finding(where, wrong, fix, warning=warning))


def report(server: dict[str, Any], entries: list[dict[str, Any]], whole: bool = True) -> Report:
    """
    Judge a server.

    Parameters
    ----------
    server : dict
        What the module ``server_info`` returned.
    entries : list of dict
        Entries of ``apps`` to judge.
    whole : bool, optional
        Whether these are all apps of the inventory.

    Returns
    -------
    Report
        Tables and findings.
    """
    made, engine = Report(), server["engine"]
    if not engine["installed"]:
        what = "has no Docker" if server["deployed"] else "is not set up"
        made.lines.append(f"This server {what}.")
        made.add("the server", what, "Run site.yml")
        _show_disks(made, server)
        return made
    if not engine["answers"]:
        why = quote(engine["error"]) or "no error message"
        made.lines.append(f"The Docker engine does not answer: {why}")
        fix = "On the server: systemctl status docker; journalctl -u docker"
        made.add("the Docker engine", f"does not answer ({why})", fix)
    else:
        if not server["edge"]:
            made.lines.append("The edge is not set up.")
            made.add("the edge", "is not set up", "Run site.yml")
        _show_containers(made, server, entries)
    _judge_releases(made, server, entries)
    if whole:
        for name in server["others"]:
            made.lines.append(f"{name} is on this server, but not in this inventory.")
    _show_jobs(made, server, entries)
    _show_disks(made, server)
    return made


# -- containers ------------------------------------------------------------------------------------


def expected(server: dict[str, Any], entries: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """
    List the containers that should exist.

    Parameters
    ----------
    server : dict
        What the module ``server_info`` returned.
    entries : list of dict
        Entries of ``apps``.

    Returns
    -------
    list of tuple
        Compose project and service of each. An empty service means any container of the project:
        the one with an app's host names is replaced start-first, by one with another name.
    """
    found = [("edge", service) for service in server["edge"]]
    for app in _deployed(server, entries):
        names = Names(app["name"])
        found += [(names.release(app["live"]), service) for service in app["services"] or ["web"]]
        found.append((names.domains_project, ""))
        if has_postgres(app["entry"]):
            found.append((names.database_project, "db"))
        for service in services_of(app["entry"]):
            owner = Names(service.owner) if service.owner else names
            found.append((owner.service(service.name), service.name))
    # A service that several apps share is expected once.
    return list(dict.fromkeys(found))


def _deployed(server: dict[str, Any], entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    wanted = {e["name"] for e in entries if is_present(e)}
    return [app for app in server["apps"] if app["live"] and app["name"] in wanted]


def _show_containers(made: Report, server: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    now = datetime.datetime.fromtimestamp(server["now"], datetime.UTC)
    there = [c for c in server["containers"] if not c["once"]]
    rows = [("CONTAINER", "STATE", "HEALTH", "RESTARTS", "SINCE (UTC)", "")]
    shown = set()
    for project, service in expected(server, entries):
        fit = [c for c in there if c["project"] == project and service in ("", c["service"])]
        if not fit:
            name = f"{project}-{service}-1" if service else project
            rows.append((name, "missing", "-", "-", "-", "WRONG"))
            made.add(name, "is missing", _restart(project))
            continue
        # While one container replaces another there are two: the running one counts.
        fit.sort(key=lambda c: c["state"] != "running")
        for container in fit if service else fit[:1]:
            before = len(made.found)
            judge_container(made, container, now)
            news = made.found[before:]
            mark = "WRONG" if any(not f.warning for f in news) else "see below" if news else ""
            rows.append(_row(container, mark))
            shown.add(container["name"])
    known = {e["name"]: setting(e, "state") for e in entries}
    for container in there:
        app = container["app"] or container.get("services_of")
        app = app or app_of(container["project"])
        if container["name"] in shown or app not in known:
            continue
        what = "of an absent app" if known[app] == "absent" else "not current"
        rows.append(_row(container, what))
        if known[app] == "absent":
            fix = "Deploy, which removes it"
            made.add(
                container["name"], f"still exists, but {app} has state: absent", fix, warning=True
            )
    made.lines += table(rows)


def judge_container(made: Report, container: dict[str, Any], now: datetime.datetime) -> None:
    """
    Add what is wrong with one container.

    Parameters
    ----------
    made : Report
        Gets the findings.
    container : dict
        One of ``containers`` of the module ``server_info``.
    now : datetime.datetime
        The server's time, with time zone.
    """
    name, state = container["name"], container["state"]
    fix = f"{_restart(container['project'])}, or on the server: docker start {name}"
    memory = f"raise {_memory_of(container)}"
    if state != "running":
        why = f"exit code {container['exit_code']}"
        if container["error"]:
            why += f", {container['error']}"
        if container["out_of_memory"]:
            why, fix = "it ran out of memory", f"{memory[0].upper()}{memory[1:]}, and deploy"
        since = f" since {_minute(container['finished'])} UTC" if state == "exited" else ""
        made.add(name, f"is {state}{since} ({why})", f"{fix}. Its log: docker logs {name}")
        return
    if container["health"] == "unhealthy":
        made.add(name, "is unhealthy", f"Look at its log: docker logs {name}")
    elif container["health"] == "starting":
        made.add(name, "is starting, and not healthy yet", "Look again in a minute", warning=True)
    kills = container["oom_kills"] or int(container["out_of_memory"])
    if kills:
        since = _minute(container["started"])
        times = "a process was" if kills == 1 else f"{kills} processes were"
        wrong = f"{times} killed because its memory was full, since its start at {since} UTC"
        made.add(name, wrong, f"{memory[0].upper()}{memory[1:]}, and deploy")
    started = _time(container["started"])
    if container["restarts"] and started and now - started < LATELY:
        wrong = (
            f"was restarted {container['restarts']} times, last at {_minute(container['started'])}"
        )
        fix = f"Look at its log: docker logs {name}"
        made.add(name, f"{wrong} UTC", fix, warning=now - started >= RECENT)


def _memory_of(container: dict[str, Any]) -> str:
    if container["project"].endswith(DATABASE):
        return "postgres_memory_mb"
    if container.get("services_of"):
        return "memory_mb of the service"
    return "memory_mb of the app" if container["app"] else "the server's memory"


def _restart(project: str) -> str:
    return "Run playbooks/edge.yml" if project == "edge" else "Deploy, which starts it again"


def _row(container: dict[str, Any], mark: str) -> tuple[str, ...]:
    runs = container["state"] == "running"
    return (
        container["name"],
        container["state"],
        container["health"] or "-",
        str(container["restarts"]),
        _minute(container["started"] if runs else container["finished"]),
        mark,
    )


# -- releases, jobs, disks -------------------------------------------------------------------------


def _judge_releases(made: Report, server: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    live = {app["name"]: app["live"] for app in server["apps"]}
    for entry in entries:
        name = entry["name"]
        if not is_present(entry):
            made.lines.append(f"{name} is absent, as the inventory says.")
        elif not live.get(name):
            made.lines.append(f"{name} has no live release.")
            made.add(name, "has no live release", "Deploy it")


def _show_jobs(made: Report, server: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    rows = [("JOB", "STARTED (UTC)", "RESULT", "SKIPPED SINCE", "")]
    left = {app["name"]: app["jobs"] for app in server["apps"]}
    for entry in entries:
        if not is_present(entry):
            continue
        for job in setting(entry, "cron"):
            result = left.get(entry["name"], {}).get(job["name"])
            if not result:
                continue
            before = len(made.found)
            row = _judge_job(made, server, entry["name"], job["name"], result)
            rows.append((*row, "WRONG" if len(made.found) > before else ""))
    if len(rows) > 1:
        made.lines += ["", *table(rows)]


def _judge_job(
    made: Report, server: dict[str, Any], app: str, job: str, result: dict[str, Any]
) -> tuple[str, str, str, str]:
    name, container = f"job {job} of {app}", f"{app}-job-{job}"
    started, code = str(result.get("started") or ""), result.get("exit_code")
    skipped = int(result.get("skipped") or 0)
    words = "running" if code is None else "ok" if code == 0 else f"exit code {code}"
    if code is None and _is_cut_off(server, container, _time(started)):
        words = "interrupted"
        wrong = f"was interrupted: the run of {_minute(started)} UTC stopped without a result"
        made.add(name, wrong, "The server may have been restarted. The next run clears this")
    if code:
        wrong = f"failed with exit code {code}, started at {_minute(started)} UTC"
        made.add(name, wrong, f"Look at what it printed: journalctl -t {app}.{job}")
    if skipped >= SKIPS:
        wrong = f"was skipped {skipped} times, because the run of {_minute(started)} UTC goes on"
        made.add(name, wrong, f"Look at its container: docker logs {container}")
    return f"{job} of {app}", _minute(started), words, str(skipped)


def _is_cut_off(server: dict[str, Any], container: str, started: datetime.datetime | None) -> bool:
    runs = {c["name"] for c in server["containers"] if c["state"] == "running"}
    if container in runs or started is None or not server["engine"]["answers"]:
        return False
    return server["now"] - started.timestamp() > JOB_STARTS.total_seconds()


def _show_disks(made: Report, server: dict[str, Any]) -> None:
    rows = [("DISK", "USED", "FREE", "FILES", "")]
    for disk in server["disks"]:
        full = disk["used"] > FULL_PERCENT or disk["inodes"] > FULL_PERCENT
        if full:
            what = "space" if disk["used"] > FULL_PERCENT else "inodes"
            percent = max(disk["used"], disk["inodes"])
            wrong = f"is full: {percent} % of its {what} used"
            fix = "Free some: docker system df shows what Docker uses"
            made.add(f"the file system of {disk['name']}", wrong, fix)
        name = disk["name"]
        if disk["also"]:
            name += f" (and {len(disk['also'])} more)"
        free = f"{disk['free'] / GIGABYTE:.1f} GB"
        used, files = f"{disk['used']} %", f"{disk['inodes']} %"
        rows.append((name, used, free, files, "WRONG" if full else ""))
    made.lines += ["", *table(rows)]


# -- sites -----------------------------------------------------------------------------------------


def site_lines(sites: list[dict[str, Any]]) -> list[str]:
    """
    Format a table of sites.

    Parameters
    ----------
    sites : list of dict
        What the action ``site_visit`` returned.

    Returns
    -------
    list of str
        The lines; empty if there are no sites.
    """
    rows = [("SITE", "ANSWER", "CERTIFICATE", "")]
    for site in sites:
        mark = "see below" if site["found"] else ""
        rows.append((f"https://{site['domain']}/", site["answer"], site["certificate"], mark))
    return ["", *table(rows)] if sites else []


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Format rows as lines with columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return [line.rstrip() for line in lines]


def _time(text: str) -> datetime.datetime | None:
    try:
        found = datetime.datetime.fromisoformat(f"{text[:19]}+00:00")
    except ValueError:
        return None
    return None if found.year == 1 else found


def _minute(text: str) -> str:
    found = _time(text)
    return f"{found:%Y-%m-%d %H:%M}" if found else "-"
