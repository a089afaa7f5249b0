# SPDX-License-Identifier: Apache-2.0
"""``status``: what runs where, since when, and how much goes through."""

from __future__ import annotations

import argparse
import datetime
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cliff.columns import FormattableColumn

from hybrid_messaging import urls
from hybrid_messaging.attempts import attempts
from hybrid_messaging.cli import options, progress, service_files, types
from hybrid_messaging.cli.base import Lister

if TYPE_CHECKING:
    from hybrid_messaging.engines import Traffic
    from hybrid_messaging.engines.deployment import Report
    from hybrid_messaging.serving import Answer, Server, Use

_Row = dict[str, Any]

ALL_UP, NOTHING_UP, PARTLY_UP = 0, 1, 2

_COUNTERS = ("connections", "destinations", "received", "delivered", "waiting")
_COLUMNS = (
    *("engine", "kind", "carries", "url", "tls", "status", "pid", "since", "version"),
    *_COUNTERS,
)
_SERVER_COLUMNS = (
    *("server", "kind", "carries", "services", "url", "tls", "status", "version"),
    *_COUNTERS,
)
#: What fits into a terminal of 80 columns.
_SHORT = ("engine", "carries", "address", "status", "age", "waiting")
_SERVER_SHORT = ("server", "kind", "carries", "services", "status")
_SERVICES_WIDTH = 14
_TIMEOUT = 5.0
_POLL = 0.5


