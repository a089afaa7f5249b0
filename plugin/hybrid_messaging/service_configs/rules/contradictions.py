# SPDX-License-Identifier: Apache-2.0
"""Options that do not go together, each by what the drivers make of them.

A known incident is one function here, its row in
`hybrid_messaging.service_configs.codes` and a test.
"""

from __future__ import annotations

from collections.abc import Iterator

from hybrid_messaging.drivers.zmq.names import is_loopback
from hybrid_messaging.servers.kafka import SECURITY, Kafka
from hybrid_messaging.servers.rabbit import Rabbit
from hybrid_messaging.servers.transport import ConnectError
from hybrid_messaging.service_configs.codes import found
from hybrid_messaging.service_configs.problem import Problem, Severity
from hybrid_messaging.service_configs.reading import ServiceConfig
from hybrid_messaging.service_configs.routes import RPC, Routes
from hybrid_messaging.service_configs.settings import NOTIFICATIONS

_LOCK_PATH = ("oslo_concurrency", "lock_path")

#: Seconds without a sign of life after which a connection counts as lost, by driver.
_HEARTBEATS = ("heartbeat_timeout_threshold", "idle_timeout")

#: Options that ask for quorum queues, and whether for RPC alone.
_QUORUM = (("rabbit_quorum_queue", False), ("rabbit_transient_quorum_queue", True))

_RABBIT_TLS = ("ssl_ca_file", "ssl_cert_file", "ssl_key_file")
_KAFKA_TLS = ("ssl_cafile", "ssl_client_cert_file", "ssl_client_key_file")


def _rabbits(routes: Routes, rpc_only: bool = False) -> Iterator[Rabbit]:
    """RabbitMQ as the service uses it; once, if it uses it twice in the same way."""
    seen: set[str] = set()
    for route in routes:
        rabbit = route.transport
        if isinstance(rabbit, Rabbit) and (route.role == RPC or not rpc_only):
            if repr(rabbit.options) not in seen:
                yield rabbit
            seen.add(repr(rabbit.options))


