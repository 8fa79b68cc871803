"""Action that lets one run at a time change the releases of a server."""

import getpass
import os
import shlex
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

# Ansible loads each plugin alone; the code they share is in the folders beside theirs.
sys.path.append(str(Path(__file__).parents[1]))
from module_utils.paths import LOCK

# A run renews its lock this often. Other runs may take over a lock that was not renewed for
# EXPIRY_SECONDS, because the machine of its run is gone.
HEARTBEAT_SECONDS = 20
EXPIRY_SECONDS = 300


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
        The same text on each call, and another text for a later process with the same ID
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


def machine() -> str:
    """
    Identify this machine and its process namespace.

    Two machines may have the same host name, such as an image's default, and so may two containers
    of one machine, each with its own processes. So the IDs of the boot and of the process namespace
    are part of the name (see random(4) and pid_namespaces(7)).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()} {boot}"
    except OSError:
        return socket.gethostname()


def is_gone(holder: dict[str, Any], here: str, silent_seconds: float = 0) -> bool:
    """
    Tell whether a holder has certainly ended.

    Parameters
    ----------
    holder : dict
        The holder of the lock.
    here : str
        This machine, as returned by `machine`.
    silent_seconds : float
        Time since the holder last renewed the lock, in seconds.

    Returns
    -------
    bool
        A holder on another machine counts as gone once it no longer renews its lock. A lock from an
        older version, which was not renewed, never counts as gone there.
    """
    if "pid" in holder and holder.get("machine", holder.get("host")) in (here, here.split()[0]):
        return started(int(holder["pid"])) != holder.get("started")
    return bool(holder.get("renewed")) and silent_seconds > EXPIRY_SECONDS


def describe(holder: dict[str, Any]) -> str:
    """Describe a holder: user, machine, start and purpose."""
    return (
        f"{holder.get('user')} on {holder.get('host')} (process {holder.get('pid', 'unknown')}) "
        f"since {holder.get('since')}, for a {holder.get('purpose', 'run')}"
    )


class ActionModule(ActionBase):
    """Take the lock for this run, give it back, read it, or remove any run's lock."""

    _supports_check_mode = True
    ARGUMENT_SPEC: ClassVar = {
        "state": {
            "type": "str",
            "choices": ["taken", "given_back", "read", "broken"],
            "required": True,
        },
        # A string, because a path of the server must not be expanded on the controller.
        "path": {"type": "str", "default": LOCK},
        "purpose": {"type": "str", "default": "deploy"},
        "renew_seconds": {"type": "float", "default": HEARTBEAT_SECONDS},
    }

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action."""
        result = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(self.ARGUMENT_SPEC)
        state, path = options["state"], options["path"]
        me = self._me(options["purpose"])
        if state == "given_back":
            return result | self._module(task_vars, state=state, path=path, holder=me)
        if state in ("read", "broken"):
            answer = self._module(task_vars, state="read", path=path)
            holder = answer.get("holder")
            broken = state == "broken" and holder is not None
            if broken and not self._task.check_mode:
                answer = self._module(task_vars, state="given_back", path=path, holder=holder)
            said = f"The lock: {describe(holder)}." if holder else "The lock is free."
            if holder and holder.get("renewed"):
                said += f" Last renewed {answer.get('silent_seconds', 0):.0f} seconds ago."
            return result | answer | {"changed": broken, "msg": said}

        answer = self._module(task_vars, state="taken", path=path, holder=me)
        if self._task.check_mode:
            return result | answer | {"holder": me}
        holder = answer.get("holder")
        silent = answer.get("silent_seconds", 0)
        if holder and holder["id"] != me["id"] and is_gone(holder, me["machine"], silent):
            text = f"Taking over the lock of {describe(holder)}, which ended without giving it back"
            self._display.display(f"{text}.", color="yellow")
            answer = self._module(task_vars, state="taken", path=path, holder=me, instead_of=holder)
            holder = answer.get("holder")
        if holder and holder["id"] == me["id"]:
            self._renew(path, me, options["renew_seconds"])
        if answer.get("failed") or holder is None or holder["id"] == me["id"]:
            return result | answer
        wait = (
            f"If it was killed on another machine, its lock expires {EXPIRY_SECONDS // 60} minutes "
            f"after its last sign of life, which was {silent:.0f} seconds ago. To remove it now: "
            if holder.get("renewed")
            else "If it was killed on another machine, remove its lock: "
        )
        return result | {
            "failed": True,
            "msg": (
                f"Another run changes the releases of this server: {describe(holder)}. Nothing was "
                f"changed. Wait until it has ended. {wait}"
                "ansible-playbook playbooks/unlock.yml -i INVENTORY"
            ),
        }

    def _renew(self, path: str, me: dict[str, Any], pause: float) -> None:
        """Renew the lock in the background while this run goes on and holds it."""
        # Forked twice: Ansible would wait for a direct child of its worker.
        if child := os.fork():
            os.waitpid(child, 0)
            return
        try:
            os.setsid()
            if os.fork() == 0:
                null = os.open(os.devnull, os.O_RDWR)
                for descriptor in (0, 1, 2):
                    os.dup2(null, descriptor)
                self._renew_until_it_ends(path, me, pause)
        finally:
            os._exit(0)

    def _renew_until_it_ends(self, path: str, me: dict[str, Any], pause: float) -> None:
        renew = (
            f"grep -qF {shlex.quote(me['id'])} {shlex.quote(path)} && touch -c {shlex.quote(path)}"
        )
        due = time.monotonic() + pause
        unheard = 0
        while started(me["pid"]) == me["started"]:
            time.sleep(0.5)
            if time.monotonic() < due:
                continue
            due = time.monotonic() + pause
            try:
                answer = self._low_level_execute_command(renew)
            except AnsibleError:
                # The connection may be lost for a moment, and the next try succeed.
                continue
            # Given back or taken over. Two failures are needed, because one may be temporary.
            unheard = 0 if answer["rc"] == 0 else unheard + 1
            if unheard > 1:
                return

    def _me(self, purpose: str) -> dict[str, Any]:
        # Tasks run in child processes of ansible-playbook.
        pid = os.getppid()
        here, begun = machine(), started(pid)
        return {
            "id": f"{here} {pid} {begun}",
            "user": getpass.getuser(),
            "host": socket.gethostname(),
            "machine": here,
            # This lock is renewed, so it may expire.
            "renewed": True,
            "pid": pid,
            "started": begun,
            "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            "purpose": purpose,
        }

    def _module(self, task_vars: Any, **arguments: Any) -> dict[str, Any]:
        return self._execute_module(
            module_name="lock_file", module_args=arguments, task_vars=task_vars
        )
