"""Action that finds out who can log in to a server."""

import sys
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

# Ansible loads each plugin alone; the code they share is in the folders beside theirs.
sys.path.append(str(Path(__file__).parents[1]))
from checks.ssh import ssh_advice

SSH = ("ssh", "smart", "ansible.builtin.ssh")
PASSWORDS = ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password")


class ActionModule(ActionBase):
    """Try users and ports one after another, with keys only, and name the first pair that works."""

    _supports_check_mode = True
    _requires_connection = False
    _VALID_ARGS = frozenset(("users", "ports", "command", "fresh"))

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action."""
        result = super().run(tmp, task_vars)
        given = dict(task_vars or {})
        for name in PASSWORDS:
            given.pop(name, None)
        if self._templar.template(given.get("ansible_connection", "ssh")) not in SSH:
            wrong = "Ansible does not reach the server over SSH"
            errors = [
                {"user": "", "port": 0, "error": wrong, "advice": "Set ansible_connection: ssh"}
            ]
            return {**result, "user": "", "port": 0, "errors": errors}
        arguments = self._task.args
        result |= {"user": "", "port": 0, "errors": []}
        for port in arguments["ports"]:
            for user in arguments["users"]:
                more = {"ansible_user": user, "ansible_port": int(port)}
                if arguments.get("fresh"):
                    extra = self._templar.template(given.get("ansible_ssh_extra_args", ""))
                    alone = "-o ControlMaster=no -o ControlPath=none"
                    more["ansible_ssh_extra_args"] = f"{alone} {extra}"
                if error := self._try(given | more, arguments.get("command", "true")):
                    advice = ssh_advice(error, str(given.get("ansible_host", "")), str(port))
                    failed = {"user": user, "port": int(port), "error": error, "advice": advice}
                    result["errors"].append(failed)
                else:
                    return {**result, "user": user, "port": int(port)}
        return result

    def _try(self, variables: dict[str, Any], command: str) -> str:
        """Log in and run a command; return why that failed."""
        connection = self._shared_loader_obj.connection_loader.get("ssh", self._play_context)
        names = constants.config.get_plugin_vars("connection", "ssh")
        options = {n: self._templar.template(variables[n]) for n in names if n in variables}
        connection.set_options(var_options=options)
        try:
            code, output, errors = connection.exec_command(command, sudoable=False)
        except AnsibleConnectionFailure as error:
            return str(error)
        finally:
            connection.close()
        return "" if code == 0 else (output + errors).decode(errors="replace").strip() or "failed"
