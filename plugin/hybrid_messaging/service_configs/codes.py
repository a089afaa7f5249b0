# SPDX-License-Identifier: Apache-2.0
"""The table of problems: all that `check` can find, by their codes.

The documentation shows this table, whose texts are reStructuredText. The message and
the cure of a problem that is found name the files, servers and options in question.
"""

from __future__ import annotations

from typing import NamedTuple

from hybrid_messaging.service_configs.problem import Problem, Severity


class Code(NamedTuple):
    """One kind of problem.

    :param severity: unless the rule that finds it knows better
    :param meaning: what is wrong
    :param cure: what to do about it
    :param source: who says so: the code that behaves like that, or documentation
    """

    severity: Severity
    meaning: str
    cure: str
    source: str


_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

_URL = "oslo.messaging, ``TransportURL.parse``"
_SERVER = "the server's answer"
_RABBIT = "oslo.messaging, ``impl_rabbit.Connection``"
_KAFKA = "oslo.messaging, ``impl_kafka``"
_NOTIFIER = "oslo.messaging, ``notify/notifier.py``"
_OPTIONS = "``list_opts`` in the service's environment"
_HISTORY = "oslo.messaging's releases, ``service_configs/retired.py``"
_MANAGEMENT = "RabbitMQ's management, ``--rabbitmq-management``"
_CELLS = "Nova, ``objects/cell_mapping.py``"

