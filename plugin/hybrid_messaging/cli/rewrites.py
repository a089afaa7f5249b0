# SPDX-License-Identifier: Apache-2.0
"""How commands rewrite services' files, and show what they have done."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliff.app import App

from hybrid_messaging import urls
from hybrid_messaging.cli import progress

if TYPE_CHECKING:
    from hybrid_messaging.service_configs.rewriting import Rewrite, Target

    Warnings = Callable[[Rewrite, Sequence[Rewrite]], Iterable[str]]

COLUMNS = ("file", "result", "rpc", "notifications")
#: Only scripts see these as columns; people see them as text.
MACHINE_COLUMNS = ("service", "backup", "diff", "warnings", "next")

Row = dict[str, Any]


def carry_out(
    targets: Sequence[Target],
    plan: Callable[[], list[Rewrite]],
    warnings: Warnings,
    dry_run: bool = False,
) -> list[Row]:
    """Rewrite all files or none; one row for each.

    :param plan: works out what they are to contain; nobody else rewrites them meanwhile
    :param warnings: what is to be said of one of them, among all
    :raises ServiceConfigError: one of them cannot be rewritten
    """
    from hybrid_messaging.service_configs import replace
    from hybrid_messaging.service_configs.source import read_to_change

    if dry_run:
        return _rows(plan(), warnings, "would be rewritten", show_diff=True)
    with replace.exclusive([read_to_change(target.path).path for target in targets]):
        found = plan()
        rows = _rows(found, warnings, "rewritten")
        replace.replace(
            [
                replace.Replacement(item.source, item.data)
                for item in found
                if item.changes
            ]
        )
    for row, item in zip(rows, found, strict=True):
        row["backup"] = _name(replace.backup_of(item.source.path))
    return rows


def shown(
    app: App, rows: Sequence[Row], parsed_args: argparse.Namespace
) -> tuple[Sequence[str], list[list[Any]]]:
    """Columns and their values; people are told the rest beside the table."""
    columns: tuple[str, ...] = COLUMNS
    if parsed_args.formatter == "table":
        _explain(app, rows, parsed_args.dry_run)
    else:
        columns += MACHINE_COLUMNS
    return columns, [[row[column] for column in columns] for row in rows]


def _explain(app: App, rows: Sequence[Row], dry_run: bool) -> None:
    """For people: the differences, what to mind, and what comes next."""
    tell = progress.printer(app)
    for row in rows:
        if row["diff"]:
            app.stdout.write(row["diff"])
    for line in dict.fromkeys(line for row in rows for line in row["warnings"]):
        print(f"warning: {line}", file=app.stderr)
    steps = dict.fromkeys(step for row in rows for step in row["next"])
    if steps:
        tell("afterwards:" if dry_run else "next:")
    for step in steps:
        tell(f"  {step}")


def _rows(
    rewrites: Sequence[Rewrite],
    warnings: Warnings,
    changed: str,
    show_diff: bool = False,
) -> list[Row]:
    """One row for each file; what concerns all of them stands in the first."""
    from hybrid_messaging.service_configs import preview, replace, rewriting

    rows: list[Row] = [
        {
            "file": str(item.path),
            "service": item.service.name,
            "result": changed if item.changes else "unchanged",
            "rpc": urls.shown(str(item.rpc)) if item.rpc else "none",
            "notifications": urls.shown(str(item.notify)),
            "backup": _name(replace.backup_of(item.source.path)),
            "diff": preview.diff(item.before, item.after) if show_diff else None,
            "warnings": list(warnings(item, rewrites)),
            "next": [],
        }
        for item in rewrites
    ]
    rows[0]["next"] = rewriting.next_steps(rewrites)
    return rows


def _name(path: Path | None) -> str | None:
    return None if path is None else str(path)
