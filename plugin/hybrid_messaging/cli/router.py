# SPDX-License-Identifier: Apache-2.0
"""The command `router`: the embedded AMQP 1.0 router, in the foreground."""

from __future__ import annotations

import argparse
from pathlib import Path

from hybrid_messaging.cli import types
from hybrid_messaging.cli.base import Command
from hybrid_messaging.router import config


class Router(Command):
    """Run the embedded AMQP 1.0 router until SIGTERM.

    It is for a single host, such as a development machine or a gate job. Clients
    need not authenticate, unless a configuration file requires it.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The arguments: a configuration file, or where to listen."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help="configuration file with the syntax of skrouterd.conf; excludes all"
            " other options",
        )
        parser.add_argument(
            "--host",
            type=types.host,
            metavar="HOST",
            help="address to listen on (default: 127.0.0.1)",
        )
        parser.add_argument(
            "--port",
            type=types.port_or_any,
            metavar="PORT",
            help="port to listen on; 0 for any free port (default: 5672)",
        )
        parser.add_argument(
            "--id", help="name of the router (default: the name of the host)"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Run the router."""
        from hybrid_messaging.router.program import serve

        given = {
            name: value
            for name in ("host", "port", "id")
            if (value := getattr(parsed_args, name)) is not None
        }
        if parsed_args.config is None:
            serve(_open_router(given))
        elif given:
            raise config.ConfigError(
                f"--config and --{next(iter(given))} exclude each other"
            )
        else:
            serve(config.load(parsed_args.config))


def _open_router(given: dict[str, object]) -> config.RouterConfig:
    """A router that everybody who can reach it may use."""
    router = {"id": given.pop("id")} if "id" in given else {}
    listener = config.Listener(sasl_mechanisms="ANONYMOUS", **given)  # type: ignore[arg-type]
    return config.RouterConfig(
        **router,  # type: ignore[arg-type]
        listeners=(listener,),
        addresses=config.OPENSTACK_ADDRESSES,
    )
