"""Paths in an app's container that no volume or writable folder may hide."""

# A volume at one of them would hide files of the image.
TAKEN_PATHS = {
    *("/", "/app", "/app/src", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/opt"),
    *("/opt/flask-vps", "/opt/project", "/opt/venv", "/proc", "/run", "/sbin", "/sockets"),
    *("/sys", "/usr", "/var"),
    "/tmp",  # noqa: S108
}
TAKEN_TREES = (
    *("/dev/", "/opt/flask-vps/", "/opt/project/", "/opt/venv/", "/proc/", "/run/secrets/"),
    *("/sockets/", "/sys/"),
)


def is_taken(path: str) -> bool:
    """Tell whether the image or the project needs a path."""
    # The instance folder of an installed app.
    is_instance = path.startswith("/opt/venv/var/")
    return path in TAKEN_PATHS or (path.startswith(TAKEN_TREES) and not is_instance)
