"""``python -m my_flask_webpage.setup.init_db``, for places without the ``flask`` command."""

from flask.cli import ScriptInfo

from my_flask_webpage import app
from my_flask_webpage.setup.database import init_db_command

if __name__ == "__main__":
    init_db_command.main(
        prog_name="python -m my_flask_webpage.setup.init_db",
        obj=ScriptInfo(create_app=lambda: app),
    )
