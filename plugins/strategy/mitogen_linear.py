"""Ansible's usual strategy with Mitogen underneath, which keeps one Python process on the server.

An option for those who deploy often, and what most scenarios are run with; Ansible's own is the
default. The name is Mitogen's, so what is written about it elsewhere holds here.
"""

from typing import Any

try:
    import ansible_mitogen.affinity
    import ansible_mitogen.loaders
    import ansible_mitogen.strategy
except ImportError as error:
    from ansible.errors import AnsibleError

    raise AnsibleError(
        "ANSIBLE_STRATEGY=mitogen_linear needs Mitogen: make venv, or pip install mitogen."
    ) from error

# Mitogen would bind its processes, and what they start, to one processor each. Where there are two,
# one is left for almost all of them.
ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()


class StrategyModule(
    ansible_mitogen.strategy.StrategyMixin,
    ansible_mitogen.loaders.strategy_loader.get("linear", class_only=True),
):
    """The linear strategy, with every task in the foreground."""

    def _queue_task(self, host: Any, task: Any, *arguments: Any) -> None:
        # A background task whose module is a collection's waits forever for the first import.
        task.async_val = 0
        super()._queue_task(host, task, *arguments)
