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


_ERROR, _WARNING = Severity.ERROR, Severity.WARNING

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
        "ZeroMQ: this host's own name, which clients are told, has no address",
        "set ``rpc_zmq_host`` to a name that all hosts resolve",
        ":doc:`zmq`",
    ),
    "agent-changes-url": Code(
        _ERROR,
        "ironic-neutron-agent appends an option to ``amqp://`` that the driver does "
        "not take",
        "set ``amqp_auto_delete`` in ``ironic_neutron_agent.ini``",
        "networking-baremetal, ``agent/ironic_neutron_agent.py``",
    ),
    "bad-url": Code(
        _ERROR,
        "not a transport URL, or its query names an option that the driver does not "
        "have",
        "correct the URL",
        _URL,
    ),
    "cell-mapping-outdated": Code(
        _ERROR,
        "Nova's database leads to another RPC URL than Nova's files",
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
        "a certificate is not good any more",
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
        "nodes of RabbitMQ's cluster have parted",
        "restart the nodes of the smaller part",
        _MANAGEMENT,
    ),
    "clusters-differ": Code(
        _ERROR,
        "a URL names nodes of RabbitMQ that are of different clusters: what is sent "
        "to one does not reach the other",
        "join them, or correct the URL",
        "the server's ``cluster_name``",
    ),
    "consumer-elsewhere": Code(
        _ERROR,
        "ceilometer listens on other servers or virtual hosts than notifications go to",
        "correct or remove ``[notification] messaging_urls``",
        "Ceilometer, ``notification.py``",
    ),
    "consumer-group-shared": Code(
        _ERROR,
        "two services listen to one Kafka as one group, and each notification reaches "
        "one of them",
        "give each a ``consumer_group``",
        f"{_KAFKA}, ``KafkaListener``",
    ),
    "credentials-not-used": Code(
        _WARNING,
        "Kafka is not sent the URL's user and password",
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
        "RabbitMQ is used in a way that a later release refuses",
        "change the options that :doc:`rabbit` names",
        _MANAGEMENT,
    ),
    "heartbeats-off": Code(
        _WARNING,
        "a connection for RPC has no heartbeat, so that a server may wait at one that "
        "is long gone",
        "remove the option that is named",
        f"{_RABBIT}, ``_heartbeat_supported_and_enabled``; :doc:`amqp`",
    ),
    "local-address": Code(
        _WARNING,
        "ZeroMQ: servers listen where no other host reaches them, though Redis is "
        "elsewhere",
        "set ``rpc_zmq_bind_address`` to an address of the services' network",
        ":doc:`zmq`",
    ),
    "lock-path-missing": Code(
        _ERROR,
        "``use_queue_manager`` without ``[oslo_concurrency] lock_path``: calls fail",
        "set it",
        "oslo.messaging, ``QManager.get``; bug 2031497",
    ),
    "mechanism-missing": Code(
        _ERROR,
        "the router offers no SASL mechanism that fits; it may want TLS",
        "set the ssl options of the driver, or correct ``sasl_mechanisms``",
        _SERVER,
    ),
    "no-keys": Code(
        _ERROR,
        "ZeroMQ: servers do not start, since there is no password of Redis that keys "
        "could be derived from",
        "name user and password of Redis in the URL",
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
        "a node of RabbitMQ's cluster does not run",
        "start it, or have the cluster forget it",
        _MANAGEMENT,
    ),
    "nodes-not-named": Code(
        _WARNING,
        "a URL names one node of a cluster of RabbitMQ",
        "name all, unless it is an address that stands for all",
        _MANAGEMENT,
    ),
    "not-checked": Code(
        _WARNING,
        "an option refers to one that only the service knows, and was not checked",
        "set that one in the service's file",
        "oslo.config",
    ),
    "not-durable-on-server": Code(
        _ERROR,
        "an exchange or queue exists on RabbitMQ that is not durable, or no quorum "
        "queue where these are asked for",
        "stop the services, and delete it",
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
        "middleware or a pipeline publishes to a URL of its own",
        "remove that URL, or see that somebody listens there",
        "keystonemiddleware, ceilometermiddleware, Ceilometer's publishers",
    ),
    "notifications-maybe-not-stored": Code(
        _WARNING,
        "``amqp://``, and nothing tells whether a broker is there or a router",
        "check with a connection",
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
        "notifications wait in a queue that nobody reads",
        "start the consumer, or publish none",
        _SERVER,
    ),
    "notifications-not-stored": Code(
        _ERROR,
        "notifications go through a router, which stores none",
        "send them to a broker",
        ":doc:`amqp`",
    ),
    "notifications-over-rpc": Code(
        _ERROR,
        "the service sends or takes notifications with its RPC transport",
        "give its RPC the transport of notifications",
        "the service's code",
    ),
    "option-deprecated": Code(
        _WARNING,
        "an option that the service's release of oslo.messaging still takes, and a "
        "later one will not",
        "use the option that is named, or remove it",
        _OPTIONS,
    ),
    "option-removed": Code(
        _WARNING,
        "an option that the service's release of oslo.messaging has no more: it does "
        "nothing",
        "remove it, or write what has taken its place",
        _HISTORY,
    ),
    "option-unknown": Code(
        _WARNING,
        "an option or section that oslo.messaging and the drivers do not know: it does "
        "nothing",
        "correct its name, or remove it",
        _OPTIONS,
    ),
    "option-without-effect": Code(
        _WARNING,
        "an option that this release of RabbitMQ has no use for (:doc:`rabbit`)",
        "remove it",
        "release notes of RabbitMQ 4.0",
    ),
    "overridden": Code(
        _ERROR,
        "a file that programs of the service read as well leads elsewhere; a warning "
        "where it is not known whether any reads it",
        "configure that file as well",
        "oslo.config, ``find_config_files``",
    ),
    "plain-accepted": Code(
        _WARNING,
        "a server that is used with TLS can be used without it, too",
        "close its listener without TLS",
        _SERVER,
    ),
    "plain-text": Code(
        _WARNING,
        "ZeroMQ: ``plaintext_beyond_loopback``, so that everybody who reaches a server "
        "can call it",
        "remove the option",
        ":doc:`zmq`",
    ),
    "policy-drops-messages": Code(
        _WARNING,
        "a policy of RabbitMQ drops notifications",
        "remove it, or correct its pattern",
        _MANAGEMENT,
    ),
    "pool-too-small": Code(
        _ERROR,
        "``rpc_conn_pool_size`` is below ``conn_pool_min_size``: the service does not "
        "start",
        "raise the one, or lower the other",
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
        "a queue exists on RabbitMQ with other arguments than the options ask for, "
        "such as ``rabbit_quorum_delivery_limit``",
        "take the options back, or empty the queue and delete it",
        f"{_RABBIT}: 406 ``PRECONDITION_FAILED``",
    ),
    "queue-kinds-differ": Code(
        _ERROR,
        "two services declare one notification queue in different ways: who comes "
        "second sends nothing",
        "give all of them the same ``amqp_durable_queues`` and ``rabbit_quorum_queue``",
        f"{_RABBIT}: 406 ``PRECONDITION_FAILED``",
    ),
    "queue-names-change": Code(
        _WARNING,
        "``rabbit_transient_quorum_queue`` without ``use_queue_manager``: restarts "
        "leave quorum queues behind",
        "set ``use_queue_manager`` and ``lock_path``",
        "oslo.messaging, ``QManager``; bug 2031497",
    ),
    "queue-not-replicated": Code(
        _WARNING,
        "a quorum queue has fewer copies than it should",
        "start the nodes that are named, or ``rabbitmq-queues grow``",
        _MANAGEMENT,
    ),
    "queue-type-ambiguous": Code(
        _ERROR,
        "quorum queues and ``rabbit_ha_queues`` are both asked for: no queue is "
        "declared",
        "set ``rabbit_ha_queues = false``",
        "oslo.messaging, ``impl_rabbit._get_queue_arguments``",
    ),
    "queue-without-quorum": Code(
        _ERROR,
        "a quorum queue takes no messages, since most of its nodes are away",
        "start them",
        _MANAGEMENT,
    ),
    "quorum-auto-delete": Code(
        _ERROR,
        "quorum queues with ``amqp_auto_delete``, which RabbitMQ refuses",
        "set ``amqp_auto_delete = false``",
        "RabbitMQ: 406 ``invalid property 'auto-delete'``",
    ),
    "quoted-list": Code(
        _ERROR,
        "quotes have become part of the topics",
        "write the topics without quotes",
        "oslo.config, ``types.List``",
    ),
    "readable-by-all": Code(
        _WARNING,
        "every user of this machine can read the file, or its copy from before "
        "``configure``, and it has passwords in it",
        "take the right from them: ``chmod o=``",
        "the modes of the file and of its directories",
    ),
    "redis-evicts": Code(
        _WARNING,
        "ZeroMQ: Redis forgets servers when its memory is full",
        "set ``maxmemory-policy noeviction``",
        "Redis, ``INFO memory``",
    ),
    "redis-replica": Code(
        _ERROR,
        "ZeroMQ: the URL leads to a replica of Redis, where servers cannot register",
        "name the master, or Sentinels",
        _SERVER,
    ),
    "redis-without-replica": Code(
        _WARNING,
        "ZeroMQ: Sentinels, and the master of Redis has no replica",
        "start the replicas",
        "Redis, ``INFO replication``",
    ),
    "registration-expires": Code(
        _ERROR,
        "ZeroMQ: servers are forgotten before they renew their registration",
        "set ``zmq_target_expire`` to three times ``zmq_target_update``",
        ":doc:`zmq`",
    ),
    "routers-apart": Code(
        _ERROR,
        "a URL names routers that do not know each other: services are on one of them "
        "by chance, and do not find those on another",
        "link them (:doc:`cluster`), or name one of them",
        "``router.node`` of the router's management",
    ),
    "rpc-elsewhere": Code(
        _WARNING,
        "RPC of one service goes to other servers than that of most; an error with "
        "``--same-rpc``",
        "give all of them the same transport with ``configure``",
        "the other services' files",
    ),
    "server-alarm": Code(
        _ERROR,
        "RabbitMQ takes no messages, for want of memory or disk",
        "give it more, or empty queues that nobody reads",
        "RabbitMQ, ``connection.blocked``",
    ),
    "server-not-verified": Code(
        _WARNING,
        "TLS with RabbitMQ, whose name is not compared with its certificate",
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
        "``rabbit_stream_fanout`` without ``rabbit_qos_prefetch_count`` or "
        "``rabbit_transient_quorum_queue``: there is no connection",
        "set them",
        _RABBIT,
    ),
    "tls-failed": Code(
        _ERROR,
        "TLS, or one of its options",
        "correct the ssl options of the driver, or the port",
        _SERVER,
    ),
    "tls-not-used": Code(
        _WARNING,
        "certificates are named, and TLS is off",
        "set ``ssl = true``, or ``security_protocol`` for Kafka",
        f"{_RABBIT}, ``_fetch_ssl_params``; {_KAFKA}",
    ),
    "topic-not-replicated": Code(
        _WARNING,
        "a topic of Kafka has one copy, or copies that are away",
        "give it more replicas, or start the brokers",
        "Kafka's metadata",
    ),
    "topic-too-small": Code(
        _WARNING,
        "a topic of Kafka refuses notifications that services can send",
        "raise ``max.message.bytes`` of the topic",
        "librdkafka, ``message.max.bytes``",
    ),
    "transient-queues-refused": Code(
        _ERROR,
        "RabbitMQ refuses queues that are not durable, as 4.3 does by default",
        "use quorum queues, or permit them in the server's configuration "
        "(:doc:`rabbit`)",
        "release notes of RabbitMQ 4.3",
    ),
    "transport-not-set": Code(
        _WARNING,
        "the default of oslo.messaging is used",
        "set ``transport_url`` with ``configure``",
        "oslo.messaging, ``transport.py``",
    ),
    "unfit-server": Code(
        _ERROR,
        "``amqp://`` leads to a RabbitMQ",
        "use ``rabbit://`` there",
        ":doc:`amqp`",
    ),
    "unfit-transport": Code(
        _ERROR,
        "RPC over Kafka, notifications over ZeroMQ",
        "choose another transport",
        f"{_KAFKA}; :doc:`zmq`",
    ),
    "unreachable": Code(
        _ERROR,
        "no connection; a warning while another server of the same URL can be reached",
        "start the server, or correct host and port",
        _SERVER,
    ),
    "unreadable": Code(
        _ERROR,
        "the service cannot read its files",
        "correct the line that is named",
        "oslo.config",
    ),
    "unusable-url": Code(
        _ERROR,
        "oslo.messaging's driver cannot use it, though it is a right one",
        "choose another user, password, virtual host or port",
        f"{_RABBIT}, ``_transform_transport_url``; {_KAFKA}",
    ),
    "vhost-missing": Code(
        _ERROR,
        "the virtual host is not there, or not for this user",
        "create it, or allow it to the user",
        _SERVER,
    ),
    "waits-without-end": Code(
        _WARNING,
        "no server of notifications can be used, and requests that notify wait for "
        "one without end",
        "start it, or set ``[oslo_messaging_notifications] retry``",
        f"{_RABBIT}, ``ensure``",
    ),
    "wrong-credentials": Code(
        _ERROR,
        "user name or password are refused",
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
