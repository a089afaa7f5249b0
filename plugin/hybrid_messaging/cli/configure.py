# SPDX-License-Identifier: Apache-2.0
"""``configure``: rewrite services' files so that they use the two transports."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_messaging import urls
from hybrid_messaging.cli import options, progress, service_files, transport_options
from hybrid_messaging.cli.base import Lister

if TYPE_CHECKING:
    from hybrid_messaging.service_configs.rewriting import Rewrite, Target
    from hybrid_messaging.service_configs.transports import Transports

_COLUMNS = ("file", "result", "rpc", "notifications")
#: Only scripts see these as columns; people see them as text.
_MACHINE_COLUMNS = ("service", "backup", "diff", "warnings", "next")

Row = dict[str, Any]


class Configure(Lister):
    """Rewrite services' configuration files for hybrid messaging.

    Sets [DEFAULT] transport_url, transport_url and driver of
    [oslo_messaging_notifications], and the options that make notification queues
    durable. Every other byte stays as it is, and either all files are rewritten or
    none. The transports are those of the deployment in the state directory, or are
    given as URLs, or as a mode with hosts. Pass passwords in environment variables,
    not on the command line: in HYBRID_RPC_URL and HYBRID_NOTIFY_URL, or in
    HYBRID_RPC_PASSWORD and HYBRID_NOTIFY_PASSWORD.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "files",
            nargs="*",
            metavar="FILE",
            help="a configuration file; FILE=VHOST sets the virtual host of its RPC",
        )
        service_files.add_discover(parser)
        action = parser.add_mutually_exclusive_group()
        options.add_dry_run(action)
        action.add_argument(
            "--restore",
            action="store_true",
            help="restore the files as they were before they were first configured",
        )
        transport_options.add(parser)
        hosts = parser.add_argument_group("virtual hosts of RPC")
        vhost = hosts.add_mutually_exclusive_group()
        vhost.add_argument("--vhost", help="virtual host for all files without =VHOST")
        vhost.add_argument(
            "--keep-vhosts",
            action="store_true",
            help="keep the virtual host of each file (for cells of Nova)",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        targets = _targets(parsed_args)
        if parsed_args.restore:
            rows = self._restore(targets)
        else:
            rows = self._configure(
                targets, transport_options.resolve(parsed_args), parsed_args
            )
        columns: tuple[str, ...] = _COLUMNS
        if parsed_args.formatter == "table":
            self._explain(rows, "afterwards:" if parsed_args.dry_run else "next:")
        else:
            columns += _MACHINE_COLUMNS
        return columns, [[row[column] for column in columns] for row in rows]

    def _configure(
        self,
        targets: Sequence[Target],
        transports: Transports,
        parsed_args: argparse.Namespace,
    ) -> list[Row]:
        from hybrid_messaging.service_configs import replace, rewriting
        from hybrid_messaging.service_configs.source import read_to_change

        def plan() -> list[Rewrite]:
            return rewriting.plan(targets, transports, parsed_args.keep_vhosts)

        if parsed_args.dry_run:
            return _rows(plan(), "would be rewritten", show_diff=True)
        with replace.exclusive(
            [read_to_change(target.path).path for target in targets]
        ):
            rewrites = plan()
            rows = _rows(rewrites, "rewritten")
            replace.replace(
                [
                    replace.Replacement(item.source, item.data)
                    for item in rewrites
                    if item.changes
                ]
            )
        for row, item in zip(rows, rewrites, strict=True):
            row["backup"] = _name(replace.backup_of(item.source.path))
        return rows

    def _restore(self, targets: Sequence[Target]) -> list[Row]:
        from hybrid_messaging.service_configs import replace, rewriting
        from hybrid_messaging.service_configs.services import identify
        from hybrid_messaging.service_configs.source import read_to_change

        paths = {read_to_change(target.path).path: target.path for target in targets}
        with replace.exclusive(paths):
            former = rewriting.rpc_urls(list(paths.values()))
            replace.restore([read_to_change(path) for path in paths])
        rows: list[Row] = [
            {
                **dict.fromkeys(_COLUMNS + _MACHINE_COLUMNS),
                "file": str(path),
                "service": identify(path).name,
                "result": "restored",
                "warnings": [],
                "next": [],
            }
            for path in paths.values()
        ]
        rows[0]["next"] = rewriting.steps_back(former)
        return rows

    def _explain(self, rows: Sequence[Row], heading: str) -> None:
        """For people: the differences, what to mind, and what comes next."""
        tell = progress.printer(self.app)
        for row in rows:
            if row["diff"]:
                self.app.stdout.write(row["diff"])
        for line in dict.fromkeys(line for row in rows for line in row["warnings"]):
            print(f"warning: {line}", file=self.app.stderr)
        steps = dict.fromkeys(step for row in rows for step in row["next"])
        if steps:
            tell(heading)
        for step in steps:
            tell(f"  {step}")


def _targets(parsed_args: argparse.Namespace) -> list[Target]:
    """The files named and found, with the virtual host that was asked for."""
    from hybrid_messaging.service_configs.rewriting import Target

    targets = []
    for argument in service_files.to_write(parsed_args):
        path, equals, vhost = str(argument).rpartition("=")
        if equals and not os.path.lexists(argument):
            targets.append(Target(Path(path), vhost))
        else:
            targets.append(Target(Path(argument), parsed_args.vhost))
    return targets


def _rows(
    rewrites: Sequence[Rewrite], changed: str, show_diff: bool = False
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
            "warnings": list(rewriting.warnings(item, rewrites)),
            "next": [],
        }
        for item in rewrites
    ]
    rows[0]["next"] = rewriting.next_steps(rewrites)
    return rows


def _name(path: Path | None) -> str | None:
    return None if path is None else str(path)
