# SPDX-License-Identifier: Apache-2.0
"""``migrate``: move services to another bus one by one, and back again."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from hybrid_messaging import urls
from hybrid_messaging.cli import defaults, options, progress, rewrites, service_files
from hybrid_messaging.cli.base import Lister
from hybrid_messaging.cli.rewrites import Row

if TYPE_CHECKING:
    from hybrid_messaging.service_configs.migration import Place, Plan, Stage
    from hybrid_messaging.service_configs.rewriting import Target

_COLUMNS = ("order", "what", "bus", "action")
_MACHINE_COLUMNS = ("service", "url", "note", "command")
_START, _UPDATE, _FINISH, _DONE = "start", "update", "finish", "none"
_ORDER = (_START, _UPDATE, _FINISH, _DONE)


class Migrate(Lister):
    """What all commands of a migration have in common."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        service_files.add_to_rewrite(parser, "the new bus")
        buses = parser.add_argument_group("buses")
        options.add_urls(buses, "transport URL of the new bus for {}")
        options.add_state_dir(
            buses, "the deployment that serves as the new bus, unless its URL is given"
        )
        buses.add_argument(
            "--old-url",
            default=defaults.variable("HYBRID_OLD_URL"),
            metavar="URL",
            help="transport URL of the old bus, for files that are only on the new "
            "bus and do not name the old one (default: %(default)s, which keeps a "
            "password off the command line)",
        )
        parser.add_argument(
            "--notifications",
            action="store_true",
            help="move notifications instead of RPC",
        )
        return parser


def migration_plan(parsed_args: argparse.Namespace) -> Plan:
    """What the migration is about.

    :raises TransportError: the new bus is not known, or none that can be moved to
    """
    from hybrid_messaging.service_configs import migration, transports

    role = "notify" if parsed_args.notifications else "rpc"
    new = transports.resolve_one(
        role, getattr(parsed_args, f"{role}_url"), parsed_args.state_dir
    )
    plan = migration.Plan(
        new, parsed_args.keep_vhosts, parsed_args.notifications, parsed_args.old_url
    )
    if new.driver not in plan.drivers:
        known = ", ".join(f"{each}://" for each in sorted(plan.drivers))
        raise transports.TransportError(
            f"services cannot move to {new.driver}:// one by one: the new bus has to "
            f"be one of {known}"
        )
    return plan


