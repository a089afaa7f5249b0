# SPDX-License-Identifier: Apache-2.0
"""All services of a deployment together: whether they meet where they should."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_messaging.servers.kafka import Kafka
from hybrid_messaging.servers.rabbit import Rabbit
from hybrid_messaging.service_configs import cells, strays
from hybrid_messaging.service_configs.catalogue import CELLS
from hybrid_messaging.service_configs.codes import found
from hybrid_messaging.service_configs.problem import Problem
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.routes import Routes
from hybrid_messaging.service_configs.rules.notifications import queues
from hybrid_messaging.service_configs.settings import DURABLE


class Member(NamedTuple):
    """One of the services; `problems` are those of its own, and take further ones."""

    config: ServiceConfig
    routes: Routes
    problems: list[Problem]


Rule = Callable[[Sequence[Member]], None]
"""Judges all services, and adds to their problems."""


def listening_apart(members: Sequence[Member]) -> None:
    """Listeners of one group share Kafka's notifications out among themselves."""
    groups: dict[Any, str] = {}
    for config, routes, problems in members:
        kafka = routes.notify.transport
        if not isinstance(kafka, Kafka) or not config.service.listens:
            continue
        group = kafka.options.consumer_group
        other = groups.setdefault((kafka.servers, group), config.service.name)
        if other != config.service.name:
            problems.append(
                found(
                    "consumer-group-shared",
                    f"{other} and {config.service.name} listen in the same group,"
                    f" {group}: each notification reaches only one of them",
                    f"set a different [{kafka.group}] consumer_group for each",
                    config.where(kafka.group, "consumer_group"),
                )
            )


def declared_alike(members: Sequence[Member]) -> None:
    """Services that share a queue for notifications declare it in one way.

    RabbitMQ refuses it to whoever comes second with another.
    """
    first: dict[Any, tuple[str, str]] = {}
    for config, routes, problems in members:
        rabbit = routes.notify.transport
        if not isinstance(rabbit, Rabbit) or not (
            config.publishes or config.service.listens
        ):
            continue
        kind = _kind(rabbit)
        for queue in queues(config):
            for server in rabbit.servers:
                key = (server, rabbit.url.vhost, queue)
                other, theirs = first.setdefault(key, (config.service.name, kind))
                if theirs == kind:
                    continue
                problems.append(
                    found(
                        "queue-kinds-differ",
                        f"{queue} is {kind} for {config.service.name}, and {theirs}"
                        f" for {other}: RabbitMQ refuses the second one to declare it",
                        "give both the same amqp_durable_queues and"
                        " rabbit_quorum_queue",
                        config.where(rabbit.group, DURABLE),
                    )
                )


def _kind(rabbit: Rabbit) -> str:
    if rabbit.options.rabbit_quorum_queue:
        return "a quorum queue"
    return "durable" if rabbit.durable else "not durable"


def together(members: Sequence[Member]) -> None:
    """RPC of all services goes to the servers that it goes to for most.

    Nova's files may be those of its cells, which differ.
    """
    option = ("DEFAULT", "transport_url")
    set_ones = [
        (member, member.routes.rpc.transport.servers)
        for member in members
        if member.routes.rpc
        and member.routes.rpc.transport
        and member.config.is_set(*option)
        # theirs stays with the notifications
        and not strays.is_on(member.config)
    ]
    used: dict[str, frozenset[tuple[str, str, int]]] = {}
    for member, theirs in set_ones:
        user = _user(member.config)
        used[user] = used.get(user, frozenset()) | theirs
    with_most = max(
        used.values(),
        key=lambda mine: sum(not mine.isdisjoint(other) for other in used.values()),
        default=frozenset(),
    )
    others = dict.fromkeys(
        member.config.service.name
        for member, _ in set_ones
        if not used[_user(member.config)].isdisjoint(with_most)
    )
    for member, theirs in set_ones:
        if used[_user(member.config)].isdisjoint(with_most):
            where, there = map(_named, (theirs, with_most))
            member.problems.append(
                found(
                    "rpc-elsewhere",
                    f"RPC goes to {where}, but RPC of {', '.join(others)} goes to"
                    f" {there}",
                    "give all services that call each other the same transport with "
                    "`configure`",
                    member.config.where(*option),
                )
            )


def _user(config: ServiceConfig) -> str:
    """Whose RPC it is: of files that go one way, or of a service with cells."""
    service = config.service
    return service.name if CELLS in service.files else config.documents[0].path


def _named(servers: Iterable[tuple[str, str, int]]) -> str:
    return " and ".join(
        f"{engine} on {host}:{port}" for engine, host, port in sorted(servers)
    )


def cells_mapped(members: Sequence[Member]) -> None:
    """Nova's cell mappings follow Nova's files."""
    nova = [
        member
        for member in members
        if member.config.service.name == "nova" and member.routes.servers is not None
    ]
    if nova:
        nova[0].problems.extend(_of_cells([member.config for member in nova]))


def _of_cells(configs: Sequence[ServiceConfig]) -> Iterator[Problem]:
    files = [
        cells.NovaFile(
            Path(config.documents[0].path),
            config.rpc_url,
            config.rpc_url,
            config.own_option("database", "connection"),
            config.own_option("api_database", "connection"),
        )
        for config in configs
    ]
    if not any(file.api_database for file in files):
        return
    where = str(files[0].path)
    try:
        outdated = cells.outdated(files)
    except cells.DatabaseUnread as error:
        yield found(
            "cells-not-read",
            f"Nova keeps RPC URLs in its database, which could not be read: {error}",
            "compare them yourself with `nova-manage cell_v2 list_cells`",
            where,
        )
        return
    for cell in outdated:
        yield found(
            "cell-mapping-outdated",
            f"Nova's database sends RPC for cell {cell.name} to {cell.transport_url}",
            f"run {cell.command}",
            where,
        )
