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
            help="an engine of `status` (default: all that can have two users)",
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
    """Show the users of engines, and how many connections of clients each has.

    The role is `present` for the user in the URLs that `configure` writes, `former` for
    the one that `credentials retire` will remove, and `next` where `credentials rotate`
    was ended half-way and has to be run again.
    """


class CredentialsRotate(_Credentials):
    """Give engines a new user with a new password; the former user stays valid.

    Nobody is disconnected. Afterwards, `configure` writes the new user into the files
    of services, which can be restarted one by one. When none uses the former user any
    more, `credentials retire` removes it. An engine whose former user has not been
    removed yet is left alone, so that the command can be run again.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        options.add_dry_run(parser)
        return parser

    def _act(self, deployment: Deployment, parsed_args: argparse.Namespace) -> None:
        deployment.rotate(parsed_args.engine, parsed_args.dry_run)


class CredentialsRetire(_Credentials):
    """Remove the former users of engines.

    Nothing is removed while a client is connected as one of them.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--force",
            action="store_true",
            help="remove them although clients use them",
        )
        options.add_dry_run(parser)
        return parser

    def _act(self, deployment: Deployment, parsed_args: argparse.Namespace) -> None:
        deployment.retire(parsed_args.engine, parsed_args.force, parsed_args.dry_run)
