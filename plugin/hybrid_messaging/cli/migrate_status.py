# SPDX-License-Identifier: Apache-2.0
"""``migrate status``: who is on the old bus, on both, and on the new one."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hybrid_messaging import state_directory
from hybrid_messaging.cli import options, progress, service_files, types
from hybrid_messaging.cli.migrate import Migrate, migration_plan

if TYPE_CHECKING:
    from hybrid_messaging.servers.census import Census
    from hybrid_messaging.servers.insight import Look
    from hybrid_messaging.service_configs.migration import Place
    from hybrid_messaging.service_configs.migration_status import (
        Pair,
        Progress,
        Side,
    )

SAFE, NOT_YET, UNKNOWN = 0, 1, 2

#: Seconds in which RabbitMQ updates its counters twice.
_INTERVAL = 10.0
_COLUMNS = ("topic", "old only", "both", "new only", "over old", "over new")
_MACHINE_COLUMNS = (
    *("kind", "name", "old", "both", "new", "over_old", "over_new"),
    *("messages", "consumers"),
)

_Row = dict[str, Any]


class MigrateStatus(Migrate):
    """Show who is on the old bus, on both, and on the new one.

    Asks both buses who uses them, and counts the requests over each for some seconds.
    With --notifications, asks the old bus how many notifications wait and arrive there.
    Queries the management of RabbitMQ (that of `up`, or --rabbitmq-management) or
    rabbitmqctl, the management of routers, and the matchmaker of ZeroMQ. Exit code 0:
    nothing that can be seen prevents `migrate finish`; 1: something does, and is
    listed; 2: the command could not find out.
    """

    _exit_code = SAFE

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        options.add_timeout(parser)
        parser.add_argument(
            "--old-state-dir",
            type=types.directory,
            metavar="DIR",
            help="state directory of the old bus, if `up` has started it",
        )
        options.add_rabbitmq_management(parser)
        parser.add_argument(
            "--interval",
            type=types.seconds,
            default=_INTERVAL,
            metavar="SECONDS",
            help="seconds for which messages are counted; RabbitMQ updates its "
            "counters every five; 0: do not count (default: %(default)g)",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        from hybrid_messaging.servers.insight import Look
        from hybrid_messaging.service_configs import migration, migration_status

        targets = service_files.to_rewrite(parsed_args)
        plan = migration_plan(parsed_args)
        places = [migration.look(target, plan) for target in targets]
        directories = filter(None, (parsed_args.state_dir, parsed_args.old_state_dir))
        running = filter(None, map(state_directory.load, directories))
        engines = [engine for each in running for engine in each.engines]
        pairs = migration_status.pairs(places, plan, engines)
        look = Look(parsed_args.timeout, management=parsed_args.rabbitmq_management)
        missing = list(migration_status.files(places))
        rows: list[_Row] = []
        unknown: list[str] = []
        for pair, found in self._compared(pairs, look, parsed_args):
            prefix = f"{pair.name}: " if len(pairs) > 1 else ""
            rows += _rows(prefix, found)
            missing += [f"{prefix}{line}" for line in found.missing]
            unknown += [f"{prefix}{line}" for line in found.unknown]
        self._exit_code = NOT_YET if missing else SAFE
        if parsed_args.formatter == "table":
            self._explain(rows, missing, unknown)
            if not missing:
                self._tell_what_next(places, parsed_args.notifications)
            return _COLUMNS, [_cells(row) for row in rows if row["kind"] == "topic"]
        rows += [_row("missing", line) for line in missing]
        rows += [_row("unknown", line) for line in unknown]
        return _MACHINE_COLUMNS, [
            [row[name] for name in _MACHINE_COLUMNS] for row in rows
        ]

    def _compared(
        self, pairs: Sequence[Pair], look: Look, parsed_args: argparse.Namespace
    ) -> Iterator[tuple[Pair, Progress]]:
        from hybrid_messaging.service_configs import migration_status

        tell = progress.printer(self.app)
        notifications = parsed_args.notifications
        sides = [
            side
            for pair in pairs
            for side in ((pair.old,) if notifications else (pair.old, pair.new))
        ]
        before = [_ask(side, look, tell) for side in sides]
        after = before
        if parsed_args.interval:
            self._wait(parsed_args.interval)
            after = [_ask(side, look, lambda line: None) for side in sides]
        looks = iter(zip(before, after, strict=True))
        if notifications:
            for pair, old in zip(pairs, looks, strict=True):
                found = migration_status.notified(*old, parsed_args.interval)
                yield pair, found
            return
        for pair, old, new in zip(pairs, looks, looks, strict=True):
            yield pair, migration_status.compare(old, new, parsed_args.interval)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        try:
            while (left := until - time.monotonic()) > 0:
                progress.transient(self.app, f"counting messages: {left:.0f} s")
                time.sleep(min(left, 1.0))
        finally:
            progress.transient(self.app, "")

    def _explain(
        self, rows: Sequence[_Row], missing: Sequence[str], unknown: Sequence[str]
    ) -> None:
        """For people: what is not about servers, and what it all means."""
        tell = progress.printer(self.app)
        for row in rows:
            if row["kind"] == "notifications":
                tell(
                    f"notifications on the old bus: {row['name']}: {row['messages']} "
                    f"wait, {row['consumers']} consumers"
                )
        for heading, lines in (("not known:", unknown), ("missing:", missing)):
            if lines:
                tell(heading)
            for line in lines:
                tell(f"  {line}")

    def _tell_what_next(self, places: Sequence[Place], notifications: bool) -> None:
        """For people: nothing that can be seen is missing."""
        from hybrid_messaging.service_configs.migration import Stage

        stages = {place.buses.stage for place in places}
        step = "finish --notifications" if notifications else "finish"
        progress.printer(self.app)(
            f"as far as is known, `migrate {step}` is safe"
            if Stage.BOTH in stages
            else "these files are on the new bus alone; the old one can be turned off "
            "when that is so on all hosts, and their services have been restarted"
        )

    def run(self, parsed_args: argparse.Namespace) -> int:
        try:
            return super().run(parsed_args) or self._exit_code
        except Exception as error:
            if self.app.options.debug:
                raise
            print(error, file=self.app.stderr)
            return UNKNOWN


def _ask(side: Side, look: Look, tell: Callable[[str], None]) -> Census:
    for transport in side.transports.values():
        hosts = ", ".join(map(transport.shown, transport.hosts))
        tell(f"asking {transport.title} at {hosts}")
    return side.census(look)


def _row(kind: str, name: str, **more: Any) -> _Row:
    return {**dict.fromkeys(_MACHINE_COLUMNS), "kind": kind, "name": name, **more}


def _rows(prefix: str, found: Progress) -> Iterator[_Row]:
    for topic in found.topics:
        yield _row(
            "topic",
            f"{prefix}{topic.name}",
            old=topic.old,
            both=topic.both,
            new=topic.new,
            over_old=topic.over_old,
            over_new=topic.over_new,
        )
    for process in found.processes or ():
        yield _row("process", f"{prefix}{process}")
    for name, queue in sorted(found.notifications.items()):
        yield _row(
            "notifications",
            f"{prefix}{name}",
            messages=queue.messages,
            consumers=queue.consumers,
        )


def _cells(row: _Row) -> list[Any]:
    counted = (
        "?" if row[name] is None else row[name] for name in ("over_old", "over_new")
    )
    return [row["name"], *(len(row[name]) for name in ("old", "both", "new")), *counted]
