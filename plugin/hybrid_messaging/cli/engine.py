# SPDX-License-Identifier: Apache-2.0
"""``engine prepare``: an engine's configuration for a supervisor of your own."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cliff.show import ShowOne

from hybrid_messaging import engines, urls

PASSWORD_VARIABLE = "HYBRID_ENGINE_PASSWORD"  # noqa: S105


class EnginePrepare(ShowOne):
    """Write the configuration of an engine, and show the command that runs it.

    For systemd and other supervisors: nothing is started. The directory is made
    if it is not there; what an earlier call has written there is replaced.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("kind", choices=("router",), help="the kind of engine")
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
        directory = parsed_args.directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        launch = engines.get(parsed_args.kind).prepare(
            parsed_args.kind,
            directory,
            lambda preferred: parsed_args.port,
            None,
            engines.Options(
                router=parsed_args.router,
                host=parsed_args.host,
                port=parsed_args.port,
                username=parsed_args.user,
                password=os.environ.get(PASSWORD_VARIABLE),
            ),
        )
        return ("engine", "directory", "command", "url"), (
            parsed_args.kind,
            str(directory),
            shlex.join(launch.command),
            urls.redact(launch.url),
        )
