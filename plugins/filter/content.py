"""Filters that derive a short digest from content, for names that change with it."""

import hashlib
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError


def content_digest(parts: list[str], length: int = 12) -> str:
    """Digest files, folders and text to a short name that changes with them."""
    digest = hashlib.sha256()
    for part in parts:
        if not part.startswith("/"):
            _feed(digest, "text", part.encode())
            continue
        path = Path(part)
        if not path.exists():
            raise AnsibleFilterError(f"content_digest: {part} does not exist")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if not file.is_file() or "__pycache__" in file.parts:
                continue
            mode = "x" if file.stat().st_mode & 0o100 else "-"
            _feed(digest, f"{file.relative_to(path)} {mode}", file.read_bytes())
    return digest.hexdigest()[:length]


def _feed(digest: "hashlib._Hash", name: str, content: bytes) -> None:
    # Lengths keep ("ab", "c") apart from ("a", "bc").
    digest.update(f"{name}\0{len(content)}\0".encode())
    digest.update(content)


class FilterModule:
    """Give the filters to Ansible."""

    def filters(self) -> dict[str, Any]:
        """Name the filters."""
        return {"content_digest": content_digest}