CODES = {
    "address-unknown": Code(
        _ERROR,
        "ZeroMQ: the name that servers give to clients has no address on this host",
        "set ``rpc_zmq_host`` to a name that all hosts resolve",
        ":doc:`zmq`",
    ),
    "agent-changes-url": Code(
        _ERROR,
        "ironic-neutron-agent appends an option to ``amqp://`` that the driver does"
        " not accept",
        "set ``amqp_auto_delete`` in ``ironic_neutron_agent.ini``",
        "networking-baremetal, ``agent/ironic_neutron_agent.py``",
    ),
    "bad-url": Code(
        _ERROR,
        "not a transport URL, or its query names an option that the driver does not"
        " have",
        "correct the URL",
        _URL,
    ),
    "cell-mapping-outdated": Code(
        _ERROR,
        "Nova's database has another RPC URL than Nova's files",
        "run the ``nova-manage`` command that is printed",
        _CELLS,
    ),
    "cells-not-read": Code(
        _WARNING,
        "Nova's database could not be read",
        "compare with ``nova-manage cell_v2 list_cells``",
        _CELLS,
    ),
    "certificate-ended": Code(
        _ERROR,
        "a certificate has expired, or is not valid yet",
        "replace it",
        "the certificate",
    ),
    "certificate-ends": Code(
        _WARNING,
        "a certificate ends within ``--certificates-days``",
        "renew it",
        "the certificate",
    ),
    "cluster-partitioned": Code(
        _ERROR,
        "the cluster of RabbitMQ is partitioned",
        "restart the nodes of the smaller partition",
        _MANAGEMENT,
    ),
    "clusters-differ": Code(
        _ERROR,
        "a URL names RabbitMQ nodes of different clusters: messages to one do not"
        " reach the others",
        "join them, or correct the URL",
        "the server's ``cluster_name``",
    ),
    "consumer-elsewhere": Code(
        _ERROR,
        "ceilometer listens on other servers or virtual hosts than the ones that"
        " notifications go to",
        "correct or remove ``[notification] messaging_urls``",
        "Ceilometer, ``notification.py``",
    ),
    "consumer-group-shared": Code(
        _ERROR,
        "two services consume from one Kafka in the same group, so each notification"
        " reaches only one of them",
        "give each a ``consumer_group``",
        f"{_KAFKA}, ``KafkaListener``",
    ),
    "credentials-not-used": Code(
        _WARNING,
        "user and password of the URL are not sent to Kafka",
        "set ``security_protocol`` to ``SASL_PLAINTEXT`` or ``SASL_SSL``",
        f"{_KAFKA}, ``ProducerConnection``",
    ),
    "driver-not-importable": Code(
        _ERROR,
        "the service's Python cannot import the driver",
        "install the package that is named",
        "entry points ``oslo.messaging.drivers``",
    ),
    "feature-deprecated": Code(
        _WARNING,
        "RabbitMQ is used in a way that a later release does not allow",
        "change the options that :doc:`rabbit` names",
        _MANAGEMENT,
    ),
    "heartbeats-off": Code(
        _WARNING,
        "connections for RPC have no heartbeat, so a server may wait on a dead"
        " connection for ever",
        "remove the option that is named",
        f"{_RABBIT}, ``_heartbeat_supported_and_enabled``; :doc:`amqp`",
    ),
    "local-address": Code(
        _WARNING,
        "ZeroMQ: Redis is on another host, but servers listen where no other host can"
        " reach them",
        "set ``rpc_zmq_bind_address`` to an address of the services' network",
        ":doc:`zmq`",
    ),
    "lock-path-missing": Code(
        _ERROR,
        "``use_queue_manager`` is set without ``[oslo_concurrency] lock_path``: calls"
        " fail",
        "set ``lock_path``",
        "oslo.messaging, ``QManager.get``; bug 2031497",
    ),
    "mechanism-missing": Code(
        _ERROR,
        "the router offers no usable SASL mechanism; it may accept passwords only over"
        " TLS",
        "set the driver's TLS options, or correct ``sasl_mechanisms``",
        _SERVER,
    ),
    "no-keys": Code(
        _ERROR,
        "ZeroMQ: servers do not start, because Redis has no password to derive keys"
        " from",
        "put a user and password of Redis into the URL",
        ":doc:`zmq`",
    ),
    "no-notification-driver": Code(
        _WARNING,
        "the notification driver is missing, ``noop`` or ``log``",
        "set ``driver = messagingv2``",
        _NOTIFIER,
    ),
    "node-away": Code(
        _WARNING,
        "a node of the RabbitMQ cluster is down",
        "start it, or remove it from the cluster",
        _MANAGEMENT,
    ),
    "nodes-not-named": Code(
        _WARNING,
        "a URL names a single node of a RabbitMQ cluster",
        "name all nodes, unless the address stands for all of them",
        _MANAGEMENT,
    ),
    "not-checked": Code(
        _WARNING,
        "an option refers to another one that only the service knows, so it was not"
        " checked",
        "set the other option in the service's file",
        "oslo.config",
    ),
    "not-durable-on-server": Code(
        _ERROR,
        "an exchange or queue on RabbitMQ is not durable, or not a quorum queue as"
        " configured; or it is durable, but not configured to be",
        "stop the services, then delete it",
        f"{_RABBIT}: 406 ``PRECONDITION_FAILED``",
    ),
    "notification-driver-unknown": Code(
        _ERROR,
        "the service's Python has no such notification driver",
        "set ``driver = messagingv2``",
        "entry points ``oslo.messaging.notify.drivers``",
    ),
    "notifications-elsewhere": Code(
        _WARNING,
        "middleware or a pipeline has a separate URL to publish to",
        "remove that URL, or make sure that a consumer listens there",
        "keystonemiddleware, ceilometermiddleware, Ceilometer's publishers",
    ),
    "notifications-maybe-not-stored": Code(
        _WARNING,
        "notifications go over ``amqp://``, and without a connection it is unknown"
        " whether a broker or a router answers",
        "check without ``--no-connect``",
        ":doc:`amqp`",
    ),
    "notifications-not-durable": Code(
        _WARNING,
        "notifications are lost when RabbitMQ restarts",
        "set ``amqp_durable_queues`` or ``rabbit_quorum_queue``",
        _RABBIT,
    ),
    "notifications-not-read": Code(
        _WARNING,
        "notifications pile up in a queue that has no consumer: 1,000 wait, or at least"
        " 100 and more arrive, or (Kafka) the oldest waits for more than an hour",
        "start the consumer, or stop publishing",
        _SERVER,
    ),
    "notifications-not-stored": Code(
        _ERROR,
        "notifications go through a router, which stores nothing",
        "send them to a broker",
        ":doc:`amqp`",
    ),
    "notifications-over-rpc": Code(
        _ERROR,
        "the service sends or receives notifications on its RPC transport",
        "give its RPC the transport of notifications",
        "the service's code",
    ),
    "notifications-waiting": Code(
        _NOTE,
        "a few notifications wait in a queue that nobody reads, as in a new cloud",
        "start the consumer, or publish none",
        _SERVER,
    ),
    "option-deprecated": Code(
        _WARNING,
        "an option is deprecated in the service's release of oslo.messaging; a note if"
        " the service's Python is unknown",
        "use the option that is named, or remove it",
        _OPTIONS,
    ),
    "option-removed": Code(
        _WARNING,
        "an option has no effect, because the service's release of oslo.messaging has"
        " removed it; a note if the service's Python is unknown",
        "remove it, or use its replacement",
        _HISTORY,
    ),
    "option-unknown": Code(
        _WARNING,
        "an option or section has no effect, because neither oslo.messaging nor the"
        " drivers know it",
        "correct its name, or remove it",
        _OPTIONS,
    ),
    "option-without-effect": Code(
        _WARNING,
        "an option has no effect with this release of RabbitMQ (:doc:`rabbit`)",
        "remove it",
        "release notes of RabbitMQ 4.0",
    ),
    "overridden": Code(
        _ERROR,
        "another file that programs of the service read has other transports; a"
        " warning if it is unknown whether any program reads it",
        "configure that file as well",
        "oslo.config, ``find_config_files``",
    ),
    "plain-accepted": Code(
        _WARNING,
        "a server that is used with TLS also accepts connections without",
        "close its listener without TLS",
        _SERVER,
    ),
    "plain-text": Code(
        _WARNING,
        "ZeroMQ: with ``plaintext_beyond_loopback``, anyone who reaches a server can"
        " call it",
        "remove the option",
        ":doc:`zmq`",
    ),
    "policy-drops-messages": Code(
        _WARNING,
        "a policy of RabbitMQ discards notifications",
        "remove it, or correct its pattern",
        _MANAGEMENT,
    ),
    "pool-too-small": Code(
        _ERROR,
        "``rpc_conn_pool_size`` is below ``conn_pool_min_size``: the service does not "
        "start",
        "raise ``rpc_conn_pool_size``, or lower ``conn_pool_min_size``",
        "oslo.messaging, ``RabbitDriver.__init__``",
    ),
    "protocol-error": Code(
        _ERROR,
        "the server speaks another protocol",
        "correct host and port",
        _SERVER,
    ),
    "queue-declared-otherwise": Code(
        _ERROR,
        "a queue exists on RabbitMQ with other arguments than configured, such as"
        " ``rabbit_quorum_delivery_limit``",
        "undo the change of the options, or empty and delete the queue",
        f"{_RABBIT}: 406 ``PRECONDITION_FAILED``",
    ),
    "queue-kinds-differ": Code(
        _ERROR,
        "two services declare one notification queue differently: the second to start"
        " cannot send",
        "give both the same ``amqp_durable_queues`` and ``rabbit_quorum_queue``",
        f"{_RABBIT}: 406 ``PRECONDITION_FAILED``",
    ),
    "queue-names-change": Code(
        _WARNING,
        "``rabbit_transient_quorum_queue`` is set without ``use_queue_manager``: each"
        " restart leaves quorum queues behind",
        "set ``use_queue_manager`` and ``lock_path``",
        "oslo.messaging, ``QManager``; bug 2031497",
    ),
    "queue-not-replicated": Code(
        _WARNING,
        "a quorum queue has fewer replicas than it should",
        "start the nodes that are named, or run ``rabbitmq-queues grow``",
        _MANAGEMENT,
    ),
    "queue-type-ambiguous": Code(
        _ERROR,
        "both quorum queues and ``rabbit_ha_queues`` are set: no queue is declared",
        "set ``rabbit_ha_queues = false``",
        "oslo.messaging, ``impl_rabbit._get_queue_arguments``",
    ),
    "queue-without-quorum": Code(
        _ERROR,
        "a quorum queue accepts no messages, because most of its nodes are down",
        "start them",
        _MANAGEMENT,
    ),
    "quorum-auto-delete": Code(
        _ERROR,
        "quorum queues are combined with ``amqp_auto_delete``, which RabbitMQ refuses",
        "set ``amqp_auto_delete = false``",
        "RabbitMQ: 406 ``invalid property 'auto-delete'``",
    ),
    "quoted-list": Code(
        _ERROR,
        "the topics contain quotation marks",
        "write the topics without quotation marks",
        "oslo.config, ``types.List``",
    ),
    "readable-by-all": Code(
        _WARNING,
        "every user of this host can read passwords in the file, or in its copy from"
        " before ``configure``",
        "remove the permission: ``chmod o=``",
        "the modes of the file and of its directories",
    ),
    "redis-evicts": Code(
        _WARNING,
        "ZeroMQ: Redis drops servers when its memory is full",
        "set ``maxmemory-policy noeviction``",
        "Redis, ``INFO memory``",
    ),
    "redis-replica": Code(
        _ERROR,
        "ZeroMQ: the URL names a replica of Redis, where servers cannot register",
        "name the master, or use Sentinels",
        _SERVER,
    ),
    "redis-without-replica": Code(
        _WARNING,
        "ZeroMQ: Sentinels are used, but the master of Redis has no replica",
        "start the replicas",
        "Redis, ``INFO replication``",
    ),
    "redis-writes-alone": Code(
        _NOTE,
        "ZeroMQ: behind Sentinels, a master that is cut off from its replicas still"
        " accepts registrations",
        "set ``min-replicas-to-write`` to 1",
        "Redis, ``INFO replication``",
    ),
    "registration-expires": Code(
        _ERROR,
        "ZeroMQ: registrations expire before servers renew them",
        "set ``zmq_target_expire`` to three times ``zmq_target_update``",
        ":doc:`zmq`",
    ),
    "router-port-taken": Code(
        _ERROR,
        "a router cannot listen on one of its ports, usually since another program has"
        " it. If other routers connect there, their services may not reach those on it",
        "stop that program, or correct the address, and restart the router, which does"
        " not try again",
        "the log that skupper-router's management keeps",
    ),
    "routers-apart": Code(
        _ERROR,
        "a URL names routers that are not connected to each other: services on one do"
        " not find those on another",
        "link them (:doc:`cluster`), or name one of them",
        "``router.node`` of the router's management",
    ),
    "rpc-elsewhere": Code(
        _WARNING,
        "RPC of one service goes to other servers than RPC of most services; an error"
        " with ``--same-rpc``; a note if only the routers can report whether they are"
        " linked, and were not asked",
        "give all of them the same transport with ``configure``",
        "the other services' files",
    ),
    "sentinels-apart": Code(
        _ERROR,
        "ZeroMQ: Sentinels name different masters, but servers register on one of them",
        "have all of them watch the same master",
        "``SENTINEL MASTER``",
    ),
    "sentinels-few": Code(
        _WARNING,
        "ZeroMQ: fewer than three Sentinels: if one is lost, none replaces the master",
        "run three, each on another host",
        "``SENTINEL MASTER``",
    ),
    "sentinels-without-quorum": Code(
        _WARNING,
        "ZeroMQ: too few Sentinels are there to replace the master of Redis",
        "start the others, or lower the quorum",
        "``SENTINEL CKQUORUM``",
    ),
    "server-alarm": Code(
        _ERROR,
        "RabbitMQ blocks publishers, because memory or disk space is low",
        "give it more, or empty queues that have no consumer",
        "RabbitMQ, ``connection.blocked``",
    ),
    "server-not-verified": Code(
        _WARNING,
        "the name in RabbitMQ's TLS certificate is not verified",
        "set ``ssl_ca_file``",
        f"{_RABBIT}, ``_fetch_ssl_params``",
    ),
    "shared-backend": Code(
        _WARNING,
        "RPC and notifications share one server",
        "give each a transport with ``configure``",
        ":doc:`performance`",
    ),
    "stream-incomplete": Code(
        _ERROR,
        "``rabbit_stream_fanout`` is set without ``rabbit_qos_prefetch_count`` or"
        " ``rabbit_transient_quorum_queue``: the service cannot connect",
        "set both",
        _RABBIT,
    ),
    "tls-failed": Code(
        _ERROR,
        "TLS does not work: an option, a certificate or the port is wrong",
        "correct the driver's TLS options, or the port",
        _SERVER,
    ),
    "tls-not-used": Code(
        _WARNING,
        "certificates are configured, but TLS is off",
        "set ``ssl = true``, or ``security_protocol`` for Kafka",
        f"{_RABBIT}, ``_fetch_ssl_params``; {_KAFKA}",
    ),
    "topic-not-replicated": Code(
        _WARNING,
        "a topic of Kafka has a single replica, or replicas are down",
        "give it more replicas, or start the brokers",
        "Kafka's metadata",
    ),
    "topic-too-small": Code(
        _WARNING,
        "a topic of Kafka refuses notifications that are as large as services may send",
        "raise ``max.message.bytes`` of the topic",
        "librdkafka, ``message.max.bytes``",
    ),
    "transient-queues-refused": Code(
        _ERROR,
        "RabbitMQ does not allow queues that are not durable, as 4.3 by default",
        "use quorum queues, or permit them in the server's configuration "
        "(:doc:`rabbit`)",
        "release notes of RabbitMQ 4.3",
    ),
    "transport-not-set": Code(
        _WARNING,
        "no transport URL is set, so the default of oslo.messaging is used",
        "set ``transport_url`` with ``configure``",
        "oslo.messaging, ``transport.py``",
    ),
    "unfit-server": Code(
        _ERROR,
        "an ``amqp://`` URL names a RabbitMQ",
        "use ``rabbit://``",
        ":doc:`amqp`",
    ),
    "unfit-transport": Code(
        _ERROR,
        "RPC over Kafka, or notifications over ZeroMQ",
        "choose another transport",
        f"{_KAFKA}; :doc:`zmq`",
    ),
    "unreachable": Code(
        _ERROR,
        "the server cannot be reached; a warning if another server of the same URL can",
        "start the server, or correct host and port",
        _SERVER,
    ),
    "unreadable": Code(
        _ERROR,
        "the service cannot read its configuration",
        "correct the line that is named",
        "oslo.config",
    ),
    "unusable-url": Code(
        _ERROR,
        "the URL is valid, but oslo.messaging's driver does not support it",
        "choose another user, password, virtual host or port",
        f"{_RABBIT}, ``_transform_transport_url``; {_KAFKA}",
    ),
    "vhost-missing": Code(
        _ERROR,
        "the virtual host does not exist, or the user has no access",
        "create it, or give the user access",
        _SERVER,
    ),
    "waits-without-end": Code(
        _WARNING,
        "no server for notifications can be used, and requests that publish one wait"
        " for ever; a note as long as one can be used",
        "start it, or set ``[oslo_messaging_notifications] retry``",
        f"{_RABBIT}, ``ensure``",
    ),
    "wrong-credentials": Code(
        _ERROR,
        "the server refuses user name or password",
        "correct them in the URL, or on the server",
        _SERVER,
    ),
}


def found(
    code: str,
    message: str,
    cure: str,
    where: str = "",
    severity: Severity | None = None,
) -> Problem:
    """A problem of the table, as it shows in one place.

    :param severity: default: that of the table
    """
    return Problem(severity or CODES[code].severity, code, message, cure, where)
