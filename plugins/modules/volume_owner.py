#!/usr/bin/python
"""Ansible module: give the files of a volume to another user while others still write."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: volume_owner
short_description: Change the owner of a volume's files while others still write to them
description:
  - Gives a path and everything below it to one user.
  - With O(shared_with), other users keep the access of an owner, by access control lists on what is
    there and on what is made there later. Without it these lists are removed again, and the former
    permissions are restored.
  - No symbolic link is followed, because a hostile process may change files below the path at the
    same time.
  - The path itself is changed last. If it has the right owner already and O(shared_with) is empty,
    nothing below it is read.
options:
  path:
    description: A folder or a file.
    type: path
    required: true
  owner:
    description: User and group ID of the new owner.
    type: int
    required: true
  owner_stays:
    description:
      - Whether the present owner stays for now. The future owner has to be in O(shared_with) then.
    type: bool
    default: false
  shared_with:
    description: IDs of users who get the access of an owner.
    type: list
    elements: int
    default: []
  formerly:
    description: ID of the user whose access control lists are removed. Lists of others stay.
    type: int
    required: true
  seconds:
    description:
      - How long it may take, since a hostile process can make folders faster than they are read.
        After that it fails; if only lists of access are left to remove, it warns.
    type: float
    default: 900
author: flask-vps maintainers
notes:
  - On a file system without access control lists the owner is changed immediately, and a warning
    says who cannot write any more.
"""

EXAMPLES = r"""
- name: Hand over the volume while an old process still writes to it
  volume_owner:
    path: /var/lib/docker/volumes/shop.data/_data
    owner: 20000
    shared_with: [20000, 10001]
    formerly: 10001
"""

RETURN = r"""
handed:
  description: Number of files and folders that were changed.
  type: int
  returned: always
"""

ACCESS = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"
# https://man7.org/linux/man-pages/man5/acl.5.html; the layout is linux/posix_acl_xattr.h's.
VERSION = 2
USER_OBJ = 0x01
USER = 0x02
GROUP_OBJ = 0x04
MASK = 0x10
OTHER = 0x20
NOBODY = 0xFFFFFFFF
UNSUPPORTED = (errno.ENOTSUP, errno.EOPNOTSUPP)
MISSING = (errno.ENODATA, *UNSUPPORTED)

Entry = tuple[int, int, int]


class TooLongError(Exception):
    """The time limit was reached."""


