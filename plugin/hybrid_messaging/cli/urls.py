# SPDX-License-Identifier: Apache-2.0
"""``urls``: the two transport URLs of a mode, for whoever writes them elsewhere."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from hybrid_messaging import urls
from hybrid_messaging.cli import transport_options
from hybrid_messaging.cli.base import ShowOne


class Urls(ShowOne):
    """Show the transport URLs for RPC and for notifications.

    For deployment tools that write services' files by themselves; `configure`
    takes the same options. All that is needed is in the URLs: those of RabbitMQ
    ask for durable queues where notifications have to stay, those of Kafka for a
    user's credentials to be sent.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        transport_options.add(parser)
        parser.add_argument(
            "--vhost",
            action="append",
            default=[],
            metavar="NAME",
            help="virtual host of RPC; can be given several times, for a URL each",
        )
        parser.add_argument(
            "--show-passwords", action="store_true", help="do not hide them"
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Any]]:
        from hybrid_messaging.service_configs import settings

        transports = settings.in_urls(transport_options.resolve(parsed_args))
        rpc = [
            dataclasses.replace(transports.rpc, vhost=vhost or transports.rpc.vhost)
            for vhost in parsed_args.vhost or [""]
        ]
        found = [str(url) for url in (rpc[0], transports.notify, *rpc[1:])]
        more = [f"rpc {vhost}" for vhost in parsed_args.vhost[1:]]
        return ("rpc", "notify", *more), (
            found if parsed_args.show_passwords else [urls.shown(url) for url in found]
        )
