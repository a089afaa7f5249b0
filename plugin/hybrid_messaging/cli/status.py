# SPDX-License-Identifier: Apache-2.0
"""``status``: what runs where, since when, and how much goes through."""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hybrid_messaging import urls
from hybrid_messaging.cli import options, progress, service_files
from hybrid_messaging.cli.base import Lister

if TYPE_CHECKING:
    from hybrid_messaging.engines import Traffic
    from hybrid_messaging.engines.deployment import Report
    from hybrid_messaging.serving import Answer, Server, Use

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
_TIMEOUT = 5.0
_POLL = 0.5


class Status(Lister):
    """Show what runs where, since when, and how much goes through.

    The engines that `up` has started, or the servers that services' files or URLs
    name, whoever runs them. Exit code 0: everything is up; 1: nothing is; 2: only a
    part is.
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
        servers = parser.add_argument_group("servers that others run")
        servers.add_argument(
            "--config",
            dest="files",
            action="append",
            default=[],
            metavar="FILE[,FILE]",
            help="those that a service's files name, given as for `check`; can be "
            "given several times",
        )
        service_files.add_discover(servers)
        servers.add_argument(
            "--rpc-url",
            metavar="URL",
            help="transport of RPC; with a password, better in a file for --config",
        )
        servers.add_argument(
            "--notify-url", metavar="URL", help="transport of notifications, likewise"
        )
        servers.add_argument(
            "--wait",
            type=float,
            default=0.0,
            metavar="SECONDS",
            help="look again, until all of them are up or so much time has passed",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        tell = progress.printer(self.app)
        given = (parsed_args.rpc_url, parsed_args.notify_url)
        if parsed_args.files or parsed_args.discover or any(given):
            return _SERVER_COLUMNS, self._servers(parsed_args, tell)
        return _COLUMNS, self._engines(parsed_args, tell)

    def _engines(
        self, parsed_args: argparse.Namespace, tell: Callable[[str], None]
    ) -> list[Sequence[Any]]:
        from hybrid_messaging.engines import deployment

        reports = deployment.reports(parsed_args.state_dir)
        if reports is None:
            tell(
                f"nothing is up in {parsed_args.state_dir}; what `up` has not started "
                "is shown with --config FILE or --discover /etc"
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
    ) -> list[Sequence[Any]]:
        from hybrid_messaging import serving
        from hybrid_messaging.service_configs.errors import ServiceConfigError

        uses, unread = _uses(parsed_args)
        servers = serving.servers(uses)
        for problem in unread:
            tell(problem)
        if not servers and not unread:
            raise ServiceConfigError(
                "no transport_url in these files",
                "name others, or give the URLs with --rpc-url and --notify-url",
            )
        deadline = time.monotonic() + parsed_args.wait
        answers = [serving.look(server, _TIMEOUT) for server in servers]
        while time.monotonic() < deadline and not all(map(_is_up, answers)):
            time.sleep(_POLL)
            answers = [
                answer if _is_up(answer) else serving.look(server, _TIMEOUT)
                for server, answer in zip(servers, answers, strict=True)
            ]
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
    uses = [
        serving.in_url(role, text)
        for role, text in (
            (serving.RPC, parsed_args.rpc_url),
            (serving.NOTIFY, parsed_args.notify_url),
        )
        if text
    ]
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


def _engine_row(report: Report, show_passwords: bool) -> tuple[Any, ...]:
    engine, traffic = report.engine, report.traffic
    since = datetime.datetime.fromtimestamp(engine.started, datetime.timezone.utc)
    return (
        engine.name,
        engine.kind,
        ", ".join(engine.roles),
        engine.url if show_passwords else urls.shown(engine.url),
        engine.ca_file is not None,
        report.health,
        engine.pid,
        since.astimezone().isoformat(timespec="seconds"),
        traffic.version if traffic else None,
        *_counters(traffic),
    )


def _server_row(
    server: Server, answer: Answer, show_passwords: bool
) -> tuple[Any, ...]:
    url = str(server.url)
    return (
        str(urls.Host(server.host, server.port)),
        answer.kind,
        ", ".join(server.roles),
        ", ".join(server.services),
        url if show_passwords else urls.shown(url),
        server.encrypted,
        answer.status,
        answer.version or None,
        *_counters(answer.traffic),
    )


def _counters(traffic: Traffic | None) -> tuple[int | None, ...]:
    return tuple(getattr(traffic, name, None) for name in _COUNTERS)
