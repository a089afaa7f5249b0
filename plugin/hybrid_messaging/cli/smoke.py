# SPDX-License-Identifier: Apache-2.0
"""``smoke``: prove on the live transports that messages go where they should."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliff.app import App
from cliff.columns import FormattableColumn

from hybrid_messaging import urls
from hybrid_messaging.cli import defaults, ending, options, progress, visible
from hybrid_messaging.cli.base import Lister

if TYPE_CHECKING:
    from hybrid_messaging.smoke.outcome import Result
    from hybrid_messaging.smoke.runner import Setup

_COLUMNS = ("check", "result", "seconds", "detail", "look_at", "found")


class Smoke(Lister):
    """Check the transports of RPC and notifications with real messages.

    Each check prints a line to standard error when it is done. All results follow
    on standard output, unless both are the same terminal.

    Safe to run beside services: everything that it creates has unique names and is
    removed. Servers are restarted only with --disruptive.

    Exit code 0: no check failed; 1: a check failed, or none could be run.
    """

    _failed = False

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        # a default format is not shown where the lines have shown everything
        self._default_format = parser.get_default("formatter")
        parser.set_defaults(formatter=None)
        options.add_state_dir(parser)
        options.add_urls(
            parser, "transport for {} to check, instead of that of the deployment"
        )
        parser.add_argument(
            "--config",
            nargs="+",
            type=Path,
            default=[],
            metavar="FILE",
            help="use the transports and options of a service's configuration file, as"
            " the service does",
        )
        options.add_notify_queues(parser)
        parser.add_argument(
            "--disruptive",
            action="store_true",
            help="also restart the servers that `up` has started",
        )
        for option, text in (
            ("--only", "run only these checks, and those that they require"),
            ("--skip", "skip these checks, unless others require them"),
        ):
            action = parser.add_argument(
                option, nargs="+", default=[], metavar="CHECK", help=text
            )
            options.offer(action, _checks)
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        if parsed_args.config:
            # which has both
            defaults.drop(parsed_args, "rpc_url", "notify_url")
        self._shown = parsed_args.formatter is None and _is_terminal()
        parsed_args.formatter = parsed_args.formatter or self._default_format
        return super().run(parsed_args) or int(self._failed)

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        with warnings.catch_warnings():
            # oslo.service imports eventlet where it is installed, which warns
            warnings.simplefilter("ignore")
            from hybrid_messaging.smoke import outcome, report, runner, table

        checks = table.select(parsed_args.only, parsed_args.skip)
        setup = _setup(parsed_args)
        lines = _Lines(self.app)
        lines.show(
            f"RPC over {urls.shown(str(setup.rpc))}, "
            f"notifications over {urls.shown(str(setup.notify))}"
        )
        width = max(len(check.name) for check in checks)
        done: list[Result] = []
        start = time.monotonic()
        results = runner.results(
            setup, checks, lambda check: lines.begin(check.name), lines.show
        )
        with ending.by_signal(), contextlib.closing(results):
            for result in results:
                done.append(result)
                for line in report.lines(result, width):
                    lines.show(line)
        lines.show(report.summary(done, time.monotonic() - start))
        self._failed = any(result.status is outcome.Status.FAILED for result in done)
        return _COLUMNS, map(_row, done)

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Any
    ) -> int:
        if self._shown:
            return 0
        return super().produce_output(parsed_args, column_names, data)


def _checks() -> list[str]:
    from hybrid_messaging.smoke import table

    return [check.name for check in table.CHECKS]


class _Lines:
    """Lines on standard error; on a terminal also what is being checked."""

    def __init__(self, app: App) -> None:
        self._show = progress.printer(app)
        self._stream = app.stderr
        self._live = app.options.verbose_level > 0 and self.is_live()

    def is_live(self) -> bool:
        """Whether a line can be taken back."""
        return bool(self._stream.isatty())

    def begin(self, name: str) -> None:
        """Tell what is being checked, until the next line takes its place."""
        if self._live:
            self._stream.write(f"         {name} …")
            self._stream.flush()

    def show(self, line: str) -> None:
        """Show a line."""
        if self._live:
            visible.control(self._stream, "\r\x1b[K")
        self._show(line)


class Found(FormattableColumn[dict[str, Any]]):
    """What a check has found: all names for programs, their numbers for people."""

    def human_readable(self) -> str:
        return ", ".join(f"{len(names)} {what}" for what, names in self._value.items())


def _row(result: Result) -> tuple[Any, ...]:
    return (
        result.check,
        result.status.value,
        result.seconds,
        result.detail,
        result.look_at,
        Found({what: list(names) for what, names in result.found.items()}),
    )


def _is_terminal() -> bool:
    return sys.stdout.isatty() and sys.stderr.isatty()


def _setup(parsed_args: argparse.Namespace) -> Setup:
    from hybrid_messaging.servers.options import settings as settings_of
    from hybrid_messaging.servers.transport import TransportError
    from hybrid_messaging.service_configs import reading, transports
    from hybrid_messaging.smoke.runner import Setup

    files = [path.absolute() for path in parsed_args.config]
    given: dict[str, str | None] = {**options.given_urls(parsed_args)}
    settings = None
    if files and given:
        raise TransportError(
            "--config excludes --rpc-url and --notify-url, because the file has both"
            " URLs"
        )
    if files:
        config = reading.load(files)
        given = {"rpc": config.rpc_url, "notify": config.notify_url}
        settings = settings_of(config.conf)
    found = transports.resolve(
        transports.Side(given.get("rpc")),
        transports.Side(given.get("notify")),
        state_dir=parsed_args.state_dir,
        # a service's configuration says it itself
        queues=None if files else parsed_args.notify_queues,
    )
    return Setup(
        found.rpc,
        found.notify,
        parsed_args.state_dir,
        settings,
        parsed_args.disruptive,
    )