class _Step(Migrate):
    """One of the steps, which rewrites files."""

    #: the step's name in `service_configs.migration`
    _step: ClassVar[str]
    #: what has to be true of all hosts before the next step
    _afterwards: ClassVar[str]

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        options.add_dry_run(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        from hybrid_messaging.service_configs import migration

        targets = service_files.to_rewrite(parsed_args)
        plan = migration_plan(parsed_args)
        step = getattr(migration, self._step)
        rows = rewrites.carry_out(
            targets,
            lambda: migration.rewrites(targets, plan, step),
            lambda item, all: migration.warnings(item, all, plan),
            dry_run=parsed_args.dry_run,
        )
        rows[0]["next"].append(self._afterwards)
        return rewrites.shown(self.app, rows, parsed_args)


class MigrateStart(_Step):
    """Have services listen on both the old bus and the new one.

    Writes the URL migrate+NEW?from_url=OLD into each file. OLD is the URL that the file
    has now, or the one that `migrate finish` has kept there. NEW comes from
    HYBRID_RPC_URL, or from the deployment in the state directory. Notifications without
    a separate transport stay on the old bus. Changes nothing else, and rewrites either
    all files or none. `configure --restore` brings back the files as they were before
    the first change.
    """

    _step = "start"
    _afterwards = (
        "when all services of all hosts are on both buses (hybrid-messaging migrate "
        "status): run hybrid-messaging migrate finish, or undo"
    )


class MigrateFinish(_Step):
    """Have services that are on both buses use only the new one.

    Run this when `migrate status` exits with 0. Refuses files that are only on the old
    bus. Keeps the URL of the old bus in [oslo_messaging_migrate] from_url, where
    nothing uses it. To go back, run `migrate start`, and then `migrate undo`.
    """

    _step = "finish"
    _afterwards = (
        "when all services of all hosts are on the new bus: turn off the old one, and "
        "remove [oslo_messaging_migrate] from_url"
    )


class MigrateUndo(_Step):
    """Have services that are on both buses use only the old one again.

    Refuses files that are only on the new bus, because their services would no longer
    reach others there. First bring all services back onto both buses with `migrate
    start`, and restart them.
    """

    _step = "undo"
    _afterwards = (
        "when all services of all hosts are on the old bus: turn off the new one"
    )


class MigratePlan(Migrate):
    """Show which bus each service is on, and what to do next, in order.

    Changes nothing, and connects only to Nova's database, whose cell mappings also have
    URLs. Each file is on the old bus, on both, or on the new one, or is foreign: it
    takes no part in the migration.
    """

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        targets = service_files.to_rewrite(parsed_args)
        plan = migration_plan(parsed_args)
        rows = list(_planned(targets, plan))
        for number, row in enumerate(rows, 1):
            row["order"] = number if row["action"] != _DONE else None
        columns: tuple[str, ...] = _COLUMNS
        if parsed_args.formatter == "table":
            tell = progress.printer(self.app)
            for line in dict.fromkeys(filter(None, (row["note"] for row in rows))):
                tell(line)
            for line in _explained(rows):
                tell(line)
        else:
            columns += _MACHINE_COLUMNS
        return columns, [[row[column] for column in columns] for row in rows]


def _planned(targets: Sequence[Target], plan: Plan) -> list[Row]:
    """One row for each file and each cell mapping, in the order of what is to be done.

    Within a step, each order will do; but who takes notifications goes first.
    """
    from hybrid_messaging.service_configs import migration
    from hybrid_messaging.service_configs.migration import Stage

    places = [migration.look(target, plan) for target in targets]
    stages = {place.buses.stage for place in places}
    actions = {
        Stage.OLD: _START,
        Stage.BOTH: _DONE if Stage.OLD in stages else _FINISH,
        # these do not reach each other
        Stage.NEW: _START if Stage.OLD in stages else _DONE,
        Stage.FOREIGN: _DONE,
    }

    def rank(place: Place) -> tuple[int, bool]:
        action = actions[place.buses.stage]
        return _ORDER.index(action), not (plan.notifications and place.service.listens)

    rows = []
    for place in sorted(places, key=rank):
        path, stage, reason = place.target.path, place.buses.stage, place.buses.reason
        note = f"{path}: {reason}" if reason else None
        text = place.text
        name = place.service.name
        rows.append(_row(str(path), stage.value, actions[stage], name, text, note))
    if not plan.notifications:
        rows += _cells(targets, plan, actions)
    return sorted(rows, key=lambda row: _ORDER.index(row["action"]))


def _cells(
    targets: Sequence[Target], plan: Plan, actions: Mapping[Stage, str]
) -> Iterator[Row]:
    from hybrid_messaging.service_configs import cells, migration, rewriting

    files = list(
        rewriting.nova_files(
            migration.rewrites(targets, plan, lambda place, plan: place.text)
        )
    )
    if not files:
        return
    try:
        found = cells.known(files)
    except cells.DatabaseUnread as error:
        note = f"Nova's database has the URL of each cell, and was not read: {error}"
        yield _row("cell mappings", "unknown", _DONE, "nova", None, note)
        return
    of_files = {target.path: target for target in targets}
    for cell in found:
        place = migration.look(of_files[cell.file.path], plan)
        stage = migration.of_url(cell.url, place.url, any_vhost=plan.keep_vhosts).stage
        # it follows its file
        follows = stage is place.buses.stage
        action = actions[stage] if follows else _UPDATE
        yield {
            **_row(f"cell {cell.name}", stage.value, action, "nova", cell.url),
            "command": cell.command,
        }


def _row(
    what: str,
    bus: str,
    action: str,
    service: str,
    url: str | None,
    note: str | None = None,
) -> Row:
    return {
        "what": what,
        "bus": bus,
        "action": action,
        "service": service,
        "url": urls.shown(url) if url else None,
        "note": note,
        "command": None,
    }


def _explained(rows: Sequence[Row]) -> Iterator[str]:
    """What to do, for people."""
    actions = Counter(row["action"] for row in rows)
    if actions[_START]:
        yield (
            "first: run hybrid-messaging migrate start, and restart the services in "
            "any order"
        )
    for row in rows:
        if row["command"] and row["action"] in (_START, _UPDATE):
            yield f"for {row['what']}: {row['command']}"
    if actions[_FINISH]:
        yield (
            "when hybrid-messaging migrate status exits with 0, and no other host has "
            "files on the old bus: run hybrid-messaging migrate finish, and restart "
            "the services in any order"
        )
    if not actions.keys() - {_DONE}:
        yield "there is nothing to do here"
