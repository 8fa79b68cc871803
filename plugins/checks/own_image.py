"""Rules for an app with an image of its own: a Dockerfile, or an image that is built elsewhere."""

import re
from typing import Any

from module_utils.app import FILE_VOLUME, has_own_image, setting, volume_path
from module_utils.services import is_true

from checks.report import Finding
from checks.reserved import is_taken

# Keys that need another one.
OF_DOCKERFILE = ("build_args", "build_target")
OF_SOURCE = (
    *("source", "version", "folder", "dockerfile", "static", "packages", "build_packages"),
    *("python", "requirements", "extras", "groups", "build", "ssh_agent"),
)
ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SECRET = re.compile(r"(password|passwd|secret|token|api_?key|credential|private)", re.IGNORECASE)
STAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# https://github.com/distribution/reference/blob/main/reference.go
IMAGE = re.compile(
    r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d+)?/)?"
    r"[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*)*"
    r"(?P<tag>:[\w][\w.-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?"
)
USER = re.compile(r"\d+(:\d+)?")
# The user IDs that apps get, see the module `app_uid`.
ASSIGNED = range(20000, 30000)


def check_own_image(app: dict[str, Any], where: str) -> list[Finding]:
    """Check the keys for an app's own image, and those that weaken its container."""
    found = [
        Finding(f"{where}.{key}", "has no effect without dockerfile", "Remove it", warning=True)
        for key in OF_DOCKERFILE
        if app.get(key) and (not app.get("dockerfile") or app.get("image"))
    ]
    found += _image(app, where) + _arguments(app, where)
    target = app.get("build_target")
    if target not in (None, "") and not STAGE.fullmatch(str(target)):
        fix = "Write the name of a stage, as in `FROM python AS stage`"
        found.append(Finding(f"{where}.build_target", "is not a valid stage", fix, target))
    return found + _user(app, where) + _writable(app, where)


def _image(app: dict[str, Any], where: str) -> list[Finding]:
    image, spot = app.get("image"), f"{where}.image"
    if image in (None, "") or isinstance(image, dict | list):
        return []
    found = [
        Finding(f"{where}.{key}", "has no effect with image", "Remove it, or image", warning=True)
        for key in OF_SOURCE
        if app.get(key) and key != "static"
    ]
    if app.get("static"):
        wrong = "is in no source that nginx could serve, because image is set"
        fix = "Remove it: the app serves its static files itself"
        found.append(Finding(f"{where}.static", wrong, fix, app["static"]))
    match = IMAGE.fullmatch(str(image))
    if not match:
        fix = "Write it like registry.example.org/team/shop:1.4"
        found.append(Finding(spot, "is not a valid name of an image", fix, image))
    elif not match["digest"] and match["tag"] in (None, ":latest"):
        wrong = "names no version, so each deploy takes whatever the registry has then"
        fix = "Write a tag other than latest, or a digest (@sha256:...)"
        found.append(Finding(spot, wrong, fix, image, warning=True))
    return found


def _arguments(app: dict[str, Any], where: str) -> list[Finding]:
    arguments, found = app.get("build_args"), []
    for name, value in arguments.items() if isinstance(arguments, dict) else ():
        spot = f"{where}.build_args.{name}"
        if not isinstance(name, str) or not ARGUMENT.fullmatch(name):
            fix = "Use letters, digits and underscores, as in the ARG of the Dockerfile"
            found.append(Finding(spot, "is not a valid name of a build argument", fix))
        elif name.startswith("BUILDKIT_"):
            wrong = "is an option of the builder, which keeps the builds of apps apart"
            found.append(Finding(spot, wrong, "Remove it"))
        elif not isinstance(value, str | int) or isinstance(value, bool):
            # Of 3.10, YAML makes 3.1; of true, True.
            fix = "Write text, in quotes"
            found.append(Finding(spot, "is not text, and YAML may have changed it", fix))
        elif SECRET.search(name):
            wrong = "looks like a secret, and build arguments stay readable in the image"
            fix = "Give the build its secret in build_secrets, or the app in vault_app_secrets"
            found.append(Finding(spot, wrong, fix, warning=True))
    return found


def _user(app: dict[str, Any], where: str) -> list[Finding]:
    user, spot = app.get("user"), f"{where}.user"
    if user in (None, "") or isinstance(user, dict | list | bool):
        return []
    if not has_own_image(app):
        wrong = "works only with dockerfile or image: other apps run as a user ID of their own"
        return [Finding(spot, wrong, "Remove it", user)]
    if not USER.fullmatch(str(user)):
        fix = "Write numbers, such as '1000' or '1000:1000': `docker run --rm IMAGE id` shows them"
        return [Finding(spot, "is not a user ID", fix, user)]
    number = int(str(user).partition(":")[0])
    if number in ASSIGNED:
        wrong = "is in the range from which each app gets an ID that no other app has"
        return [Finding(spot, wrong, "Remove it, or choose another ID", user)]
    if number == 0:
        wrong = (
            "lets the app run as root of its container, with the capabilities to change owners and "
            "users: a fault in the app or the kernel reaches further"
        )
        fix = "Remove it if the image works without root"
    else:
        wrong = "may be the ID of another app's container, or of a person on the server"
        fix = "Remove it if the image works with any ID: each app gets one that no other app has"
    return [Finding(spot, wrong, fix, user, warning=True)]


def _writable(app: dict[str, Any], where: str) -> list[Finding]:
    found, volumes = [], app.get("volumes")
    kept = {volume_path(path) for path in volumes or [] if isinstance(path, str)} - {None}
    if not is_true(setting(app, "read_only"), default=True):
        wrong = (
            "lets whoever gets into the app change its code, and what it writes outside of volumes "
            "is lost when the container is replaced"
        )
        fix = "Name the folders in writable or volumes instead"
        found.append(Finding(f"{where}.read_only", wrong, fix, app["read_only"], warning=True))
    for path in sorted(kept) if has_own_image(app) else []:
        if FILE_VOLUME.fullmatch(path):
            wrong = "looks like a file, but is mounted as a folder in an image of the app's own"
            fix = "Name the folder of the file, if the image has nothing else in it"
            found.append(Finding(f"{where}.volumes", wrong, fix, path, warning=True))
    paths = app.get("writable")
    for path in paths if isinstance(paths, list) else []:
        if not isinstance(path, str):
            continue
        spot, plain = f"{where}.writable", volume_path(path)
        if plain is None and path.strip("/"):
            wrong = "must be an absolute path of letters, digits, _ . and -"
            fix = "Write a path in the container, such as /app/var"
            found.append(Finding(spot, wrong, fix, path))
        elif plain is None or is_taken(plain):
            fix = "Name the folder that the app writes to, below this one"
            found.append(Finding(spot, "would hide what the container needs there", fix, path))
        elif plain in kept:
            fix = "Remove it from one of them: volumes keep their files, writable does not"
            found.append(Finding(spot, "is in volumes as well", fix, path))
        else:
            wrong = (
                "is empty at each start, hides what the image has there, and counts as memory of "
                "the app"
            )
            fix = "Use volumes instead for files to keep"
            found.append(Finding(spot, wrong, fix, path, warning=True))
    return found
