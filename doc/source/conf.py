# SPDX-License-Identifier: Apache-2.0
"""How Sphinx builds the documentation."""

from __future__ import annotations

import argparse
import socket
import sys
import warnings
from importlib import metadata

from cliff import sphinxext
from docutils import nodes
from docutils.nodes import Node
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinxcontrib.svgbob import SvgbobDirective

from hybrid_messaging import modes
from hybrid_messaging.bench import scenarios
from hybrid_messaging.engines import kinds
from hybrid_messaging.service_configs.codes import CODES

# oslo.messaging imports eventlet where it finds it
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")

project = "hybrid-messaging"
author = "hybrid-messaging developers"
copyright = "hybrid-messaging developers"
release = version = metadata.version("hybrid-messaging")

extensions = [
    "cliff.sphinxext",
    "oslo_config.sphinxext",
    "reno.sphinxext",
    "sphinxcontrib.svgbob",
]
exclude_patterns: list[str] = []
# `--option` in a help text is no dash
smartquotes_action = "qe"
# a reference that leads nowhere is a warning, and warnings fail the build
nitpicky = True

# the report of a benchmark, a page of its own
html_extra_path = ["_extra"]
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_theme = "alabaster"
html_theme_options = {
    "description": "RPC over a direct transport, notifications over a queueing one",
    "fixed_sidebar": True,
    "page_width": "1080px",
}
html_show_sourcelink = False

# every command that shows something has these; the page describes them once
autoprogram_cliff_ignored = [
    "--help",
    "--format",
    "--column",
    "--quote",
    "--noindent",
    "--max-width",
    "--fit-width",
    "--print-empty",
    "--prefix",
    "--sort-column",
    "--sort-ascending",
    "--sort-descending",
]
# defaults that the machine which builds this does not share with others
DEFAULTS = {
    socket.gethostname(): "HOST",
    sys.executable: "python3",
}


class CommandReference(sphinxext.AutoprogramCliffDirective):  # type: ignore[misc]
    """``.. autoprogram-cliff::``, with the defaults that help texts refer to."""

    def _drop_ignored_options(
        self, parser: argparse.ArgumentParser, ignored_opts: list[str]
    ) -> None:
        super()._drop_ignored_options(parser, ignored_opts)
        for action in parser._actions:
            if action.help:
                default = DEFAULTS.get(str(action.default), action.default)
                action.help %= {**vars(action), "default": default}


class Picture(SvgbobDirective):  # type: ignore[misc]
    """``.. svgbob::``, for pictures whose lines are box-drawing characters.

    svgbob would also take the ASCII characters in texts for lines.
    """

    TEXT = str.maketrans({"-": "\N{HYPHEN}", "/": "\N{DIVISION SLASH}"})

    def run(self) -> list[Node]:
        """Make the picture, in a box that can scroll."""
        self.content = [line.translate(self.TEXT) for line in self.content]
        return [nodes.container("", *super().run(), classes=["picture"])]


class Table(SphinxDirective):
    """A table that is made from data of the package."""

    columns: tuple[str, ...]
    widths: tuple[int, ...]

    def rows(self) -> list[tuple[str, ...]]:
        """The rows, in reStructuredText."""
        raise NotImplementedError

    def run(self) -> list[Node]:
        """Make the table."""
        lines = [
            ".. list-table::",
            "   :header-rows: 1",
            f"   :widths: {' '.join(map(str, self.widths))}",
            "",
        ]
        for first, *others in (self.columns, *self.rows()):
            lines += [f"   * - {first}", *(f"     - {text}" for text in others)]
        return self.parse_text_to_nodes("\n".join(lines))


class Problems(Table):
    """``.. problems::``, what `check` can find."""

    columns = ("code", "severity", "meaning", "cure", "source")
    widths = (22, 8, 34, 24, 12)

    def rows(self) -> list[tuple[str, ...]]:
        """One for each code."""
        return [
            (f"``{name}``", code.severity.value, code.meaning, code.cure, code.source)
            for name, code in CODES.items()
        ]


class SmokeChecks(Table):
    """``.. smoke-checks::``, what `smoke` tries."""

    columns = ("check", "shows that")
    widths = (20, 80)

    def rows(self) -> list[tuple[str, ...]]:
        """One for each check."""
        # here, as it imports oslo.messaging: see the filter above
        from hybrid_messaging.smoke.table import CHECKS

        return [
            (
                f"``{check.name}``",
                f"{'(``--disruptive``) ' if check.disruptive else ''}{check.shows}",
            )
            for check in CHECKS
        ]


class Modes(Table):
    """``.. modes::``, the mode table."""

    columns = ("mode", "RPC", "notifications")
    widths = (20, 40, 40)

    def rows(self) -> list[tuple[str, ...]]:
        """One for each mode."""
        return [
            (
                f"``{mode.name}``",
                self._side(mode.rpc, mode.rpc_engine),
                "the same server"
                if mode.shared
                else self._side(mode.notify, mode.notify_engine),
            )
            for mode in modes.load().values()
        ]

    @staticmethod
    def _side(transport: str, kind: str) -> str:
        if kind == modes.NO_ENGINE:
            return "a server that you name by its URL"
        return f"``{transport}://``, {kinds.get(kind).title}"


class Scenarios(Table):
    """``.. scenarios::``, what `bench` compares."""

    columns = ("scenario", "what it is", "mode", "options of its URLs")
    widths = (18, 34, 16, 32)

    def rows(self) -> list[tuple[str, ...]]:
        """One for each scenario."""
        return [
            (
                f"``{scenario.name}``",
                scenario.title,
                f"``{scenario.mode}``",
                "; ".join(
                    f"{role}: ``{' '.join(f'{k}={v}' for k, v in options.items())}``"
                    for role, options in (
                        ("RPC", scenario.rpc),
                        ("notifications", scenario.notify),
                    )
                    if options
                )
                or "none",
            )
            for scenario in scenarios.load().values()
        ]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("autoprogram-cliff", CommandReference, override=True)
    app.add_directive("svgbob", Picture, override=True)
    app.add_directive("problems", Problems)
    app.add_directive("smoke-checks", SmokeChecks)
    app.add_directive("modes", Modes)
    app.add_directive("scenarios", Scenarios)
