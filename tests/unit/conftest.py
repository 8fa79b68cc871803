"""Let tests import Ansible plugins as plain modules."""

import sys
from pathlib import Path

PLUGINS = Path(__file__).parents[2] / "plugins"
sys.path[:0] = [str(PLUGINS), str(PLUGINS / "filter"), str(PLUGINS / "modules")]
