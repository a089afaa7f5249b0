# SPDX-License-Identifier: Apache-2.0
"""The problems of many services, by what they are instead of by whose they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hybrid_messaging.service_configs.checks import Report
from hybrid_messaging.service_configs.problem import Problem, Severity

#: How many names and places are shown of one problem.
_SHOWN = 5


@dataclass
class _Group:
    """One kind of problem."""

    hosts: dict[str, None] = field(default_factory=dict)
    services: dict[str, None] = field(default_factory=dict)
    places: set[str] = field(default_factory=set)
    #: places by message and cure
    problems: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)


def lines(reports: Iterable[Report]) -> Iterator[str]:
    """What there is to correct, what concerns most services first."""
    groups: dict[tuple[Severity, str], _Group] = {}
    for report in reports:
        for problem in report.problems:
            key = (problem.severity, problem.code)
            _add(groups.setdefault(key, _Group()), report, problem)
    for (severity, code), group in sorted(
        groups.items(),
        key=lambda item: (
            item[0][0] is not Severity.ERROR,
            -len(item[1].places),
            item[0][1],
        ),
    ):
        hosts = f" on {_some(group.hosts)}" if any(group.hosts) else ""
        yield f"{severity.value} {code}: {_some(group.services)}{hosts}"
        for (message, cure), where in group.problems.items():
            yield f"  {message}"
            if any(where):
                yield f"    where: {_some(where)}"
            yield f"    cure: {cure}"


def notes(reports: Iterable[Report]) -> Iterator[str]:
    """What is no problem now, each once, with the services that it is about."""
    cures: dict[str, dict[str, dict[str, None]]] = {}
    for report in reports:
        for note in report.notes:
            messages = cures.setdefault(note.cure, {})
            messages.setdefault(note.message, {})[report.service] = None
    for cure, messages in cures.items():
        for message, services in messages.items():
            yield f"note: {_some(services)}: {message}"
        yield f"  cure: {cure}"


def unseen(reports: Iterable[Report]) -> Iterator[str]:
    """What could not be looked at, each once, with the hosts that it is about."""
    hosts: dict[str, dict[str, None]] = {}
    for report in reports:
        for each in report.unseen:
            hosts.setdefault(each, {})[report.host] = None
    for each, about in hosts.items():
        where = f" ({_some(about)})" if any(about) else ""
        yield f"not checked: {each}{where}"


def _add(group: _Group, report: Report, problem: Problem) -> None:
    group.hosts[report.host] = None
    group.services[report.service] = None
    group.places.add(f"{report.host} {report.files}")
    group.problems.setdefault((problem.message, problem.cure), {})[problem.where] = None


def _some(names: Iterable[str]) -> str:
    known = list(filter(None, names))
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(known[:_SHOWN]) + more
