"""The migrations that this release contains."""

from functools import cache
from pathlib import Path

from alembic.script import ScriptDirectory

MIGRATIONS = Path(__file__).parent / "migrations"


@cache
def known_revisions() -> tuple[str, ...]:
    """List the revisions of this release's migrations, newest first."""
    script = ScriptDirectory(str(MIGRATIONS))
    return tuple(step.revision for step in script.walk_revisions())
