# SPDX-License-Identifier: Apache-2.0
"""Where the files are that come with the package: the directory ``files``."""

from __future__ import annotations

from pathlib import Path

FILES = Path(__file__).parent / "files"
#: Jinja2 templates; the names of the files end with ``.j2``.
TEMPLATES = FILES / "templates"
