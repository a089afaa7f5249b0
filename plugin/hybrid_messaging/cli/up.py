# SPDX-License-Identifier: Apache-2.0
"""``up``: the engines of a mode, started and ready, with their addresses."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hybrid_messaging import modes, state, state_directory, urls
from hybrid_messaging.cli import ending, options, progress
from hybrid_messaging.cli.base import Lister
from hybrid_messaging.engines import Options

#: What to do next, and what for; {state_dir} is the option, where it is needed.
NEXT_COMMANDS = (
    ("configure{state_dir} FILE…", "let services use these addresses"),
    ("check FILE…", "show what each service will really use"),
    ("smoke{state_dir}", "prove that both transports work"),
    ("status{state_dir}", "show what runs and how many messages pass through"),
    ("down{state_dir}", "stop the engines and remove everything"),
)


class Up(Lister):
    """Start the engines of a mode on private ports, and show their addresses.

    If they already run, only shows the addresses. After a reboot, starts them on
    their former ports, with their data.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        options.add_mode(
            parser,
            "mode",
            "mode to start, of those that `mode list` shows (default: $HYBRID,"
            f" otherwise that of the deployment, otherwise {modes.DEFAULT})",
        )
        options.add_state_dir(parser, "directory for the engines and their data")
        options.add_urls(parser, "use this server for {} instead of starting one")
        options.add_router(parser)
        options.add_nodes(parser)
        options.add_kafka(parser)
        options.add_tls(parser)
        parser.add_argument(
            "--repair",
            action="store_true",
            help="restart the engines that are down beside others that are up",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        from hybrid_messaging.engines.deployment import Deployment

        tell = progress.printer(self.app)
        state_dir = parsed_args.state_dir
        mode = modes.get(
            parsed_args.mode or _default_mode(state_directory.load(state_dir))
        )
        with ending.by_signal():
            started = Deployment(state_dir, tell).up(
                mode,
                options.given_urls(parsed_args),
                Options(
                    router=parsed_args.router,
                    nodes=parsed_args.nodes,
                    kafka=parsed_args.kafka,
                    tls=parsed_args.tls,
                ),
                repair=parsed_args.repair,
            )
        if started.already:
            tell(f"{started.state.mode} is already up")
        return _addresses(started.state)

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Any,
    ) -> int:
        result = super().produce_output(parsed_args, column_names, data)
        if parsed_args.formatter == "table":
            self.app.stdout.write(_next_commands(parsed_args.state_dir))
        return result


def _default_mode(found: state.State | None) -> str:
    return os.environ.get("HYBRID") or (found.mode if found else modes.DEFAULT)


def _addresses(
    found: state.State,
) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    rows: list[tuple[Any, ...]] = []
    for role, purpose, url in (
        ("rpc", "RPC", found.rpc_url),
        ("notify", "notifications", found.notify_url),
    ):
        served = [item for item in found.engines if role in item.roles]
        rows += [
            (purpose, urls.shown(url), engine.name, engine.pid, engine.log)
            for engine in served
        ] or [(purpose, urls.shown(url), modes.NO_ENGINE, None, None)]
    return ("carries", "url", "engine", "pid", "log"), rows


def _next_commands(state_dir: Path) -> str:
    option = ""
    if state_dir != state_directory.default_state_dir():
        option = f" --state-dir {shlex.quote(str(state_dir))}"
    lines = [
        (f"  hybrid-messaging {command.format(state_dir=option)}", purpose)
        for command, purpose in NEXT_COMMANDS
    ]
    width = max(len(line) for line, _ in lines)
    return "\nnext:\n" + "".join(
        f"{line:{width}}  # {purpose}\n" for line, purpose in lines
    )
