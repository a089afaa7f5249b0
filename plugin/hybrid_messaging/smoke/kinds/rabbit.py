# SPDX-License-Identifier: Apache-2.0
"""rabbit://: RabbitMQ, asked through its management, rabbitmqctl, or AMQP 0-9-1."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import amqp

from hybrid_messaging.engines import HOST, EngineError, ports
from hybrid_messaging.engines import rabbitmq as engine
from hybrid_messaging.service_configs import connecting
from hybrid_messaging.smoke.bus import Bus
from hybrid_messaging.smoke.kinds import Inventory
from hybrid_messaging.smoke.run import Run

#: Seconds for each step of a connection, and for rabbitmqctl, which starts Erlang.
CONNECT_TIMEOUT = 5.0
CTL_TIMEOUT = 40.0
#: Where nodes of this machine are registered, unless the environment tells.
EPMD_PORT = 4369

LOOK_AT = {
    "separation": "`rabbitmqctl list_queues name consumers`: a queue with consumers is "
    "of a service that needs `hybrid-messaging configure` or a restart; one without is "
    "left over: delete it, or wait until it expires",
    "notify-stored": "RabbitMQ's log, and its alarms: `rabbitmqctl status`",
    "notify-delivered": "[oslo_messaging_rabbit] amqp_durable_queues or "
    "rabbit_quorum_queue: one has to be true for notifications to outlive a restart",
}
DROPS_FIRST = False

#: What oslo.messaging's rabbit driver calls the queues and exchanges of RPC
#: (`impl_rabbit.Connection.declare_*_consumer`).
RPC_NAMES = re.compile(r"reply_[0-9a-f]+|.+_fanout(_.+)?")

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def query(role: str, configured: bool) -> Mapping[str, str]:
    """See `hybrid_messaging.smoke.kinds.Kind`."""
    if role == "rpc":
        # nobody knows the names of the queues of replies and fanouts: they are left
        # to expire once nobody uses them
        return {"rabbit_transient_queues_ttl": "5"}
    return {} if configured else {"amqp_durable_queues": "true"}


def grace(bus: Bus) -> float | None:
    """See `hybrid_messaging.smoke.kinds.Kind`."""
    return None


def prepare(bus: Bus, run: Run) -> None:
    """See `hybrid_messaging.smoke.kinds.Kind`; a queue is made by whoever sends."""


def waiting(bus: Bus, run: Run) -> int | None:
    """See `hybrid_messaging.smoke.kinds.Kind`.

    :raises EngineError: it is no quorum queue, where these are wanted
    """
    quorum = bus.options.rabbit_quorum_queue
    with _connection(bus) as connection:
        try:
            found = connection.channel().queue_declare(run.notify_queue, True)
        except amqp.NotFound:
            return 0
        if quorum and connecting.lacks_durability(
            connection, run.notify_exchange, [run.notify_queue], quorum
        ):
            raise EngineError(f"{run.notify_queue} is no quorum queue")
        return int(found[1])


def inventory(bus: Bus, run: Run) -> Inventory:
    """See `hybrid_messaging.smoke.kinds.Kind`.

    An engine of ours tells everything through its management, a node of this
    machine through rabbitmqctl if we may use it. Otherwise the run's own names
    are looked for.
    """
    if bus.engine is not None:
        return Inventory(
            "its management",
            _named(engine.queues(bus.engine), engine.exchanges(bus.engine)),
        )
    return _from_ctl(bus, run) or _from_probing(bus, run)


def is_rpc(bus: Bus, name: str) -> bool:
    """See `hybrid_messaging.smoke.kinds.Kind`."""
    return RPC_NAMES.fullmatch(name) is not None


def clean_up(bus: Bus, run: Run) -> None:
    """See `hybrid_messaging.smoke.kinds.Kind`."""
    with _connection(bus) as connection:
        channel = connection.channel()
        # neither complains about what is not there
        for queue in run.queues:
            channel.queue_delete(queue)
        for exchange in run.exchanges:
            channel.exchange_delete(exchange)


def _named(
    queues: Iterable[Mapping[str, str]], exchanges: Iterable[Mapping[str, str]]
) -> Mapping[str, list[str]]:
    return {
        "queues": sorted(item["name"] for item in queues),
        # every virtual host has these
        "exchanges": sorted(
            name
            for item in exchanges
            if (name := item["name"]) and not name.startswith("amq.")
        ),
    }


def _from_ctl(bus: Bus, run: Run) -> Inventory | None:
    """What rabbitmqctl tells, if it tells of the very broker that we use."""
    program = shutil.which("rabbitmqctl")
    if program is None or not any(host.host in _LOOPBACK for host in bus.hosts):
        return None
    # without a node, it would start an epmd that listens on all interfaces, and
    # leave it behind
    if not _epmd_answers():
        return None
    listed = []
    for what in ("list_queues", "list_exchanges"):
        command = [program, "-q", what, "-p", bus.url.vhost or "/"]
        try:
            done = subprocess.run(
                [*command, "--formatter", "json", "name"],
                capture_output=True,
                timeout=CTL_TIMEOUT,
                check=True,
            )
            listed.append(json.loads(done.stdout))
        except (OSError, ValueError, subprocess.SubprocessError):
            return None
    names = _named(*listed)
    # there may be several nodes: ours is the one that has what we have made
    if run.notify_exchange not in names["exchanges"]:
        return None
    return Inventory("rabbitmqctl", names)


def _epmd_answers() -> bool:
    port = os.environ.get("ERL_EPMD_PORT", "")
    return ports.answers(HOST, int(port) if port.isdecimal() else EPMD_PORT)


def _from_probing(bus: Bus, run: Run) -> Inventory:
    """Which of the names that a run uses are there, found out one by one."""
    with _connection(bus) as connection:

        def exists(declare: str, name: str, *arguments: Any) -> bool:
            try:
                getattr(connection.channel(), declare)(name, *arguments, passive=True)
            except amqp.NotFound:
                return False
            return True

        names = {
            "queues": [name for name in run.queues if exists("queue_declare", name)],
            "exchanges": [
                name
                for name in run.exchanges
                if exists("exchange_declare", name, "topic")
            ],
        }
    return Inventory("passive declarations", names, complete=False)


@contextlib.contextmanager
def _connection(bus: Bus) -> Iterator[amqp.Connection]:
    """A connection to the first node that answers."""
    with contextlib.ExitStack() as stack:
        failure: Exception = EngineError(f"{bus} names no host")
        for host in bus.hosts:
            try:
                connection = stack.enter_context(
                    connecting.rabbit_connection(
                        bus.url, host, bus.options, CONNECT_TIMEOUT
                    )
                )
                break
            except connecting.ConnectError as error:
                failure = error
        else:
            raise EngineError(str(failure)) from failure
        yield connection
