"""Action that requests each site over TLS, waits for certificates, and reports problems."""

import datetime
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

# Ansible loads each plugin alone; the code they share is in the folders beside theirs.
sys.path.append(str(Path(__file__).parents[1]))
from checks.companion import Word
from checks.visits import TRUSTED_AUTHORITIES, judge
from checks.waiting import Look, Waiting
from module_utils.acme import DIRECTORIES, directory
from module_utils.site import site_of

TRUSTED = {DIRECTORIES[name] for name in TRUSTED_AUTHORITIES}
SAYS = {
    "refused": "The authority refused",
    "away": "The authority cannot be reached",
    "left out": "The companion skips it",
}
PEBBLE = (
    "The test authority beside this throwaway server learns the domains of new apps from "
    "`make up`: run that, and deploy again."
)


def is_trusted(ca: str) -> bool:
    """Tell whether every machine trusts an authority, given by name or by its directory's URL."""
    return directory(ca).rstrip("/") in TRUSTED


def companions_word(word: Word | None, state: str, trouble: str) -> str:
    """
    Describe the companion's state of a certificate in one line.

    Parameters
    ----------
    word : Word or None
        Its last message.
    state : str
        Docker's state of its container; empty if there is none.
    trouble : str
        Why it could not be woken; empty on success.
    """
    if state != "running":
        what = f"its container is {state}" if state else "it has no container"
        return f"The companion, which gets certificates, does not run: {what}. Run site.yml."
    if word and word.failed:
        return f"{SAYS[word.kind]}: {word.why}"
    if word and word.kind == "trying":
        return "The companion is still waiting for the authority, and goes on by itself."
    if word and word.kind == "got":
        return (
            "The companion has a certificate, but nginx does not show it: see docker logs "
            "edge-acme-companion-1 and docker logs edge-nginx-1."
        )
    if trouble:
        return f"The companion could not be woken ({trouble})."
    return "The companion's log does not mention it: docker logs edge-acme-companion-1"


class ActionModule(ActionBase):
    """Visit the sites of some apps, and wait for missing certificates."""

    _supports_check_mode = True
    ARGUMENT_SPEC: ClassVar = {
        "apps": {"type": "list", "elements": "dict", "required": True},
        "port": {"type": "int", "default": 443},
        "ca": {"type": "str", "default": "letsencrypt"},
        "seconds": {"type": "float", "default": 0},
        "begun": {"type": "float", "default": 0},
        "throwaway": {"type": "bool", "default": False},
        "strict": {"type": "bool", "default": False},
    }

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action."""
        result = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(self.ARGUMENT_SPEC)
        self._given, self._vars = given, task_vars
        self._tls = {app["name"]: app["tls"] for app in given["apps"] if app["state"] == "present"}
        self._sites = [
            {"app": app["name"], "path": app["health"], **visit}
            for app in given["apps"]
            if app["name"] in self._tls
            for visit in site_of(app)["visits"]
        ]
        host = (task_vars or {}).get("inventory_hostname", "")
        waiting = Waiting(
            self._look,
            given["seconds"],
            given["begun"],
            lambda text: self._display.display(f"[{host}] {text}"),
            time.monotonic,
            time.sleep,
        )
        found = waiting.run() if given["seconds"] > 0 else self._look(False)
        self._explain(found, waiting)
        wrong = [str(f) for v in found.verdicts for f in v.found if not f.warning]
        warnings = [str(f) for v in found.verdicts for f in v.found if f.warning]
        result |= {
            "changed": False,
            "sites": [{**asdict(v), "found": [str(f) for f in v.found]} for v in found.verdicts],
            "wrong": wrong,
            "cautions": warnings,
        }
        if not given["strict"]:
            return result
        for warning in warnings:
            self._display.warning(f"[{host}] {warning}")
        if wrong:
            head = (
                "The new releases have the traffic, but visitors do not reach these sites as they "
                "should:"
            )
            return {"failed": True, "msg": "\n".join([head, *(f"- {line}" for line in wrong)])}
        return result

    def _look(self, wake: bool) -> Look:
        arguments = {"sites": self._sites, "wake": wake}
        arguments["port"] = self._given["port"]
        answer = self._execute_module(
            module_name="site_probe", module_args=arguments, task_vars=self._vars
        )
        if answer.get("failed") or "visits" not in answer:
            reason = answer.get("msg") or answer.get("module_stderr") or "no answer"
            raise AnsibleError(f"The sites could not be visited: {reason}")
        now = datetime.datetime.fromtimestamp(answer["now"], datetime.UTC)
        trusted = is_trusted(self._given["ca"])
        return Look(
            [judge(visit, self._tls[visit["app"]], trusted, now) for visit in answer["visits"]],
            answer["companion"]["log"],
            answer["companion"]["state"],
            answer["now"],
            answer["announced"],
            answer["companion"]["wake_error"],
        )

    def _explain(self, found: Look, waiting: Waiting) -> None:
        """Add the companion's message to each finding about a certificate from an authority."""
        for verdict in found.verdicts:
            if verdict.tls != "acme" or not verdict.renewal:
                continue
            word = waiting.words.get(verdict.app) or found.word(verdict.app)
            if word and word.kind == "got" and verdict.app not in waiting.words:
                # That message is about the current certificate, perhaps months ago.
                word = None
            told = [companions_word(word, found.state, found.trouble)]
            refused = word is not None and word.kind == "refused"
            if verdict.unfit and refused and self._given["throwaway"]:
                told.append(PEBBLE)
            verdict.explain("\n  ".join(told))
