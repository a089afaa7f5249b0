# SPDX-License-Identifier: Apache-2.0
"""``cluster …``: several hosts, rendered from one topology file, and checked."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hybrid_messaging.cli import options, progress, types
from hybrid_messaging.cli.base import Lister

#: argparse has 2
SOUND, ERRORS, WARNINGS = 0, 1, 3


def _add_arguments(parser: argparse.ArgumentParser, directory: str) -> None:
    parser.add_argument(
        "topology",
        type=Path,
        metavar="TOPOLOGY.yaml",
        help="file with the hosts, zones and roles",
    )
    parser.add_argument(
        "directory",
        type=types.directory,
        nargs="?",
        metavar="DIR",
        help=f"{directory} (default: the topology file's name without its suffix)",
    )


def _directory(parsed_args: argparse.Namespace) -> Path:
    given: Path | None = parsed_args.directory
    return given or parsed_args.topology.absolute().with_suffix("")


class ClusterRender(Lister):
    """Render the configuration of all hosts of a cluster.

    Writes and shows only the files that change. Makes passwords, keys and certificates
    once and keeps them in DIR, which only you can read: keep a backup.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_arguments(
            parser, "directory to write to, with a subdirectory for each host"
        )
        parser.add_argument(
            "--diff",
            action="store_true",
            help="show the changed lines, without secrets",
        )
        options.add_dry_run(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        from hybrid_messaging.cluster import reading, rendering

        topology = reading.read(parsed_args.topology)
        directory = _directory(parsed_args)
        changes, secrets = rendering.render(
            topology, directory, write=not parsed_args.dry_run
        )
        if parsed_args.diff:
            for change in changes:
                self.app.stderr.write(change.difference(secrets.secrets()))
        tell = progress.printer(self.app)
        verb = "would change" if parsed_args.dry_run else "changed"
        tell(f"{len(changes)} files {verb} in {directory}")
        return ("file", "action"), [
            (str(change.path), change.action) for change in changes
        ]


class ClusterCheck(Lister):
    """Check that the servers of a cluster are up, and form one cluster.

    Checks that routers know each other, that RabbitMQ and Kafka have all their nodes
    and copies, and that Redis has one master, on which the Sentinels agree, with
    replicas in sync. Also checks certificates, clocks and releases. Exit code 0: all is
    well; 1: there is an error; 3: there are only warnings.
    """

    _exit_code = SOUND

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_arguments(parser, "directory that `cluster render` has written")
        options.add_timeout(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        from hybrid_messaging.cluster import checking, reading
        from hybrid_messaging.cluster.findings import Severity

        findings = checking.check(
            reading.read(parsed_args.topology),
            _directory(parsed_args),
            parsed_args.timeout,
        )
        found = {finding.severity for finding in findings}
        if Severity.ERROR in found:
            self._exit_code = ERRORS
        elif Severity.WARNING in found:
            self._exit_code = WARNINGS
        return ("severity", "role", "host", "message"), [
            (finding.severity.value, finding.role, finding.host, finding.message)
            for finding in findings
        ]

    def run(self, parsed_args: argparse.Namespace) -> int:
        return super().run(parsed_args) or self._exit_code
