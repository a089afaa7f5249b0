# SPDX-License-Identifier: Apache-2.0
"""``urls``: the two transport URLs of a mode, for whoever writes them elsewhere."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from cliff.show import ShowOne

from hybrid_messaging import urls
from hybrid_messaging.cli import transport_options


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
        parser.add_argument("--vhost", default="", help="virtual host of RPC")
        parser.add_argument(
            "--show-passwords", action="store_true", help="do not hide them"
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Any]]:
        from hybrid_messaging.service_configs import settings

        transports = settings.in_urls(transport_options.resolve(parsed_args))
        rpc = transports.rpc
        if parsed_args.vhost:
            rpc = dataclasses.replace(rpc, vhost=parsed_args.vhost)
        shown = [str(rpc), str(transports.notify)]
        if not parsed_args.show_passwords:
            shown = [urls.shown(url) for url in shown]
        return ("rpc", "notify"), shown
