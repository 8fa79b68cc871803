"""Let tests import Ansible plugins as plain modules."""

import sys
from pathlib import Path

import ansible.module_utils

PLUGINS = Path(__file__).parents[2] / "plugins"
sys.path[:0] = [str(PLUGINS), str(PLUGINS / "filter"), str(PLUGINS / "modules")]
# What modules share; Ansible finds it by ansible.cfg.
ansible.module_utils.__path__.append(str(PLUGINS / "module_utils"))
