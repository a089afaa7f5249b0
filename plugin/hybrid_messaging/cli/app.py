# SPDX-License-Identifier: Apache-2.0
"""The command line: ``hybrid-messaging COMMAND``, a cliff application.

The commands are found by their entry points (``hybrid_messaging.cli``); the module
of the one that is run is imported. ``help`` and ``complete`` import them all: what
takes long to import is imported where it is used.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence

from cliff.app import App

from hybrid_messaging.cli.base import Commands
from hybrid_messaging.cli.visible import visible

# by verbose_level: 0 with --quiet, 1 with neither, 2 with --verbose
_CONSOLE_LEVELS = {0: logging.ERROR, 1: logging.WARNING, 2: logging.INFO}
# what cliff reads as numbers while it makes the parser of a command
_NUMBERS = ("CLIFF_MAX_TERM_WIDTH", "CLIFF_FIT_WIDTH")


class HybridMessaging(App):
    """The application; an error is one line, or a traceback with ``--debug``."""

    def __init__(self) -> None:
        super().__init__(
            description="RPC over a direct transport, notifications over a queueing "
            "one, for OpenStack.",
            version=importlib.metadata.version("hybrid-messaging"),
            command_manager=Commands("hybrid_messaging.cli"),
            stdout=visible(sys.stdout),
            stderr=visible(sys.stderr),
            # COMMAND --help is the command's
            deferred_help=True,
        )

    def configure_logging(self) -> None:
        """Show what libraries have to say with ``-v``, their warnings always."""
        super().configure_logging()
        console = logging.getLogger().handlers[-1]
        console.setLevel(_CONSOLE_LEVELS.get(self.options.verbose_level, logging.DEBUG))

    def get_fuzzy_matches(self, cmd: str) -> list[str]:
        """What may have been meant: of half a command, those that begin with it."""
        commands = self.command_manager.get_command_names()
        begun = sorted(name for name in commands if name.startswith(f"{cmd} "))
        return begun or super().get_fuzzy_matches(cmd)

    def interact(self) -> None:
        """Without a command, tell which ones there are."""
        self.run_subcommand(["help"])


def _drop_unusable() -> None:
    """Leave out variables of cliff's that would fail each command, --help included."""
    for name in _NUMBERS:
        text = os.environ.get(name, "0")
        if not re.fullmatch(r"\s*[+-]?[0-9]+\s*", text):
            del os.environ[name]
            print(f"ignored {name}: {text!r} is not a number", file=visible(sys.stderr))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    :returns: the exit code: 0 for success, 1 for an error, 2 for a command line
        that cannot be understood; some commands have more
    """
    _drop_unusable()
    # oslo.messaging imports eventlet where it finds it; users cannot change that
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    return HybridMessaging().run(list(sys.argv[1:] if argv is None else argv))
