# SPDX-License-Identifier: Apache-2.0
"""What each service will really use, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hybrid_messaging.service_configs import routes
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.interpreter import Environment
from hybrid_messaging.service_configs.problem import Problem, Severity
from hybrid_messaging.service_configs.reading import load
from hybrid_messaging.service_configs.routes import Route
from hybrid_messaging.service_configs.rules import OF_ALL, RULES, files
from hybrid_messaging.service_configs.rules.members import Member
from hybrid_messaging.service_configs.services import identify
from hybrid_messaging.service_configs.settings import NOTIFICATIONS


@dataclass
class Report:
    """A service, its two transports, and the problems that were found.

    `rpc` is None for a service that has none, both transports are None if the
    files could not be read.

    :param host: whose files they are, '' if that was not said
    :param unseen: what could not be looked at on its servers
    :param notes: what is no problem now, see `Severity.NOTE`
    """

    service: str
    files: tuple[str, ...]
    host: str = ""
    rpc: Route | None = None
    notify: Route | None = None
    drivers: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)


def check(
    services: Iterable[Sequence[Path]],
    environment_of: Callable[[Sequence[Path]], Environment],
    servers: routes.Servers | None,
    config_dirs: Sequence[Path] | None = None,
    errors: Iterable[str] = (),
    machines: Sequence[str] = (),
) -> list[Report]:
    """Examine services, each given by the files that it is started with.

    :param environment_of: what the service that reads some files can import
    :param servers: is asked about servers; None: connect nowhere
    :param config_dirs: see `reading.load`
    :param errors: codes of problems that are errors, whatever the table says
    :param machines: for each service the other machine that it runs on; empty if all
        run on this one
    """
    reports: list[Report] = []
    members: list[Member] = []
    for paths, machine in zip(services, machines or itertools.repeat(""), strict=False):
        try:
            config = load(paths, config_dirs)
        except ServiceConfigError as error:
            report = Report(identify(paths[0]).name, tuple(map(str, paths)), machine)
            report.problems.append(files.unreadable(error))
        else:
            used = routes.of(config, environment_of(paths), servers, machine)
            report = Report(
                config.service.name,
                tuple(document.path for document in config.documents),
                machine,
                rpc=used.rpc,
                notify=used.notify,
                drivers=tuple(config.conf[NOTIFICATIONS].driver),
                topics=tuple(config.conf[NOTIFICATIONS].topics),
                unseen=tuple(
                    each
                    for route in used
                    for each in (*route.left, *route.insight.unseen)
                ),
            )
            for rule in RULES:
                report.problems += rule(config, used)
            members.append(Member(config, used, report.problems))
        reports.append(report)
    for judge in OF_ALL:
        judge(members)
    for report in reports:
        found = dict.fromkeys(report.problems)
        report.notes = [each for each in found if each.severity is Severity.NOTE]
        report.problems = [
            dataclasses.replace(problem, severity=Severity.ERROR)
            if problem.code in errors
            else problem
            for problem in found
            if problem.severity is not Severity.NOTE
        ]
    return reports
