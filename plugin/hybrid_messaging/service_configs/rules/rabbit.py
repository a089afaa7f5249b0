# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ: whether it does what services ask for, and keeps their notifications."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from hybrid_messaging.servers.rabbit import Rabbit
from hybrid_messaging.service_configs.codes import found
from hybrid_messaging.service_configs.problem import Problem
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.routes import (
    NOTIFY,
    RPC,
    Route,
    Routes,
    Servers,
)
from hybrid_messaging.service_configs.rules.notifications import queues
from hybrid_messaging.service_configs.settings import DURABLE


def accepted(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """The server's release refuses none of the options, and ignores none."""
    for route in routes:
        rabbit = route.transport
        if not isinstance(rabbit, Rabbit):
            continue
        for host, said in route.answers:
            if not isinstance(said, str) or routes.servers is None:
                continue
            for rule in routes.servers.broken(rabbit, host, said, route.role == RPC):
                yield found(
                    rule.code,
                    f"{said} {rule.message}",
                    rule.cure(functools.partial(config.setting, rabbit.group)),
                    config.where(rabbit.group, rule.option),
                )


def _exchange(config: ServiceConfig) -> str:
    if config.is_set("DEFAULT", "control_exchange"):
        return str(config.conf.control_exchange)
    return config.service.exchange


def _place(route: Route, rabbit: Rabbit) -> str:
    vhost = rabbit.url.vhost or "/"
    return f"RabbitMQ {rabbit.shown(route.asked[0])} (virtual host {vhost!r})"


def without_leftovers(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """No queue of former days stops notifications.

    oslo.messaging then sends none at all: the declaration fails with 406,
    and the publisher tries again for ever.
    """
    for route in routes.carrying(NOTIFY):
        yield from _leftovers(config, route, routes.servers)


def _leftovers(
    config: ServiceConfig, route: Route, servers: Servers | None
) -> Iterator[Problem]:
    rabbit = route.transport
    if not isinstance(rabbit, Rabbit):
        return
    if servers is None or not route.reached:
        return
    differing = servers.differing(
        rabbit, route.asked[0], _exchange(config), queues(config)
    )
    quorum = rabbit.options.rabbit_quorum_queue
    for name, argument in differing.items():
        there = f"{name} exists on {_place(route, rabbit)}"
        if argument in ("durable", "x-queue-type"):
            if argument == "durable" and not rabbit.durable:
                state = "durable"
            elif quorum and name.startswith("queue "):
                state = "not a quorum queue"
            elif argument == "durable":
                state = "not durable"
            else:
                state = "not a classic queue"
            yield found(
                "not-durable-on-server",
                f"{there} and is {state}: notifications cannot be sent to it as"
                " configured",
                "stop the services, then delete it, or restart RabbitMQ, which"
                " discards everything that is not durable; or use a separate virtual"
                " host"
                if rabbit.durable
                else config.setting(rabbit.group, DURABLE, "true")
                + ", or stop the services, empty it and delete it",
                route.where,
            )
        else:
            yield found(
                "queue-declared-otherwise",
                f"{there} with another {argument}: notifications cannot be sent to it "
                "as configured",
                "restore the services' former options; or stop the services, then"
                " empty and delete it",
                route.where,
            )


def quorum_has_exchange(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Quorum queues of RPC can be bound to an exchange that exists.

    Where it is not durable, oslo.messaging declares queues as it is, which RabbitMQ
    refuses for quorum queues, for ever (`Consumer._declare_fallback_nondurable`).
    """
    for rpc in routes.carrying(RPC):
        yield from _quorum_without_exchange(config, rpc, routes.servers)


def _quorum_without_exchange(
    config: ServiceConfig, rpc: Route, servers: Servers | None
) -> Iterator[Problem]:
    rabbit = rpc.transport
    if servers is None or not rpc.reached:
        return
    if not isinstance(rabbit, Rabbit) or not rabbit.options.rabbit_quorum_queue:
        return
    differing = servers.differing(rabbit, rpc.asked[0], _exchange(config), [])
    for name, argument in differing.items():
        if argument != "durable":
            continue
        yield found(
            "not-durable-on-server",
            f"{name} exists on {_place(rpc, rabbit)} and is not durable: RPC servers "
            "with quorum queues do not start",
            "stop the services, then delete it, or restart RabbitMQ, which discards"
            " everything that is not durable; or use a separate virtual host",
            rpc.where,
        )


def durable(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Notifications outlive a restart of the server."""
    for route in routes.carrying(NOTIFY):
        rabbit = route.transport
        if isinstance(rabbit, Rabbit) and not rabbit.durable:
            yield found(
                "notifications-not-durable",
                "notifications are lost when RabbitMQ restarts: their queues are not "
                "durable",
                config.setting(rabbit.group, DURABLE, "true") + ", as `configure` does",
                config.where(rabbit.group, DURABLE),
            )
