"""Action that lets one run at a time change the releases of a server."""

import getpass
import os
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase


def started(pid: int) -> str:
    """
    Tell when a process of this machine started.

    Parameters
    ----------
    pid : int
        The process.

    Returns
    -------
    str
        The same text whenever it is asked, and another one for a process that got the number later
        (see ``starttime`` in proc_pid_stat(5)); empty if there is no such process.
    """
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return f"{fields[19]} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    # macOS and the BSDs
    ps = ["ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(ps, capture_output=True, text=True, check=False).stdout.strip()


def is_gone(holder: dict[str, Any], here: str) -> bool:
    """
    Tell whether a holder certainly runs no more.

    Parameters
    ----------
    holder : dict
        Who has the lock.
    here : str
        Name of this machine.

    Returns
    -------
    bool
        False for a holder on another machine, of which nothing can be known here.
    """
    if holder.get("host") != here or "pid" not in holder:
        return False
    return started(int(holder["pid"])) != holder.get("started")


def describe(holder: dict[str, Any]) -> str:
    """Name a holder: who, where, since when."""
    return (
        f"{holder.get('user')} on {holder.get('host')} (process {holder.get('pid')}) since "
        f"{holder.get('since')}, for a {holder.get('purpose', 'run')}"
    )


class ActionModule(ActionBase):
    """Take the lock for this run, give it back, or remove whoever's it is."""

    _supports_check_mode = True
    _VALID_ARGS = frozenset(("state", "path", "purpose"))

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action."""
        result = super().run(tmp, task_vars)
        state, path = self._task.args["state"], self._task.args["path"]
        me = self._me()
        if state == "given_back":
            return result | self._module(task_vars, state=state, path=path, holder=me)
        if state in ("read", "broken"):
            answer = self._module(task_vars, state="read", path=path)
            holder = answer.get("holder")
            broken = state == "broken" and holder is not None
            if broken and not self._task.check_mode:
                answer = self._module(task_vars, state="given_back", path=path, holder=holder)
            said = f"The lock: {describe(holder)}." if holder else "Nobody holds the lock."
            return result | answer | {"changed": broken, "msg": said}

        answer = self._module(task_vars, state="taken", path=path, holder=me)
        if self._task.check_mode:
            return result | answer | {"holder": me}
        holder = answer.get("holder")
        if holder and holder["id"] != me["id"] and is_gone(holder, me["host"]):
            text = f"Taking over the lock of {describe(holder)}, which ended without giving it back"
            self._display.display(f"{text}.", color="yellow")
            answer = self._module(task_vars, state="taken", path=path, holder=me, instead_of=holder)
            holder = answer.get("holder")
        if answer.get("failed") or holder is None or holder["id"] == me["id"]:
            return result | answer
        return result | {
            "failed": True,
            "msg": (
                f"Another run changes the releases of this server: {describe(holder)}. Nothing was "
                "changed. Wait until it has ended. If it was killed on another machine, remove "
                "its lock: "
                "ansible-playbook playbooks/unlock.yml -i INVENTORY"
            ),
        }

    def _me(self) -> dict[str, Any]:
        # Tasks run in children of the process that ansible-playbook is.
        pid = os.getppid()
        host, begun = socket.gethostname(), started(pid)
        return {
            "id": f"{host} {pid} {begun}",
            "user": getpass.getuser(),
            "host": host,
            "pid": pid,
            "started": begun,
            "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            "purpose": self._task.args.get("purpose", "a deploy"),
        }

    def _module(self, task_vars: Any, **arguments: Any) -> dict[str, Any]:
        return self._execute_module(
            module_name="release_lock", module_args=arguments, task_vars=task_vars
        )
