"""Render nginx's configuration from virtual hosts."""

import re
from pathlib import Path

import jinja2

from .model import Proxy


def render(template: Path, proxy: Proxy) -> str:
    """Render nginx's configuration.

    Parameters
    ----------
    template : Path
        A Jinja template that sees Proxy's fields.
    proxy : Proxy
        What to render.

    Raises
    ------
    jinja2.TemplateError, OSError
        If the template is broken or missing.
    """
    # No escaping: it is not HTML, and settings.py has checked every value.
    environment = jinja2.Environment(  # noqa: S701
        loader=jinja2.FileSystemLoader(template.parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    # nginx's include takes a shell pattern, and a wildcard host's file has a star.
    environment.filters["glob"] = lambda path: re.sub(r"([*?\[\]])", r"\\\1", path)
    text = environment.get_template(template.name).render(vars(proxy))
    return re.sub(r"\n{3,}", "\n\n", text)
