"""A callback that kills ansible-playbook where a task begins, as a power cut would."""

import os
import signal
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: kill
type: aggregate
short_description: Kill the run at a task
description:
  - KILL_AT_TASK in the environment is the number of the task, counted from 1, or part of its name.
  - TASKS_FILE names a file that gets the name of each task that begins.
"""


class CallbackModule(CallbackBase):
    """Count the tasks that begin."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kill"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.count = 0
        self.at = os.environ.get("KILL_AT_TASK", "")

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Note the task, and end where it was asked."""
        self.count += 1
        if file := os.environ.get("TASKS_FILE"):
            with open(file, "a") as out:  # noqa: PTH123
                out.write(task.get_name() + "\n")
        if self.at == str(self.count) or (self.at and self.at in task.get_name()):
            os.kill(os.getpid(), signal.SIGKILL)
