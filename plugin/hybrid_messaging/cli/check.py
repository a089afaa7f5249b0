# SPDX-License-Identifier: Apache-2.0
"""``check``: what each service will really use, and what is wrong with it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliff.columns import FormattableColumn
from stevedore.extension import Extension

from hybrid_messaging import urls
from hybrid_messaging.cli import monitoring, options, progress, service_files, types
from hybrid_messaging.cli.base import Lister

if TYPE_CHECKING:
    from hybrid_messaging.service_configs.checks import Report
    from hybrid_messaging.service_configs.problem import Problem
    from hybrid_messaging.service_configs.routes import Route

SOUND, PROBLEMS = 0, 1

_COLUMNS = ("service", "files", "rpc", "notifications", "problems")
_DAYS = 30.0


class Check(Lister):
    """Show which transports services will really use, and any problems with them.

    Reads the files as the services do, and connects to every server. Exit code 0:
    no problem; 1: at least one problem, or the files could not be found. With
    -f nagios: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. With -f prometheus: 0 if the
    metrics could be written.
    """

    _exit_code = SOUND
    _reports: list[Report]

    def _load_formatter_plugins(self) -> Any:
        plugins = super()._load_formatter_plugins()
        for kind in (monitoring.Nagios, monitoring.Prometheus):
            name = kind.__name__.lower()
            entry = EntryPoint(name, f"{kind.__module__}:{kind.__name__}", name)
            plugins.extensions.append(Extension(name, entry, kind, kind()))
        return plugins

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "files",
            nargs="*",
            metavar="FILE[,FILE]",
            help="a service's configuration file; several files that one service is"
            " started with, separated by commas and in their order",
        )
        service_files.add_discover(parser)
        service_files.add_hosts(parser)
        parser.add_argument(
            "--config-dir",
            type=Path,
            action="append",
            metavar="DIR",
            help="configuration directory that the services are started with (default:"
            " FILE.d if it exists, as in oslo.config)",
        )
        parser.add_argument(
            "--python",
            type=Path,
            metavar="PATH",
            help="Python interpreter of the services (default: for files below /etc,"
            " the virtual environment of openstack-ansible, Kolla or DevStack if"
            " there is one; otherwise the interpreter of this command)",
        )
        parser.add_argument(
            "--no-connect",
            action="store_true",
            help="only read the files; do not connect to servers",
        )
        options.add_timeout(parser)
        parser.add_argument(
            "--certificates-days",
            type=types.positive,
            default=_DAYS,
            metavar="DAYS",
            help="report certificates that expire within this number of days (default:"
            " %(default)g)",
        )
        options.add_rabbitmq_management(parser)
        parser.add_argument(
            "--same-rpc",
            action="store_true",
            help="report an error instead of a warning if a service's RPC goes to"
            " other servers than the rest",
        )
        parser.add_argument(
            "--ignore-warnings",
            action="store_true",
            help="exit with 0 if there are only warnings",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        from hybrid_messaging.service_configs import checks, routes
        from hybrid_messaging.service_configs.environments import Environments
        from hybrid_messaging.service_configs.errors import ServiceConfigError

        many = parsed_args.hosts is not None
        if many and (parsed_args.files or parsed_args.discover):
            raise ServiceConfigError(
                parsed_args.hosts,
                "--hosts excludes FILE and --discover: give one of them",
            )
        hosts, files = (
            zip(*service_files.of_hosts(parsed_args), strict=True)
            if many
            else ((), service_files.of_services(parsed_args))
        )
        tell = progress.printer(self.app)
        self._reports = checks.check(
            files,
            Environments(parsed_args.python, tell).of,
            None
            if parsed_args.no_connect
            else routes.Servers(
                parsed_args.timeout,
                tell,
                parsed_args.certificates_days,
                parsed_args.rabbitmq_management,
            ),
            parsed_args.config_dir,
            ["rpc-elsewhere"] if parsed_args.same_rpc else [],
            hosts,
        )
        self._exit_code = self._decided(parsed_args)
        for_scripts = parsed_args.formatter in ("json", "yaml")
        columns = (
            *(("host",) if many else ()),
            *_COLUMNS,
            *(("notes", "unseen") if for_scripts else ()),
        )
        return columns, [
            (
                *((report.host,) if many else ()),
                report.service,
                _Files(report.files),
                _Transport(report.rpc),
                _Notifications((report.notify, report.drivers, report.topics)),
                _Problems(report.problems),
                *(
                    (_Problems(report.notes), list(report.unseen))
                    if for_scripts
                    else ()
                ),
            )
            for report in self._reports
        ]

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Any,
        data: Any,
    ) -> int:
        from hybrid_messaging.service_configs import summary

        if parsed_args.formatter in ("nagios", "prometheus"):
            parsed_args.columns = []  # they need all
        for_people = parsed_args.formatter == "table"
        several = len(self._reports) > 1
        if for_people and several:
            for line in summary.lines(self._reports):
                self.app.stdout.write(f"{line}\n")
        super().produce_output(parsed_args, column_names, data)
        if for_people and not several:
            for report in self._reports:
                for problem in report.problems:
                    self.app.stdout.write(f"{report.service}: {problem}\n")
        if for_people:
            for line in summary.notes(self._reports):
                self.app.stdout.write(f"{line}\n")
            for line in summary.unseen(self._reports):
                self.app.stdout.write(f"{line}\n")
        return 0

    def run(self, parsed_args: argparse.Namespace) -> int:
        try:
            return super().run(parsed_args) or self._exit_code
        except Exception as error:
            if parsed_args.formatter != "nagios" or self.app.options.debug:
                raise
            self.app.stdout.write(monitoring.unknown(error))
            return monitoring.UNKNOWN

    def _decided(self, parsed_args: argparse.Namespace) -> int:
        """The exit code."""
        if parsed_args.formatter == "prometheus":
            return SOUND
        counts = Counter(
            problem.severity.value
            for report in self._reports
            for problem in report.problems
        )
        code = monitoring.code(counts, parsed_args.ignore_warnings)
        if parsed_args.formatter == "nagios":
            return code
        return PROBLEMS if code else SOUND


class _Files(FormattableColumn):
    """The files that were read, in their order."""

    def human_readable(self) -> str:
        return "\n".join(self._value)

    def machine_readable(self) -> list[str]:
        return list(self._value)


class _Transport(FormattableColumn):
    """A transport, without its passwords; nothing for a service that has none."""

    def human_readable(self) -> str:
        return _text(self._value)

    def machine_readable(self) -> dict[str, Any] | None:
        return _fields(self._value)


class _Notifications(FormattableColumn):
    """The notification transport, with drivers and topics."""

    def human_readable(self) -> str:
        route, drivers, topics = self._value
        return f"{_text(route)}\n{', '.join(drivers)} → {', '.join(topics)}"

    def machine_readable(self) -> dict[str, Any] | None:
        route, drivers, topics = self._value
        fields = _fields(route)
        return fields and {**fields, "drivers": list(drivers), "topics": list(topics)}


class _Problems(FormattableColumn):
    """How many for people, who read them below; all about them for scripts."""

    def human_readable(self) -> str:
        problems: list[Problem] = self._value
        counts = Counter(problem.severity.value for problem in problems)
        lines = (
            f"{count} {name}{'s' if count > 1 else ''}"
            for name, count in counts.items()
        )
        return "\n".join(lines) or "none"

    def machine_readable(self) -> list[dict[str, str]]:
        return [
            {
                "severity": problem.severity.value,
                "code": problem.code,
                "message": problem.message,
                "cure": problem.cure,
                "where": problem.where,
            }
            for problem in self._value
        ]


def _text(route: Route | None) -> str:
    if route is None:
        return "none"
    durable = ", durable" if route.durable and route.role == "notifications" else ""
    encryption = f"\n{route.encryption}" if route.encryption else ""
    old = f"\nfrom {_text(route.old)}" if route.old else ""
    return (
        f"{urls.shown(route.text)}\n{route.engine}, {route.delivery}{durable}"
        f"{encryption}{old}"
    )


def _fields(route: Route | None) -> dict[str, Any] | None:
    if route is None:
        return None
    return {
        "url": urls.shown(route.text),
        "engine": route.engine,
        "delivery": route.delivery,
        "durable": route.durable,
        "encryption": route.encryption,
        "from": _fields(route.old),
    }
