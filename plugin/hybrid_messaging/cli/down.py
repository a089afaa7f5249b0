# SPDX-License-Identifier: Apache-2.0
"""``down``: end what `up` has started, and leave nothing behind."""

from __future__ import annotations

import argparse

from cliff.command import Command

from hybrid_messaging.cli import options, progress


class Down(Command):
    """End the engines and remove their state, logs and stored messages.

    It is no error if nothing is up.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        options.add_state_dir(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from hybrid_messaging.engines import deployment

        tell = progress.printer(self.app)
        where = parsed_args.state_dir
        if deployment.down(where, tell):
            tell(f"nothing is left of it in {where}")
        else:
            tell(f"nothing is up in {where}")
