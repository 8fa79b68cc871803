"""A personal portfolio site.

`create_app` builds an application; `app` is the one that servers load
(``my_flask_webpage:app`` for uWSGI and for ``flask run``).
"""

import sys

from my_flask_webpage.config import ConfigError
from my_flask_webpage.content import ContentError
from my_flask_webpage.factory import create_app

__all__ = ["app", "create_app"]

# uWSGI looks the callable up in the module's dictionary, so it has to be made at import time:
# a lazy module-level __getattr__ is not seen. A wrong setting ends the process with one line
# that says what to do, because a traceback would bury it.
try:
    app = create_app()
except (ConfigError, ContentError) as error:
    sys.exit("\n".join(f"my_flask_webpage: {line}" for line in str(error).splitlines()))
