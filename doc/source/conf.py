# SPDX-License-Identifier: Apache-2.0
"""How Sphinx builds the documentation."""

from __future__ import annotations

from importlib import metadata

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
