"""Rules for the numbers of an app that must fit together: processes, memory and uploads."""

from typing import Any

from module_utils.app import setting

from checks.report import Finding

# What a process of a small Flask app needs, in MiB; most need more.
PROCESS_MB = 25
# More threads than a container can be given sensibly.
MOST_THREADS = 2000


def check_capacity(app: dict[str, Any], where: str, app_mb: Any = 512) -> list[Finding]:
    """
    Check the numbers of one entry against each other.

    Parameters
    ----------
    app : dict
        The entry.
    where : str
        How a finding names it.
    app_mb : Any, optional
        Memory of an app without ``memory_mb``, in MiB.

    Returns
    -------
    list of Finding
        Problems and warnings.
    """
    numbers = {
        key: _number(setting(app, key))
        for key in ("processes", "threads", "upload_mb", "memory_mb")
    }
    memory = numbers["memory_mb"] or _number(app_mb)
    processes, threads = numbers["processes"], numbers["threads"]
    found = []
    if processes * threads > MOST_THREADS:
        wrong = f"with {threads} threads each makes {processes * threads} threads"
        fix = f"Keep processes times threads below {MOST_THREADS}"
        found.append(Finding(f"{where}.processes", wrong, fix, processes))
    if memory and processes * PROCESS_MB > memory:
        need = processes * PROCESS_MB
        wrong = f"needs more than {need} MB of memory, but memory_mb is {memory}"
        fix = "Lower processes (threads need less memory), or raise memory_mb"
        found.append(Finding(f"{where}.processes", wrong, fix, processes, warning=True))
    upload = numbers["upload_mb"]
    if memory and upload > memory // 2:
        wrong = (
            f"is large for memory_mb {memory}: bodies are buffered on the disk, but an app that "
            "reads a whole body or file at once is killed"
        )
        fix = "Let the app save files in parts (FileStorage.save does), or raise memory_mb"
        found.append(Finding(f"{where}.upload_mb", wrong, fix, upload, warning=True))
    return found


def _number(value: Any) -> int:
    # The type check reports other values.
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdigit() else 0
