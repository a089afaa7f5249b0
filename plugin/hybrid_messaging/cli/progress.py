# SPDX-License-Identifier: Apache-2.0
"""Lines for whoever waits for a command."""

from __future__ import annotations

from collections.abc import Callable

from cliff.app import App

from hybrid_messaging.cli.visible import control


def printer(app: App) -> Callable[[str], None]:
    """Return what writes a line to standard error, unless ``--quiet`` is given."""

    def show(line: str) -> None:
        if app.options.verbose_level > 0:
            print(line, file=app.stderr, flush=True)

    return show


def transient(app: App, line: str) -> None:
    """Show a line on a terminal until the next one takes its place; '' removes it."""
    if app.options.verbose_level > 0 and app.stderr.isatty():
        control(app.stderr, "\r\x1b[K")
        app.stderr.write(line)
        app.stderr.flush()
