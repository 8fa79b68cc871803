"""A personal portfolio site.

`create_app` builds an application. `app` is the instance that servers load
(``my_flask_webpage:app`` for uWSGI and for ``flask run``).
"""

import sys

from my_flask_webpage.config import ConfigError
from my_flask_webpage.content import ContentError
from my_flask_webpage.factory import create_app

__all__ = ["app", "create_app"]

# Created at import time, because uWSGI looks the callable up in the module's dictionary and does
# not see a lazy module-level __getattr__. A wrong setting ends the process with a short message
# that says what to do, which a traceback would bury.
try:
    app = create_app()
except (ConfigError, ContentError) as error:
    sys.exit("\n".join(f"my_flask_webpage: {line}" for line in str(error).splitlines()))