def one_kind_of_queue(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """A queue is a quorum queue or mirrored."""
    for quorum, rpc_only in _QUORUM:
        for rabbit in _rabbits(routes, rpc_only):
            if getattr(rabbit.options, quorum) and rabbit.options.rabbit_ha_queues:
                yield found(
                    "queue-type-ambiguous",
                    f"{quorum} and rabbit_ha_queues are both true: oslo.messaging"
                    " declares no queue",
                    config.setting(rabbit.group, "rabbit_ha_queues", "false"),
                    config.where(rabbit.group, "rabbit_ha_queues"),
                )


def streams_are_complete(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Streams for fanouts want two more options."""
    for rabbit in _rabbits(routes):
        options = rabbit.options
        if not options.rabbit_stream_fanout:
            continue
        wanted = []
        if options.rabbit_qos_prefetch_count <= 0:
            wanted.append(("rabbit_qos_prefetch_count", "10"))
        if not options.rabbit_transient_quorum_queue:
            wanted.append(("rabbit_transient_quorum_queue", "true"))
        if wanted:
            yield found(
                "stream-incomplete",
                "with rabbit_stream_fanout, oslo.messaging connects only with "
                + " and ".join(name for name, _ in wanted),
                " and ".join(config.setting(rabbit.group, *each) for each in wanted),
                config.where(rabbit.group, "rabbit_stream_fanout"),
            )


def pool_has_room(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """The pool of connections is as large as what it keeps."""
    for rabbit in _rabbits(routes):
        options = rabbit.options
        largest, least = options.rpc_conn_pool_size, options.conn_pool_min_size
        if largest < least:
            yield found(
                "pool-too-small",
                f"rpc_conn_pool_size {largest} is less than conn_pool_min_size"
                f" {least}: oslo.messaging cannot create a transport",
                config.setting(rabbit.group, "rpc_conn_pool_size", str(least)),
                config.where(rabbit.group, "rpc_conn_pool_size"),
            )


def quorum_queues_stay(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """RabbitMQ has no quorum queues that delete themselves."""
    for rabbit in _rabbits(routes):
        options = rabbit.options
        if options.rabbit_quorum_queue and options.amqp_auto_delete:
            yield found(
                "quorum-auto-delete",
                "rabbit_quorum_queue is combined with amqp_auto_delete: RabbitMQ"
                " refuses such queues",
                config.setting(rabbit.group, "amqp_auto_delete", "false"),
                config.where(rabbit.group, "amqp_auto_delete"),
            )


def manager_can_lock(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """The queue manager has a place for its locks."""
    for rabbit in _rabbits(routes, rpc_only=True):
        if rabbit.options.use_queue_manager and not config.is_set(*_LOCK_PATH):
            yield found(
                "lock-path-missing",
                "use_queue_manager needs a lock between processes, but no file sets"
                " lock_path: no call gets a queue for its reply",
                "set [oslo_concurrency] lock_path to a directory of the service,"
                " unless the service has a default or OSLO_LOCK_PATH in its"
                " environment",
                config.where(rabbit.group, "use_queue_manager"),
            )


def names_stay(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Quorum queues for replies and fanouts are found again after a restart."""
    for rabbit in _rabbits(routes, rpc_only=True):
        options = rabbit.options
        if options.rabbit_transient_quorum_queue and not options.use_queue_manager:
            yield found(
                "queue-names-change",
                "with rabbit_transient_quorum_queue, each start of a process leaves"
                " its quorum queues behind for another"
                f" {options.rabbit_transient_queues_ttl} s",
                config.setting(rabbit.group, "use_queue_manager", "true")
                + " and [oslo_concurrency] lock_path",
                config.where(rabbit.group, "rabbit_transient_quorum_queue"),
            )


def heartbeats_are_on(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """A connection for RPC that a firewall has forgotten is noticed."""
    known = routes.rpc and routes.rpc.usable
    if not known or all(is_loopback(host.host) for host in known.hosts):
        return
    for option in _HEARTBEATS:
        if getattr(known.options, option, 1) == 0:
            yield found(
                "heartbeats-off",
                f"{option} is 0: a connection that was lost silently, for example at a"
                " firewall, is not noticed, and a server waits there for ever",
                f"remove {option}, so that the default applies",
                config.where(str(known.group), option),
            )


def tls_is_on(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """TLS that is prepared is used."""
    prepared = [(rabbit, _RABBIT_TLS, "ssl", "true") for rabbit in _rabbits(routes)]
    if isinstance(routes.notify.transport, Kafka):
        kafka = routes.notify.transport
        user = "SASL_SSL" if kafka.user else "SSL"
        prepared.append((kafka, _KAFKA_TLS, SECURITY, user))  # type: ignore[arg-type]
    for known, options, switch, on in prepared:
        given = [name for name in options if getattr(known.options, name)]
        if given and not known.encrypted:
            yield found(
                "tls-not-used",
                f"{switch} is {getattr(known.options, switch)}, so passwords are sent"
                f" without TLS, and nothing reads {' and '.join(given)}",
                config.setting(str(known.group), switch, on),
                config.where(str(known.group), given[0]),
            )


def name_is_verified(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """A server with TLS proves to be the one that is meant."""
    for rabbit in _rabbits(routes):
        if rabbit.encrypted and not rabbit.options.ssl_ca_file:
            yield found(
                "server-not-verified",
                "without ssl_ca_file, oslo.messaging's rabbit driver does not compare"
                " the server's name with its certificate",
                config.setting(rabbit.group, "ssl_ca_file", "FILE")
                + ", that of the authority, such as the system's",
                config.where(rabbit.group, "ssl"),
            )


def waiting_ends(config: ServiceConfig, routes: Routes) -> Iterator[Problem]:
    """Requests that notify do not wait for servers that are away."""
    notify = routes.notify
    retry = config.conf[NOTIFICATIONS].retry
    publishes = config.service.notifies and config.publishes
    if not isinstance(notify.transport, Rabbit) or not publishes or retry >= 0:
        return
    cure = (
        f"set [{NOTIFICATIONS}] retry, for example to 3; notifications are then lost"
        " instead"
    )
    where = config.where(NOTIFICATIONS, "retry")
    away = all(
        isinstance(answer, ConnectError) and answer.code == "unreachable"
        for _, answer in notify.answers
    )
    if notify.answers and away:
        yield found(
            "waits-without-end",
            f"no server for notifications can be used, and retry is {retry}: API"
            " requests that publish a notification wait for ever",
            cure,
            where,
        )
    elif notify.answers:
        yield found(
            "waits-without-end",
            f"retry is {retry}: whenever no server for notifications can be used, API"
            " requests that publish a notification wait until one can",
            cure,
            where,
            Severity.NOTE,
        )