class Status(Lister):
    """Show engines or servers: address, state, age, and message counters.

    Shows the engines that `up` has started, or the servers that configuration files
    or URLs name. Exit code 0: all are up; 1: none is up; 2: some are up.
    """

    _exit_code = ALL_UP

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        options.add_state_dir(parser)
        parser.add_argument(
            "--long",
            action="store_true",
            help="show all columns in the table, too",
        )
        options.add_show_passwords(parser)
        servers = parser.add_argument_group("servers that were not started by `up`")
        servers.add_argument(
            "--config",
            dest="files",
            action="append",
            default=[],
            metavar="FILE[,FILE]",
            help="show the servers in a service's configuration files, given as for"
            " `check`; can be given several times",
        )
        service_files.add_discover(servers)
        options.add_urls(
            servers,
            "show the servers of this URL for {}; put a URL with a password into a"
            " file, and use --config",
            environment=False,
        )
        servers.add_argument(
            "--wait",
            type=types.seconds,
            default=0.0,
            metavar="SECONDS",
            help="repeat until all servers are up, for at most this many seconds"
            " (default: look once)",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        tell = progress.printer(self.app)
        given = options.given_urls(parsed_args)
        if parsed_args.files or parsed_args.discover or given:
            rows = self._servers(parsed_args, tell)
            return _chosen(parsed_args, rows, _SERVER_SHORT, _SERVER_COLUMNS)
        rows = self._engines(parsed_args, tell)
        return _chosen(parsed_args, rows, _SHORT, _COLUMNS)

    def _engines(
        self, parsed_args: argparse.Namespace, tell: Callable[[str], None]
    ) -> list[_Row]:
        from hybrid_messaging.engines import deployment

        reports = deployment.Deployment(parsed_args.state_dir).reports()
        if reports is None:
            tell(
                f"{parsed_args.state_dir} has no deployment; to show servers that `up`"
                " has not started, use --config FILE or --discover /etc"
            )
            self._exit_code = NOTHING_UP
            return []
        self._judge([report.health == deployment.UP for report in reports])
        for report in reports:
            if report.problem:
                tell(f"{report.engine.name}: {report.problem}")
        return [_engine_row(report, parsed_args.show_passwords) for report in reports]

    def _servers(
        self, parsed_args: argparse.Namespace, tell: Callable[[str], None]
    ) -> list[_Row]:
        from hybrid_messaging import serving
        from hybrid_messaging.service_configs.errors import ServiceConfigError

        uses, unread = _uses(parsed_args)
        servers = serving.servers(uses)
        for problem in unread:
            tell(problem)
        if not servers and not unread:
            raise ServiceConfigError(
                "none of these files has a transport_url",
                "name others, or give the URLs with --rpc-url and --notify-url",
            )
        found: dict[int, Answer] = {}
        for _ in attempts(parsed_args.wait, _POLL):
            for place, server in enumerate(servers):
                if place not in found or not _is_up(found[place]):
                    found[place] = serving.look(server, _TIMEOUT)
            if all(map(_is_up, found.values())):
                break
        answers = list(found.values())
        for problem in dict.fromkeys(answer.problem for answer in answers):
            if problem:
                tell(problem)
        self._judge([*map(_is_up, answers), *(False for _ in unread)])
        return [
            _server_row(server, answer, parsed_args.show_passwords)
            for server, answer in zip(servers, answers, strict=True)
        ]

    def _judge(self, ups: Sequence[bool]) -> None:
        if not all(ups):
            self._exit_code = PARTLY_UP if any(ups) else NOTHING_UP

    def run(self, parsed_args: argparse.Namespace) -> int:
        return super().run(parsed_args) or self._exit_code


def _uses(parsed_args: argparse.Namespace) -> tuple[list[Use], list[str]]:
    """The transports that the command line names, and what could not be read."""
    from hybrid_messaging import serving
    from hybrid_messaging.service_configs.errors import ServiceConfigError

    unread = []
    given = options.given_urls(parsed_args)
    uses = [use for role, text in given.items() for use in serving.in_url(role, text)]
    if parsed_args.files or parsed_args.discover:
        for files in service_files.of_services(parsed_args):
            try:
                uses += serving.in_files(files)
            except ServiceConfigError as error:
                unread.append(str(error))
            except ValueError as error:
                unread.append(f"{files[0]}: {urls.redact(str(error))}")
    return uses, unread


def _is_up(answer: Answer) -> bool:
    from hybrid_messaging import serving

    return answer.status == serving.UP


def _chosen(
    parsed_args: argparse.Namespace,
    rows: Iterable[_Row],
    short: Sequence[str],
    long: Sequence[str],
) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """The columns to show: for people those that fit, unless they ask for more."""
    columns = short
    if parsed_args.columns:
        columns = tuple(dict.fromkeys((*long, *short)))
    elif parsed_args.long or parsed_args.show_passwords or not _is_table(parsed_args):
        columns = long
    return columns, [[row[column] for column in columns] for row in rows]


def _is_table(parsed_args: argparse.Namespace) -> bool:
    return bool(parsed_args.formatter == "table")


def _engine_row(report: Report, show_passwords: bool) -> _Row:
    from hybrid_messaging.engines import deployment

    engine, traffic = report.engine, report.traffic
    runs = report.health != deployment.DOWN
    return {
        "engine": engine.name,
        "kind": engine.kind,
        "carries": ", ".join(engine.roles),
        "address": str(urls.Host(engine.host, engine.port)),
        "url": engine.url if show_passwords else urls.shown(engine.url),
        "tls": engine.ca_file is not None,
        "status": report.health,
        "pid": engine.pid,
        "since": _since(engine.started),
        "age": _age(time.time() - engine.started) if runs else None,
        "version": traffic.version if traffic else None,
        **_counters(traffic),
    }


def _server_row(server: Server, answer: Answer, show_passwords: bool) -> _Row:
    url = str(server.url)
    return {
        "server": str(urls.Host(server.host, server.port)),
        "kind": answer.kind,
        "carries": ", ".join(server.roles),
        "services": _Names(", ".join(server.services)),
        "url": url if show_passwords else urls.shown(url),
        "tls": server.encrypted,
        "status": answer.status,
        "version": answer.version or None,
        **_counters(answer.traffic),
    }


class _Names(FormattableColumn[str]):
    """Names that may be many, in a narrow column for people."""

    def human_readable(self) -> str:
        return "\n".join(
            textwrap.wrap(
                self._value,
                _SERVICES_WIDTH,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )


def _since(started: float) -> str:
    since = datetime.datetime.fromtimestamp(started, datetime.timezone.utc)
    return since.astimezone().isoformat(timespec="seconds")


def _age(seconds: float) -> str:
    """A time in its largest unit; clocks may have been set back."""
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    return next(
        (f"{seconds // size:.0f}{unit}" for unit, size in units if seconds >= size),
        "0s",
    )


def _counters(traffic: Traffic | None) -> dict[str, int | None]:
    return {name: getattr(traffic, name, None) for name in _COUNTERS}
