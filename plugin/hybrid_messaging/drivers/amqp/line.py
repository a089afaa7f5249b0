# SPDX-License-Identifier: Apache-2.0
"""A connection that is up, as senders and receivers on it see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hybrid_messaging.drivers.amqp.addressing import Addressing
from hybrid_messaging.protocol.endpoint import Endpoint


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """What is known of a connection whose peer has opened it, too."""

    endpoint: Endpoint
    #: how the peer names targets
    addressing: Addressing
    #: the peer and its product, for people
    name: str
    #: the peer stores nothing: it forwards or says that it cannot
    routing: bool
    #: the peer may have links to other routers
    networked: bool
    #: the peer forwards by each message's own address
    relays: bool
    #: hands what has been said to the network
    flush: Callable[[], None]

    @property
    def up(self) -> bool:
        """Whether it still is the connection of its bus."""
        return not self.endpoint.closed