def pack(entries: list[Entry]) -> bytes:
    """Encode a list of (tag, permissions, ID) for the kernel."""
    return struct.pack("<I", VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def unpack(raw: bytes) -> list[Entry]:
    """Decode what `pack` wrote."""
    return list(struct.iter_unpack("<HHI", raw[4:]))


def shared(mode: int, group: int, users: list[int]) -> list[Entry]:
    """
    Build the access control list of a file or folder that several users share.

    Parameters
    ----------
    mode : int
        The permissions.
    group : int
        Permissions of the group. With an existing list, `mode` has the mask in their place.
    users : list of int
        Users who get the owner's permissions.

    Returns
    -------
    list of (int, int, int)
        Entries in the order that the kernel requires.
    """
    own = mode >> 6 & 7
    return [
        (USER_OBJ, own, NOBODY),
        *((USER, own, user) for user in sorted(users)),
        (GROUP_OBJ, group, NOBODY),
        (MASK, own | group, NOBODY),
        (OTHER, mode & 7, NOBODY),
    ]


def inherited(mode: int, group: int, users: list[int]) -> list[Entry]:
    """Build a folder's default list, which replaces the umask of 022 for files made in it."""
    return shared(mode & ~0o002 | 0o700, group & ~0o2, users)


class Handover:
    """A change of the owner of a folder with all its files."""

    def __init__(
        self,
        owner: int,
        users: list[int],
        formerly: int,
        owner_stays: bool = False,
        seconds: float = 900,
    ) -> None:
        self.owner = owner
        self.formerly = formerly
        self.users = users
        self.owner_stays = owner_stays
        self.deadline = time.monotonic() + seconds
        self.changed = 0
        self.without_lists = False

    def tree(self, path: Path) -> None:
        """Change the owner of a file, or of a folder with everything below it."""
        top = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        try:
            if not self.users and self._is_done(top):
                return
            if stat.S_ISDIR(os.fstat(top).st_mode):
                for folder in folders(path):
                    for name in os.listdir(folder):  # noqa: PTH208  # it is a descriptor
                        self._named(name, folder)
            self._handle(top)
        finally:
            os.close(top)

    def _named(self, name: str, folder: int) -> None:
        if time.monotonic() > self.deadline:
            raise TooLongError
        # Files may disappear meanwhile.
        with contextlib.suppress(FileNotFoundError):
            one = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
            try:
                found = os.fstat(one)
                if not stat.S_ISLNK(found.st_mode):
                    self._handle(one)
                elif not self.owner_stays and found.st_uid != self.owner:
                    os.chown(name, self.owner, self.owner, dir_fd=folder, follow_symlinks=False)
                    self.changed += 1
            finally:
                os.close(one)

    def _is_done(self, one: int) -> bool:
        _, *owners, access, default = _state(one)
        return owners == [self.owner, self.owner] and not self._ours(access, default)

    def _ours(self, *lists: bytes) -> bool:
        return any(
            (tag, user) == (USER, self.formerly) for one in lists for tag, _, user in unpack(one)
        )

    def _handle(self, one: int) -> None:
        """Change one open file or folder, through its descriptor only."""
        before = _state(one)
        path, mode = _path(one), stat.S_IMODE(before[0])
        # With a list, the mode has the mask in place of the group's permissions.
        group = next((p for tag, p, _ in unpack(before[3]) if tag == GROUP_OBJ), mode >> 3 & 7)
        if self.users:
            self._share(path, mode, group, stat.S_ISDIR(before[0]))
        if not self.owner_stays or self.without_lists:
            os.chown(path, self.owner, self.owner)
        if not self.users and self._ours(*before[3:]):
            for name, value in zip((ACCESS, DEFAULT), before[3:], strict=True):
                if value:
                    os.removexattr(path, name)
            Path(path).chmod(mode & ~0o070 | group << 3)
        self.changed += _state(one) != before

    def _share(self, path: str, mode: int, group: int, is_folder: bool) -> None:
        try:
            os.setxattr(path, ACCESS, pack(shared(mode, group, self.users)))
            if is_folder:
                os.setxattr(path, DEFAULT, pack(inherited(mode, group, self.users)))
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            self.without_lists = True


def _state(one: int) -> tuple[int, int, int, bytes, bytes]:
    found, path = os.fstat(one), _path(one)
    return (
        found.st_mode,
        found.st_uid,
        found.st_gid,
        _read(path, ACCESS),
        _read(path, DEFAULT) if stat.S_ISDIR(found.st_mode) else b"",
    )


def folders(top: Path) -> Iterator[int]:
    """
    Open a folder and all below it, one after another.

    Parameters
    ----------
    top : pathlib.Path
        The folder.

    Yields
    ------
    int
        A file descriptor, open until the next iteration. Each is opened step by step from the first
        folder, so that links are not followed and paths may have any length.
    """
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        parts = waiting.pop()
        try:
            folder = _descend(top, parts)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                continue
            raise
        try:
            with os.scandir(folder) as entries:
                waiting += [(*parts, e.name) for e in entries if e.is_dir(follow_symlinks=False)]
            yield folder
        finally:
            os.close(folder)


def _descend(top: Path, parts: tuple[str, ...]) -> int:
    how = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    folder = os.open(top, how)
    for part in parts:
        try:
            inner = os.open(part, how, dir_fd=folder)
        finally:
            os.close(folder)
        folder = inner
    return folder


def _path(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _read(path: str, name: str) -> bytes:
    try:
        return os.getxattr(path, name)
    except OSError as error:
        if error.errno not in MISSING:
            raise
        return b""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "owner": {"type": "int", "required": True},
            "owner_stays": {"type": "bool", "default": False},
            "shared_with": {"type": "list", "elements": "int", "default": []},
            "formerly": {"type": "int", "required": True},
            "seconds": {"type": "float", "default": 900},
        },
    )
    options = module.params
    handover = Handover(
        options["owner"],
        options["shared_with"],
        options["formerly"],
        options["owner_stays"],
        options["seconds"],
    )
    path = Path(options["path"])
    try:
        handover.tree(path)
    except TooLongError:
        late = (
            f"{path} was not handed over within {options['seconds']:.0f} s: it has too many files, "
            "or the app keeps creating more. Stop the app's containers with `docker stop`, "
            "and deploy again."
        )
        if options["shared_with"] or path.lstat().st_uid != options["owner"]:
            module.fail_json(msg=late, handed=handover.changed)
        module.warn(late)
    if handover.without_lists:
        module.warn(
            f"The file system of {path} has no access control lists: until the old release has "
            "ended it cannot write to files that the new one owns."
        )
    module.exit_json(changed=handover.changed > 0, handed=handover.changed)


if __name__ == "__main__":
    main()
