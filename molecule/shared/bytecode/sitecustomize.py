"""Python runs this at its start where the folder is on its path: on the controller of the tests."""

import kept_bytecode  # noqa: F401
