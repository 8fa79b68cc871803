"""Action that asks each site over TLS, waits for certificates, and says what is wrong."""

import datetime
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

# Ansible loads plugins one by one; what they share lies beside their folders.
sys.path.append(str(Path(__file__).parents[1]))
from checks.companion import Word
from checks.domains import ascii_domain
from checks.site import DIRECTORIES
from checks.visits import TRUSTED_AUTHORITIES, judge
from checks.waiting import Look, Waiting

TRUSTED = {DIRECTORIES[name] for name in TRUSTED_AUTHORITIES}
SAYS = {
    "refused": "The authority refused",
    "away": "The authority cannot be reached",
    "left out": "The companion leaves it out",
}
PEBBLE = (
    "The test authority beside this throwaway server learns the domains of new apps from "
    "`make up`: run that, and deploy again."
)


def is_trusted(ca: str) -> bool:
    """Tell whether every machine knows an authority, named or by its directory's URL."""
    return DIRECTORIES.get(ca, ca).rstrip("/") in TRUSTED


def companions_word(word: Word | None, state: str, trouble: str) -> str:
    """
    Say in one line what the companion makes of a certificate.

    Parameters
    ----------
    word : Word or None
        Its last word.
    state : str
        Docker's word on its container; empty if there is none.
    trouble : str
        Why it could not be woken; empty if it was.
    """
    if state != "running":
        what = f"its container is {state}" if state else "it has no container"
        return f"The companion, which gets certificates, does not run: {what}. Run site.yml."
    if word and word.failed:
        return f"{SAYS[word.kind]}: {word.why}"
    if word and word.kind == "trying":
        return "The companion is asking the authority, which takes long. It goes on by itself."
    if word and word.kind == "got":
        return (
            "The companion has got one, and nginx does not show it: see docker logs "
            "edge-acme-companion-1 and docker logs edge-nginx-1."
        )
    if trouble:
        return f"The companion could not be woken ({trouble})."
    return "The companion says nothing about it: docker logs edge-acme-companion-1"


class ActionModule(ActionBase):
    """Visit the sites of some apps; with C(seconds), wait for certificates and judge."""

    _supports_check_mode = True
    _VALID_ARGS = frozenset(
        ("apps", "port", "tls", "ca", "seconds", "begun", "throwaway", "strict")
    )

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action."""
        result = super().run(tmp, task_vars)
        given, self._vars = self._task.args, task_vars
        self._tls = {
            app["name"]: app.get("tls", given.get("tls", "acme"))
            for app in given["apps"]
            if app.get("state", "present") == "present"
        }
        self._sites = [
            {"app": app["name"], "domain": ascii_domain(domain), "path": app.get("health", "/")}
            for app in given["apps"]
            if app["name"] in self._tls
            for domain in app["domains"]
        ]
        host = (task_vars or {}).get("inventory_hostname", "")
        waiting = Waiting(
            self._look,
            float(given.get("seconds", 0)),
            float(given.get("begun", 0) or 0),
            lambda text: self._display.display(f"[{host}] {text}"),
            time.monotonic,
            time.sleep,
        )
        seconds = float(given.get("seconds", 0))
        found = waiting.run() if seconds > 0 else self._look(False)
        self._explain(found, waiting)
        wrong = [str(f) for v in found.verdicts for f in v.found if not f.warning]
        warnings = [str(f) for v in found.verdicts for f in v.found if f.warning]
        result |= {
            "changed": False,
            "sites": [{**asdict(v), "found": [str(f) for f in v.found]} for v in found.verdicts],
            "wrong": wrong,
            "cautions": warnings,
        }
        if not given.get("strict"):
            return result
        for warning in warnings:
            self._display.warning(f"[{host}] {warning}")
        if wrong:
            head = (
                "Everything is deployed, and the new releases have the traffic. But visitors do "
                "not reach these sites as they should:"
            )
            return {"failed": True, "msg": "\n".join([head, *(f"- {line}" for line in wrong)])}
        return result

    def _look(self, wake: bool) -> Look:
        arguments = {"sites": self._sites, "wake": wake}
        arguments["port"] = int(self._task.args.get("port", 443))
        answer = self._execute_module(
            module_name="site_visit", module_args=arguments, task_vars=self._vars
        )
        if answer.get("failed") or "visits" not in answer:
            reason = answer.get("msg") or answer.get("module_stderr") or "no answer"
            raise AnsibleError(f"The sites could not be visited: {reason}")
        now = datetime.datetime.fromtimestamp(answer["now"], datetime.UTC)
        trusted = is_trusted(str(self._task.args.get("ca", "letsencrypt")))
        return Look(
            [judge(visit, self._tls[visit["app"]], trusted, now) for visit in answer["visits"]],
            answer["companion"]["log"],
            answer["companion"]["state"],
            answer["now"],
            answer["announced"],
            answer["companion"]["wake_error"],
        )

    def _explain(self, found: Look, waiting: Waiting) -> None:
        """Say with each finding about a certificate from an authority what the companion said."""
        for verdict in found.verdicts:
            if verdict.tls != "acme" or not verdict.renewal:
                continue
            word = waiting.words.get(verdict.app) or found.word(verdict.app)
            if word and word.kind == "got" and verdict.app not in waiting.words:
                # That was the certificate of now, perhaps months ago.
                word = None
            told = [companions_word(word, found.state, found.trouble)]
            refused = word is not None and word.kind == "refused"
            if verdict.unfit and refused and self._task.args.get("throwaway"):
                told.append(PEBBLE)
            verdict.explain("\n  ".join(told))
