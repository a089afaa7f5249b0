# SPDX-License-Identifier: Apache-2.0
"""``down``: end what `up` has started, and leave nothing behind unless asked to."""

from __future__ import annotations

import argparse

from hybrid_messaging.cli import options, progress
from hybrid_messaging.cli.base import Command


class Down(Command):
    """Stop the engines, and remove their state, logs and stored messages.

    Succeeds even if nothing is running.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        options.add_state_dir(parser)
        what = parser.add_mutually_exclusive_group()
        what.add_argument(
            "--keep-data",
            action="store_true",
            help="stop the engines but keep addresses, passwords and stored messages"
            " for the next `up`",
        )
        what.add_argument(
            "--purge",
            action="store_true",
            help="stop the engines and remove everything (default)",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from hybrid_messaging.engines.deployment import Deployment

        tell = progress.printer(self.app)
        where = parsed_args.state_dir
        keep_data = parsed_args.keep_data
        if Deployment(where, tell).down(keep_data):
            left = "its data is kept" if keep_data else "nothing is left"
            tell(f"{left} in {where}")
        else:
            tell(f"nothing is up in {where}")
