"""Rules for ``files``, which an app reads beside its code. A finding never contains a content."""

from pathlib import PurePosixPath
from typing import Any

from module_utils.app import has_own_image, volume_path

from checks.report import UNKNOWN, Finding, type_name

BLOCK = "Write the text as a block: the path, a colon and |, then the indented lines"
# Mounts there would hide what the container needs.
TAKEN = (
    *("/bin/", "/boot/", "/dev/", "/lib/", "/lib64/", "/opt/flask-vps/", "/opt/project/", "/proc/"),
    "/run/secrets/",
    *("/sbin/", "/sockets/", "/sys/", "/usr/bin/", "/usr/lib/", "/usr/sbin/"),
    *("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"),
    *("/etc/uwsgi.ini", "/etc/gunicorn.conf.py", "/usr/local/bin/", "/opt/venv/bin/"),
)


def check_files(app: dict[str, Any], where: str) -> list[Finding]:
    """Check the paths and the kinds of content in ``files`` of one entry."""
    files = app.get("files")
    found, seen = [], {}
    for path, content in files.items() if isinstance(files, dict) else ():
        spot = f"{where}.files.{path}"
        target = volume_path(str(PurePosixPath("/app") / str(path)))
        if not isinstance(path, str) or target is None or path.endswith("/"):
            fix = "Write a path below the app's folder, such as instance/config.py, without .."
            found.append(Finding(spot, "is not a valid path", fix))
        elif target.startswith(TAKEN) or target in ("/app", "/tmp", "/etc"):  # noqa: S108
            fix = "Choose another place, such as instance/config.py"
            found.append(Finding(spot, "is reserved in the container", fix))
        elif has_own_image(app) and not path.startswith("/"):
            wrong = "is relative, but the folder of an app with its own image is not known"
            found.append(Finding(spot, wrong, "Write an absolute path"))
        elif seen.setdefault(target, path) != path:
            found.append(Finding(spot, f"is the same file as {seen[target]}", "Remove one of them"))
        elif target in _volumes(app):
            wrong = "is also one of volumes"
            found.append(Finding(spot, wrong, "Remove one of them: the app cannot change files"))
        found += _content(content, spot)
    return found


def _content(content: Any, spot: str) -> list[Finding]:
    if content is UNKNOWN:
        return []
    if content is None or content == "":
        return [Finding(spot, "is empty", BLOCK)]
    if not isinstance(content, str):
        wrong = (
            f"is not text but {type_name(content)}, so the app would not get what is written here"
        )
        return [Finding(spot, wrong, BLOCK)]
    if "\0" in content:
        return [Finding(spot, "contains a NUL character", "Only text files can be brought")]
    return []


def _volumes(app: dict[str, Any]) -> list[str | None]:
    volumes = app.get("volumes")
    return [volume_path(v) for v in volumes if isinstance(v, str)] if volumes else []
