# SPDX-License-Identifier: Apache-2.0
"""How Sphinx builds the documentation."""

from __future__ import annotations

from importlib import metadata

from docutils.nodes import Node
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from hybrid_messaging.service_configs.codes import CODES

project = "hybrid-messaging"
author = "hybrid-messaging developers"
copyright = "hybrid-messaging developers"
release = version = metadata.version("hybrid-messaging")

extensions = ["reno.sphinxext"]
exclude_patterns: list[str] = []
# a reference that leads nowhere is a warning, and warnings fail the build
nitpicky = True

# the report of a benchmark, a page of its own
html_extra_path = ["_extra"]
html_theme = "alabaster"
html_theme_options = {
    "description": "RPC over a direct transport, notifications over a queueing one",
    "fixed_sidebar": True,
    "page_width": "1080px",
}
html_show_sourcelink = False


class Problems(SphinxDirective):
    """``.. problems::``, the table of what `check` can find."""

    def run(self) -> list[Node]:
        """Make the table."""
        rows = [("code", "severity", "meaning", "cure", "source")]
        rows += [
            (f"``{name}``", code.severity.value, code.meaning, code.cure, code.source)
            for name, code in CODES.items()
        ]
        lines = [
            ".. list-table::",
            "   :header-rows: 1",
            "   :widths: 22 8 34 24 12",
            "",
        ]
        for first, *others in rows:
            lines += [f"   * - {first}", *(f"     - {text}" for text in others)]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("problems", Problems)
