# SPDX-License-Identifier: Apache-2.0
"""All services of a deployment together: whether they meet where they should."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hybrid_messaging.servers.kafka import Kafka
from hybrid_messaging.servers.rabbit import Rabbit
from hybrid_messaging.service_configs import cells
from hybrid_messaging.service_configs.codes import found
from hybrid_messaging.service_configs.problem import Problem
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.rules.members import Member
from hybrid_messaging.service_configs.rules.notifications import queues
from hybrid_messaging.service_configs.settings import DURABLE


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
