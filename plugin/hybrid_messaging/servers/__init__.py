# SPDX-License-Identifier: Apache-2.0
"""What can be known of the servers of transports, one module for each kind.

`transport` has what all kinds offer, and what is known of a server whose language we do
not speak. `rabbit`, `amqp`, `kafka` and `zmq` each say what a URL may hold, connect and
log in, name product and release, and list what is on a server; `rabbit_releases`,
`rabbit_state`, `rabbit_management`, `kafka_state` and `amqp_session` are parts of
theirs. `insight` says what is asked of the state of servers, and told; `certificates`
is about theirs, `backlog` about what nobody reads. `census` says what is told of those
who use a bus, and `rabbit_census` asks RabbitMQ. `options` gives a transport the
options of its driver.

Most commands ask no server. So clients, and the engines that have some, are imported
where one is asked.

Adding a transport is adding a module with a class of `Transport`, and its lines in
`_KINDS`.
"""

from __future__ import annotations

import importlib
from typing import Any

from hybrid_messaging import state, urls
from hybrid_messaging.servers.transport import Transport

#: Module and class by the driver of oslo.messaging that a URL's scheme names.
_KINDS = {
    "amqp": ("amqp", "Amqp"),
    "kafka": ("kafka", "Kafka"),
    "kombu": ("rabbit", "Rabbit"),
    "rabbit": ("rabbit", "Rabbit"),
    "zmq": ("zmq", "Zmq"),
}
#: The schemes of which something is known.
SCHEMES = tuple(_KINDS)


def get(
    url: urls.TransportURL, options: Any = None, engine: state.Engine | None = None
) -> Transport:
    """What is known of the servers of a URL.

    Of a migration, that is the bus that services move to.

    :param options: those of the transport's driver; without them, the methods that say
        so do not work
    :param engine: what `up` has started there, if it has
    """
    url = urls.destination(url)
    module, name = _KINDS.get(url.driver, ("transport", "Transport"))
    kind = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    transport: Transport = kind(url, options, engine)
    return transport
