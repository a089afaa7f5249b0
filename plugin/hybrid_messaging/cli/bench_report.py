# SPDX-License-Identifier: Apache-2.0
"""``bench report``: render results anew, and compare runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hybrid_messaging.cli import progress
from hybrid_messaging.cli.base import Lister


class BenchReport(Lister):
    """Show the figures of one or more `bench run` results, and write a report.

    The report shows the scenarios of several results side by side.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "result",
            nargs="+",
            type=Path,
            help="output directory of a run, or its result.json",
        )
        parser.add_argument(
            "--html",
            type=Path,
            metavar="FILE",
            help="file for the report (default: report.html beside the result;"
            " report-comparison.html in the current directory for several results)",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        from hybrid_messaging.bench import report, result, run, summary

        paths = [
            path / run.RESULT_FILE if path.is_dir() else path
            for path in parsed_args.result
        ]
        found = result.combined(
            {
                name: result.load(path)
                for name, path in zip(_names(paths), paths, strict=True)
            }
        )
        alone = len(paths) == 1
        target = parsed_args.html or (
            paths[0].with_name(run.REPORT_FILE)
            if alone
            else Path("report-comparison.html")
        )
        result.write(target, report.render(found))
        progress.printer(self.app)(f"the report is in {target}")
        return summary.table(summary.rows(found))


def _names(paths: Sequence[Path]) -> list[str]:
    """What tells results apart: their directories, with a number if need be."""
    names: list[str] = []
    for path in paths:
        name = path.resolve().parent.name
        taken = [other for other in names if other.partition("#")[0] == name]
        names.append(f"{name}#{len(taken) + 1}" if taken else name)
    return names
