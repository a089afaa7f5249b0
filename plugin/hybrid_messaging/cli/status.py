# SPDX-License-Identifier: Apache-2.0
"""``status``: what runs where, since when, and how much goes through."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hybrid_messaging import urls
from hybrid_messaging.cli import options, progress
from hybrid_messaging.cli.base import Lister

if TYPE_CHECKING:
    from hybrid_messaging.engines.deployment import Report

ALL_UP, NOTHING_UP, PARTLY_UP = 0, 1, 2

_COLUMNS = (
    "engine",
    "kind",
    "carries",
    "url",
    "tls",
    "status",
    "pid",
    "since",
    "version",
    "connections",
    "destinations",
    "received",
    "delivered",
    "waiting",
)


class Status(Lister):
    """Show what runs where, since when, and how much goes through.

    Exit code 0: everything is up; 1: nothing is; 2: only a part is.
    """

    _exit_code = ALL_UP

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        options.add_state_dir(parser)
        parser.add_argument(
            "--show-passwords",
            action="store_true",
            help="show URLs with their passwords, for scripts",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        from hybrid_messaging.engines import deployment

        tell = progress.printer(self.app)
        reports = deployment.reports(parsed_args.state_dir)
        if reports is None:
            tell(f"nothing is up in {parsed_args.state_dir}")
            self._exit_code = NOTHING_UP
            return _COLUMNS, []
        ups = [report.health == deployment.UP for report in reports]
        if not all(ups):
            self._exit_code = PARTLY_UP if any(ups) else NOTHING_UP
        for report in reports:
            if report.problem:
                tell(f"{report.engine.name}: {report.problem}")
        return _COLUMNS, [
            _row(report, parsed_args.show_passwords) for report in reports
        ]

    def run(self, parsed_args: argparse.Namespace) -> int:
        return super().run(parsed_args) or self._exit_code


def _row(report: Report, show_passwords: bool) -> tuple[Any, ...]:
    engine, traffic = report.engine, report.traffic
    since = datetime.datetime.fromtimestamp(engine.started, datetime.timezone.utc)
    counters: tuple[Any, ...] = (None,) * 6
    if traffic:
        counters = (
            traffic.version,
            traffic.connections,
            traffic.destinations,
            traffic.received,
            traffic.delivered,
            traffic.waiting,
        )
    return (
        engine.name,
        engine.kind,
        ", ".join(engine.roles),
        engine.url if show_passwords else urls.shown(engine.url),
        engine.ca_file is not None,
        report.health,
        engine.pid,
        since.astimezone().isoformat(timespec="seconds"),
        *counters,
    )
