"""A callback that notes when each task begins, and kills the run at one of them when asked."""

import os
import signal
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: tasks
type: aggregate
short_description: Note the tasks of a run, and kill it at one of them
description:
  - TASKS_FILE in the environment names a file that gets a line per task, its time and its name.
  - KILL_AT_TASK is the number of the task to kill at, counted from 1, or part of its name.
"""


class CallbackModule(CallbackBase):
    """Count the tasks that begin."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "tasks"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.count = 0
        self.at = os.environ.get("KILL_AT_TASK", "")

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Note the task, and end where it was asked."""
        self.count += 1
        name = task.get_name()
        with open(os.environ["TASKS_FILE"], "a") as file:  # noqa: PTH123
            file.write(f"{time.time()}\t{name}\n")
        if self.at == str(self.count) or (self.at and self.at in name):
            os.kill(os.getpid(), signal.SIGKILL)
