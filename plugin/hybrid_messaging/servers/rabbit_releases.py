# SPDX-License-Identifier: Apache-2.0
"""What releases of RabbitMQ refuse, or ignore, of what a service asks them for."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from typing import NamedTuple

import amqp

from hybrid_messaging import urls
from hybrid_messaging.engines.kinds.rabbitmq import REFUSES_TRANSIENT_QUEUES
from hybrid_messaging.servers.rabbit import Rabbit

#: Milliseconds until RabbitMQ deletes a queue that was only tried.
_EXPIRES = 1000
_FEATURE = "transient_nonexcl_queues"
_PERMIT = (
    f"set deprecated_features.permit.{_FEATURE} = true in rabbitmq.conf of all its "
    "nodes, and restart them"
)
_SAID = re.compile(r"RabbitMQ (\d+)\.(\d+)")


class Rule(NamedTuple):
    """Something that RabbitMQ, from a release on, makes of the options of a service.

    :param since: the first such release
    :param rpc: it is about RPC; False: about notifications; None: about both
    :param asked: whether the options of a transport ask for it
    :param option: the one of [oslo_messaging_rabbit] to look at
    :param message: follows the name and the release of the server
    :param settings: options of [oslo_messaging_rabbit] that cure it
    :param otherwise: what else does
    :param refused: asks the server, whose configuration may have another default,
        whether it refuses what the driver wants; None: it ignores an option
    """

    since: tuple[int, int]
    rpc: bool | None
    code: str
    asked: Callable[[Rabbit], bool]
    option: str
    message: str
    settings: dict[str, str]
    otherwise: str = ""
    refused: Callable[[amqp.Connection], bool] | None = None

    def cure(self, setting: Callable[[str, str], str]) -> str:
        """What to do about it.

        :param setting: returns how an option is set to a value
        """
        settings = " and ".join(
            setting(name, value) for name, value in self.settings.items()
        )
        return f"{settings}; or {self.otherwise}" if self.otherwise else settings


def refuses_transient_queues(connection: amqp.Connection) -> bool:
    """Whether queues are refused that are neither durable nor exclusive.

    One is declared as oslo.messaging's driver declares those of replies, and deleted.
    A refusal closes the connection.
    """
    name = f"reply_{uuid.uuid4().hex}"
    try:
        channel = connection.channel()
        channel.queue_declare(
            name,
            durable=False,
            exclusive=False,
            auto_delete=False,
            arguments={"x-expires": _EXPIRES},
        )
        channel.queue_delete(name)
    except amqp.AMQPError as error:
        return _FEATURE in str(error)
    return False


#: There is none about global QoS, which 4.3 refuses as well: the driver's prefetch
#: (`rabbit_qos_prefetch_count`) is one of each consumer.
RULES = (
    Rule(
        REFUSES_TRANSIENT_QUEUES,
        True,
        "transient-queues-refused",
        lambda rabbit: (
            not (rabbit.durable and rabbit.options.rabbit_transient_quorum_queue)
        ),
        "rabbit_transient_quorum_queue",
        "refuses queues that are neither durable nor exclusive, and these options make"
        " RPC queues like that: no server can start, and no call is answered",
        {"rabbit_quorum_queue": "true", "rabbit_transient_quorum_queue": "true"},
        _PERMIT,
        refuses_transient_queues,
    ),
    Rule(
        REFUSES_TRANSIENT_QUEUES,
        False,
        "transient-queues-refused",
        lambda rabbit: not rabbit.durable,
        "amqp_durable_queues",
        "refuses queues that are neither durable nor exclusive, and these options make"
        " notification queues like that: none is stored",
        {"amqp_durable_queues": "true"},
        _PERMIT,
        refuses_transient_queues,
    ),
    Rule(
        (4, 0),
        None,
        "option-without-effect",
        lambda rabbit: rabbit.options.rabbit_ha_queues,
        "rabbit_ha_queues",
        "no longer has mirrored queues: rabbit_ha_queues has no effect, and queues"
        " have no copies on other nodes",
        {"rabbit_ha_queues": "false", "rabbit_quorum_queue": "true"},
    ),
    Rule(
        (4, 0),
        None,
        "option-without-effect",
        lambda rabbit: rabbit.options.enable_cancel_on_failover,
        "enable_cancel_on_failover",
        "no longer has mirrored queues, so none fails over to a mirror:"
        " enable_cancel_on_failover has no effect",
        {"enable_cancel_on_failover": "false"},
    ),
)


def broken(
    rabbit: Rabbit, host: urls.Host, said: str, rpc: bool, timeout: float
) -> Iterator[Rule]:
    """Find out what a server refuses or ignores.

    :param rabbit: the transport, with the options of its driver
    :param host: one of its servers
    :param said: what this one says it is, as `connect` returns it
    :param rpc: it is RPC that the server is for, not notifications
    :param timeout: seconds for each step of a connection
    :raises ConnectError: the server cannot be asked any more
    """
    release = _SAID.match(said)
    for rule in RULES:
        if (
            release is None
            or tuple(map(int, release.groups())) < rule.since
            or rule.rpc not in (None, rpc)
            or not rule.asked(rabbit)
        ):
            continue
        if rule.refused is not None:
            with rabbit.connection(host, timeout) as connection:
                if not rule.refused(connection):
                    continue
        yield rule
