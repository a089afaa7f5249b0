# SPDX-License-Identifier: Apache-2.0
"""``engine prepare``: an engine's configuration for a supervisor of your own."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cliff.show import ShowOne

from hybrid_messaging import engines, urls

#: In an engine's directory, for EnvironmentFile= of a systemd unit.
ENVIRONMENT = "environment"
PASSWORD_VARIABLE = "HYBRID_ENGINE_PASSWORD"  # noqa: S105

#: Those that listen where they are told to.
_KINDS = ("rabbitmq", "redis", "router")


class EnginePrepare(ShowOne):
    """Write the configuration of an engine, and show the command that runs it.

    For systemd and other supervisors: nothing is started. The directory is made
    if it is not there; what an earlier call has written there is replaced. What the
    engine needs in its environment is in the file `environment`.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("kind", choices=_KINDS, help="the kind of engine")
        parser.add_argument(
            "directory",
            type=lambda text: Path(text).absolute(),
            metavar="DIR",
            help="for its configuration, readable by its owner only",
        )
        parser.add_argument(
            "--host",
            default=engines.HOST,
            help="address to listen on (default: %(default)s)",
        )
        parser.add_argument("--port", type=int, required=True, help="port to listen on")
        parser.add_argument(
            "--user",
            metavar="NAME@REALM",
            help="who may use it (default: everybody who can reach it); the password "
            f"comes from the environment: {PASSWORD_VARIABLE}",
        )
        parser.add_argument(
            "--router",
            metavar="ROUTER",
            help="embedded, skrouterd, qdrouterd, or the path of one of the latter "
            "(default: what is installed, else embedded)",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Any]]:
        from hybrid_messaging.engines import ports

        directory = parsed_args.directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ports.Ports() as free:
            launch = engines.get(parsed_args.kind).prepare(
                directory.name,
                directory,
                free.take,
                None,
                engines.Options(
                    router=parsed_args.router,
                    host=parsed_args.host,
                    port=parsed_args.port,
                    username=parsed_args.user,
                    password=os.environ.get(PASSWORD_VARIABLE),
                ),
            )
        _write_environment(directory / ENVIRONMENT, launch.environment or os.environ)
        return ("engine", "directory", "command", "url"), (
            parsed_args.kind,
            str(directory),
            shlex.join(launch.command),
            urls.redact(launch.url),
        )


def _write_environment(path: Path, environment: Mapping[str, str]) -> None:
    """Write what differs from our own environment, as systemd.exec(5) reads it."""
    from hybrid_messaging.engines import templates

    quoted = str.maketrans({character: f"\\{character}" for character in '"\\`$'})
    templates.write_private(
        path,
        "".join(
            f'{name}="{value.translate(quoted)}"\n'
            for name, value in environment.items()
            if os.environ.get(name) != value
        ),
    )
