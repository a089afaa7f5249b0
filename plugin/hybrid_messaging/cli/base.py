# SPDX-License-Identifier: Apache-2.0
"""cliff's classes for commands, without what takes most of a short command's time.

That grows with what is installed: in the environment of all OpenStack services, it
is seconds.
"""

from __future__ import annotations

from typing import Any

from cliff import command, commandmanager, lister, show
from stevedore.named import NamedExtensionManager


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


class Command(command.Command):
    """A command.

    cliff's own reads the metadata of every distribution, to name in ``--help`` the
    one that brings the command.
    """

    def get_epilog(self) -> str:
        """What ``--help`` says at its end."""
        return self._epilog or ""


class Lister(Command, lister.Lister):
    """A command that shows a table."""


class ShowOne(Command, show.ShowOne):
    """A command that shows one thing with its properties."""
