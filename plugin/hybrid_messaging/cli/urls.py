# SPDX-License-Identifier: Apache-2.0
"""``urls``: the two transport URLs, for those who write them elsewhere."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hybrid_messaging import urls
from hybrid_messaging.cli import options, transport_options
from hybrid_messaging.cli.base import ShowOne
from hybrid_messaging.service_configs import deployment_tools

if TYPE_CHECKING:
    from hybrid_messaging.service_configs.transports import Transports


class Urls(ShowOne):
    """Show the transport URLs for RPC and for notifications.

    For deployment tools that write services' files themselves; --for prints the
    settings of a tool. `configure` takes the same options. The URLs are complete:
    those of RabbitMQ request durable queues where notifications must be kept, and
    those of Kafka have the client send user and password.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--for",
            dest="tool",
            choices=deployment_tools.NAMES,
            help="print the settings of this deployment tool instead of URLs",
        )
        transport_options.add(parser)
        parser.add_argument(
            "--vhost",
            action="append",
            default=[],
            metavar="NAME",
            help="virtual host of RPC; can be given several times, for one URL each",
        )
        options.add_show_passwords(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Any]]:
        from hybrid_messaging.service_configs import settings

        transports = transport_options.resolve(parsed_args)
        vhosts = parsed_args.vhost or [""]
        if parsed_args.tool:
            if len(vhosts) > 1:
                raise ValueError(
                    "--for takes a single --vhost, because the tools name those of"
                    " cells"
                )
            return _settings(parsed_args, _with_vhost(transports, vhosts[0]))
        transports = settings.in_urls(transports)
        rpc = [_with_vhost(transports, vhost).rpc for vhost in vhosts]
        found = [str(url) for url in (rpc[0], transports.notify, *rpc[1:])]
        more = [f"rpc {vhost}" for vhost in vhosts[1:]]
        return ("rpc", "notify", *more), (
            found if parsed_args.show_passwords else [urls.shown(url) for url in found]
        )

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Any, data: Any
    ) -> int:
        """Show what `take_action` has found; files of tools to people as they are."""
        if parsed_args.tool and parsed_args.formatter == "table":
            self.app.stdout.write("\n".join(data))
            return 0
        return int(super().produce_output(parsed_args, column_names, data) or 0)


def _with_vhost(transports: Transports, vhost: str) -> Transports:
    rpc = transports.rpc
    return dataclasses.replace(
        transports, rpc=dataclasses.replace(rpc, vhost=vhost or rpc.vhost)
    )


def _settings(
    parsed_args: argparse.Namespace, transports: Transports
) -> tuple[Sequence[str], Sequence[str]]:
    """The files of a tool, and what goes into them."""
    from hybrid_messaging.service_configs.deployment_tools import tools

    parts = tools.parts(
        parsed_args.tool, transports, hidden=not parsed_args.show_passwords
    )
    return [part.file for part in parts], [str(part) for part in parts]
