# SPDX-License-Identifier: Apache-2.0
"""``credentials …``: other users and passwords for engines, while services go on."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hybrid_messaging.cli import options, progress
from hybrid_messaging.cli.base import Lister

if TYPE_CHECKING:
    from hybrid_messaging.engines.deployment import Deployment

_COLUMNS = ("engine", "user", "role", "connections")


class _Credentials(Lister):
    """A command about the users of a deployment's engines."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "engine",
            nargs="*",
            metavar="ENGINE",
            help="name of an engine, as `status` shows it (default: all engines that "
            "can have two users)",
        )
        options.add_state_dir(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        from hybrid_messaging.engines.deployment import Deployment

        deployment = Deployment(parsed_args.state_dir, progress.printer(self.app))
        self._act(deployment, parsed_args)
        return _COLUMNS, [
            (user.engine, user.name, user.role, user.connections)
            for user in deployment.users(parsed_args.engine)
        ]

    def _act(self, deployment: Deployment, parsed_args: argparse.Namespace) -> None:
        """What is done before the users are shown."""


class CredentialsShow(_Credentials):
    """Show the users of engines, and how many client connections each user has.

    The role is `present` for the user in the URLs that `configure` writes, and `former`
    for the one that `credentials retire` will remove. `next` means that `credentials
    rotate` was interrupted: run it again.
    """


class CredentialsRotate(_Credentials):
    """Give engines a new user with a new password; the former user stays valid.

    No client is disconnected. Afterwards, `configure` writes the new user into the
    files of services, and you can restart these one by one. When none of them uses the
    former user any more, `credentials retire` removes it. An engine that still has a
    former user is left alone, so you can repeat the command.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        options.add_dry_run(parser)
        return parser

    def _act(self, deployment: Deployment, parsed_args: argparse.Namespace) -> None:
        deployment.rotate(parsed_args.engine, parsed_args.dry_run)


class CredentialsRetire(_Credentials):
    """Remove the former users of engines.

    Removes nothing while a client is connected as one of them, unless --force is given.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--force",
            action="store_true",
            help="remove them even if clients are connected as them",
        )
        options.add_dry_run(parser)
        return parser

    def _act(self, deployment: Deployment, parsed_args: argparse.Namespace) -> None:
        deployment.retire(parsed_args.engine, parsed_args.force, parsed_args.dry_run)
