# SPDX-License-Identifier: Apache-2.0
"""cliff's classes for commands, without what takes most of a short command's time.

That grows with what is installed: in the environment of all OpenStack services, it
is seconds.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterable, Sequence
from typing import Any

from cliff import command, commandmanager, lister, show
from stevedore.named import NamedExtensionManager

from hybrid_messaging.cli import defaults, interrupted


class Commands(commandmanager.CommandManager):
    """Finds commands; cliff's own imports the modules of all of them."""

    def load_commands(self, namespace: str) -> None:
        """Take the commands of a group of entry points."""
        self.group_list.append(namespace)
        # no names, no imports
        plugins: NamedExtensionManager[Any] = NamedExtensionManager(
            namespace, names=[], warn_on_missing_entrypoint=False
        )
        for entry_point in plugins.list_entry_points():
            self.commands[entry_point.name.replace("_", " ")] = entry_point

    def add_command(self, name: str, command_class: type[command.Command]) -> None:
        """Take a command of cliff's, unless we have one of that name."""
        if name not in self.commands:
            super().add_command(name, command_class)


class Command(command.Command):
    """A command.

    cliff's own reads the metadata of every distribution, to name in ``--help`` the
    one that brings the command.
    """

    def get_epilog(self) -> str:
        """What ``--help`` says at its end."""
        return self._epilog or ""

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Do it, with what the environment says where an option is not given."""
        # from here on there may be something to clean up
        if signal.getsignal(signal.SIGINT) is interrupted:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        defaults.settle(parsed_args)
        try:
            return super().run(parsed_args)
        except OSError as error:
            if error.filename is None or isinstance(error, BrokenPipeError):
                raise
            raise OSError(f"{error.filename}: {error.strerror}") from error


def _empty(row: Iterable[Any]) -> list[Any]:
    return ["" if value is None else value for value in row]


class Lister(Command, lister.Lister):
    """A command that shows a table."""

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
    ) -> int:
        """Show it; what is not known is an empty cell."""
        if parsed_args.formatter == "table":
            data = map(_empty, data)
        return super().produce_output(parsed_args, column_names, data)


class ShowOne(Command, show.ShowOne):
    """A command that shows one thing with its properties."""

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Sequence[Any],
    ) -> int:
        """Show it; what is not known is empty."""
        if parsed_args.formatter == "table":
            data = _empty(data)
        return super().produce_output(parsed_args, column_names, data)
