# SPDX-License-Identifier: Apache-2.0
"""Write the engines' configuration files from the templates in ``files/templates``."""

from __future__ import annotations

import functools
from typing import Any

import jinja2

from hybrid_messaging import resources


def render(template: str, **values: Any) -> str:
    """Fill in a template.

    :param template: its name in ``files/templates``, without ``.j2``
    :raises jinja2.UndefinedError: if it uses a value that is not given
    """
    return _environment().get_template(f"{template}.j2").render(**values)


@functools.cache
def _environment() -> jinja2.Environment:
    # configuration files are no HTML: nothing is escaped
    return jinja2.Environment(  # noqa: S701
        loader=jinja2.FileSystemLoader(resources.TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
