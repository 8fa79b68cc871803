"""Which shape of the database this release works with."""

from functools import cache
from pathlib import Path

from alembic.script import ScriptDirectory

MIGRATIONS = Path(__file__).parent / "migrations"


@cache
def known_revisions() -> tuple[str, ...]:
    """List the names of this release's migrations, newest first."""
    script = ScriptDirectory(str(MIGRATIONS))
    return tuple(step.revision for step in script.walk_revisions())
