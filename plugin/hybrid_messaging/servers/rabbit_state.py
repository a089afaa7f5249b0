# SPDX-License-Identifier: Apache-2.0
"""The state of a RabbitMQ, as far as its users can see it over AMQP 0-9-1 alone."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import amqp

from hybrid_messaging.servers.backlog import MOMENT, Backlog
from hybrid_messaging.servers.insight import Insight, ServerProblem


def unread(
    connection: amqp.Connection, queues: Sequence[str], vhost: str
) -> Iterator[ServerProblem]:
    """Queues in which notifications wait for nobody.

    RabbitMQ does not tell for how long: whether more come shows a second look.
    """
    before = _unread(connection, queues)
    if before:
        time.sleep(MOMENT)
    for queue, waiting in _unread(connection, before).items():
        more = max(0, waiting - before[queue])
        yield Backlog(f"{queue} (virtual host {vhost!r})", waiting, more).problem()


def _unread(connection: amqp.Connection, queues: Iterable[str]) -> dict[str, int]:
    """How many messages wait in queues that have some, and no consumer."""
    found: dict[str, int] = {}
    for queue in queues:
        try:
            _, waiting, consumers = connection.channel().queue_declare(
                queue, passive=True
            )
        except (amqp.NotFound, amqp.AccessRefused, amqp.ResourceLocked):
            continue
        if waiting and not consumers:
            found[queue] = waiting
    return found


def alarmed(
    connection: amqp.Connection, timeout: float, insight: Insight
) -> Iterator[ServerProblem]:
    """Whether publishers are blocked, which RabbitMQ tells them when they publish.

    What is published has nowhere to go, and RabbitMQ drops it
    (https://www.rabbitmq.com/docs/connection-blocked).
    """
    said: list[str] = []
    connection.on_blocked = said.append
    try:
        channel = connection.channel()
        channel.confirm_select()
        channel.events["basic_ack"].add(lambda *_: said.append(""))
        channel.basic_publish(amqp.Message(""), routing_key=uuid.uuid4().hex)
        _drain(connection, said, timeout)
    except (OSError, amqp.AMQPError) as error:
        insight.unseen.append(f"alarms of memory and disk: {error}")
    if any(said):
        connection.collect()  # it does not answer a farewell, either
        yield ServerProblem(
            "server-alarm",
            "RabbitMQ blocks publishers: it is low on memory or disk space",
            "see `rabbitmq-diagnostics alarms`; empty queues that have no consumer, or"
            " give it more",
        )


def of_one_cluster(names: Mapping[str, str]) -> Iterator[ServerProblem]:
    """Whether nodes belong together.

    :param names: what they say their cluster is called, by their addresses
    """
    if len(set(names.values())) > 1:
        named = ", ".join(f"{where} of {name}" for where, name in names.items())
        yield ServerProblem(
            "clusters-differ",
            f"the URL names nodes of different clusters: {named}",
            "join them into one cluster, or correct the URL",
        )


def _drain(connection: amqp.Connection, said: list[Any], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not said and (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(TimeoutError):
            connection.drain_events(timeout=left)
    if not said:
        raise TimeoutError("it does not confirm a message")
