# SPDX-License-Identifier: Apache-2.0
"""What ``check`` finds, for monitoring: as a plugin of Nagios, and for Prometheus.

These are formatters of cliff, of this command alone: where oslo's services are, other
applications use cliff as well, and would list them.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from cliff.columns import FormattableColumn
from cliff.formatters.base import ListFormatter

SEVERITIES = ("error", "warning")
#: Exit codes of plugins (https://nagios-plugins.org/doc/guidelines.html, return codes),
#: with the words that go with them.
OK, WARNING, CRITICAL, UNKNOWN = range(4)
_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_SUBJECT = "MESSAGING"
#: Nagios keeps 4 KB of what a plugin says.
_LINES = 20

_PREFIX = "hybrid_messaging_check"
#: Values of a metric by names and values of its labels.
Samples = Counter[tuple[tuple[str, str], ...]]


class Nagios(ListFormatter):
    """A line with performance data, and the problems below it."""

    def add_argument_group(self, parser: argparse.ArgumentParser) -> None:
        """There are no options."""

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print it."""
        rows = _rows(column_names, data)
        found = [
            (problem["severity"], f"{_name(row)}: {_line(problem)}")
            for row in rows
            for problem in row["problems"]
        ]
        counts = Counter(severity for severity, _ in found)
        errors, warnings = (counts[severity] for severity in SEVERITIES)
        stdout.write(
            f"{_SUBJECT} {_WORDS[code(counts, parsed_args.ignore_warnings)]}: "
            f"errors {errors}, warnings {warnings}, services {len(rows)} | "
            f"errors={errors};;;0 warnings={warnings};;;0 services={len(rows)};;;0\n"
        )
        lines = [text for each in SEVERITIES for kind, text in found if kind == each]
        for line in lines[:_LINES]:
            stdout.write(f"{line}\n")
        if len(lines) > _LINES:
            stdout.write(f"and {len(lines) - _LINES} more\n")


def code(counts: Mapping[str, int], ignore_warnings: bool) -> int:
    """The exit code of a plugin.

    :param counts: problems by severity
    """
    if counts.get("error"):
        return CRITICAL
    return WARNING if counts.get("warning") and not ignore_warnings else OK


def unknown(reason: object) -> str:
    """What a plugin says that could not do its work."""
    return f"{_SUBJECT} {_WORDS[UNKNOWN]}: {_one_line(str(reason))}\n"


class Prometheus(ListFormatter):
    """Metrics for the text file collector of Prometheus' node exporter.

    https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
    """

    def add_argument_group(self, parser: argparse.ArgumentParser) -> None:
        """There are no options."""

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print it."""
        problems: Samples = Counter()
        services: Samples = Counter()
        for row in _rows(column_names, data):
            labels = tuple((key, row[key]) for key in ("host", "service") if key in row)
            for severity in SEVERITIES:  # zeros, so that an alert ends
                services.update({(*labels, ("severity", severity)): 0})
            for problem in row["problems"]:
                kind = ("severity", problem["severity"])
                services.update([(*labels, kind)])
                problems.update([(*labels, ("code", problem["code"]), kind)])
        _write(stdout, "service_problems", "Problems of a service.", services)
        _write(stdout, "problems", "Problems of a service, by their codes.", problems)
        now: Samples = Counter({(): int(time.time())})
        _write(stdout, "timestamp_seconds", "When they were looked for.", now)


def _write(stdout: TextIO, name: str, text: str, samples: Samples) -> None:
    stdout.write(f"# HELP {_PREFIX}_{name} {text}\n# TYPE {_PREFIX}_{name} gauge\n")
    for labels, value in sorted(samples.items()):
        inner = ",".join(f'{key}="{_label(text)}"' for key, text in labels)
        shown = f"{{{inner}}}" if inner else ""
        stdout.write(f"{_PREFIX}_{name}{shown} {value}\n")


def _label(text: str) -> str:
    """A label's value. Whatever the locale, it stays what the format allows."""
    plain = "".join(
        char if char.isascii() and char.isprintable() else "?" for char in text
    )
    return plain.replace("\\", r"\\").replace('"', r"\"")


def _rows(
    column_names: Sequence[str], data: Iterable[Sequence[Any]]
) -> list[dict[str, Any]]:
    return [
        {
            name: value.machine_readable()
            if isinstance(value, FormattableColumn)
            else value
            for name, value in zip(column_names, row, strict=True)
        }
        for row in data
    ]


def _name(row: Mapping[str, Any]) -> str:
    """Whose problem it is."""
    names = [row[key] for key in ("host", "service") if key in row]
    return _one_line(" ".join(names))


def _line(problem: Mapping[str, str]) -> str:
    where = f" ({problem['where']})" if problem["where"] else ""
    return _one_line(f"{problem['severity']}: {problem['message']}{where}")


def _one_line(text: str) -> str:
    """A text in which Nagios sees neither a new line nor performance data."""
    return " ".join(text.split()).replace("|", "/")
