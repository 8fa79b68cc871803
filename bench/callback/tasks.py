"""A callback that records when each task begins, and can kill the run at one of them."""

import os
import signal
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: tasks
type: aggregate
short_description: Record when the tasks of a run begin, and kill the run at one of them
description:
  - Each task appends a line with its time and name to the file in the environment's TASKS_FILE.
  - KILL_AT_TASK is the number of the task to kill at, counted from 1, or part of its name.
"""


class CallbackModule(CallbackBase):
    """Records and counts the tasks."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "tasks"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.count = 0
        self.at = os.environ.get("KILL_AT_TASK", "")

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Record the task, and kill the run if this is the task in KILL_AT_TASK."""
        self.count += 1
        name = task.get_name()
        with open(os.environ["TASKS_FILE"], "a") as file:  # noqa: PTH123
            file.write(f"{time.time()}\t{name}\n")
        if self.at == str(self.count) or (self.at and self.at in name):
            os.kill(os.getpid(), signal.SIGKILL)
