# SPDX-License-Identifier: Apache-2.0
"""``configure``: rewrite services' files so that they use the two transports."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hybrid_messaging.cli import options, rewrites, service_files, transport_options
from hybrid_messaging.cli.base import Lister
from hybrid_messaging.cli.rewrites import Row

if TYPE_CHECKING:
    from hybrid_messaging.service_configs.rewriting import Target
    from hybrid_messaging.service_configs.transports import Transports


class Configure(Lister):
    """Rewrite services' configuration files for hybrid messaging.

    Sets [DEFAULT] transport_url, transport_url and driver of
    [oslo_messaging_notifications], and the options that make notification queues
    durable. Every other byte stays as it is, and either all files are rewritten or
    none. The transports are those of the deployment in the state directory, or are
    given as URLs, or as a mode with hosts. Pass passwords in environment variables,
    not on the command line: in HYBRID_RPC_URL and HYBRID_NOTIFY_URL, or in
    HYBRID_RPC_PASSWORD and HYBRID_NOTIFY_PASSWORD.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        service_files.add_to_rewrite(parser, "RPC")
        action = parser.add_mutually_exclusive_group()
        options.add_dry_run(action)
        action.add_argument(
            "--restore",
            action="store_true",
            help="restore the files as they were before they were first configured",
        )
        transport_options.add(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        targets = service_files.to_rewrite(parsed_args)
        if parsed_args.restore:
            rows = self._restore(targets)
        else:
            rows = self._configure(
                targets, transport_options.resolve(parsed_args), parsed_args
            )
        return rewrites.shown(self.app, rows, parsed_args)

    def _configure(
        self,
        targets: Sequence[Target],
        transports: Transports,
        parsed_args: argparse.Namespace,
    ) -> list[Row]:
        from hybrid_messaging.service_configs import rewriting

        return rewrites.carry_out(
            targets,
            lambda: rewriting.plan(targets, transports, parsed_args.keep_vhosts),
            rewriting.warnings,
            dry_run=parsed_args.dry_run,
        )

    def _restore(self, targets: Sequence[Target]) -> list[Row]:
        from hybrid_messaging.service_configs import replace, rewriting
        from hybrid_messaging.service_configs.services import identify
        from hybrid_messaging.service_configs.source import read_to_change

        paths = {read_to_change(target.path).path: target.path for target in targets}
        with replace.exclusive(paths):
            former = rewriting.rpc_urls(list(paths.values()))
            replace.restore([read_to_change(path) for path in paths])
        rows: list[Row] = [
            {
                **dict.fromkeys(rewrites.COLUMNS + rewrites.MACHINE_COLUMNS),
                "file": str(path),
                "service": identify(path).name,
                "result": "restored",
                "warnings": [],
                "next": [],
            }
            for path in paths.values()
        ]
        rows[0]["next"] = rewriting.steps_back(former)
        return rows
