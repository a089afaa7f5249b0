# SPDX-License-Identifier: Apache-2.0
"""Each of the two buses, as its driver serves it, and what can be known of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any, Protocol

from amqp.exceptions import NotFound
from oslo_messaging.exceptions import ConfigurationError, MessageDeliveryFailure
from oslo_messaging.target import Target
from oslo_messaging.transport import TransportHost, TransportURL

from hybrid_messaging.drivers import driver, errors, oslo, reentry
from hybrid_messaging.drivers.migrate.queues import Queues
from hybrid_messaging.drivers.presence import Presence

LeftOver = Callable[[oslo.Listener], list[oslo.RpcIncomingMessage]]
#: Makes a driver, with options for the query of its URL.
Open = Callable[[dict[str, str]], Any]


class NotTaken(Exception):
    """Nobody on the bus has seen the request: it may be sent elsewhere."""


class Request(driver.Request):
    """What a service sends: it may go over either bus."""

    __slots__ = ()

    @property
    def key(self) -> tuple[str | None, str, str | None]:
        """What tells its target from others."""
        return self.target.exchange, self.target.topic, self.target.server

    def left(self) -> float | None:
        """Return the seconds that are left of the timeout."""
        if self.timeout is None:
            return None
        return max(0.0, self.timeout - (time.monotonic() - self.began))

    def send(self, driver: Any, retry: int | None) -> Any:
        """Send it with a driver, and return the reply to a call."""
        return reentry.outside(
            driver.send,
            self.target,
            self.context,
            self.message,
            wait_for_reply=self.wait_for_reply,
            timeout=self.left(),
            call_monitor_timeout=self.call_monitor_timeout,
            retry=retry,
            transport_options=self.transport_options,
        )


class Bus(Protocol):
    """One of the two buses."""

    #: its driver, for RPC
    driver: oslo.BaseDriver
    #: its driver, for notifications
    notifying: oslo.BaseDriver
    #: what people call it
    name: str

    @property
    def left_over(self) -> LeftOver | None:
        """Returns what a listener of RPC has taken while it was stopped and cleaned up.

        None: listeners that are stopped take nothing.
        """

    def presence(self, target: Target, since: float = -math.inf) -> Presence:
        """Return whether somebody listens on a target, without waiting.

        :param since: monotonic time; what was known before says nothing any more
        """

    def hurry(self) -> None:
        """Connect soon, if there is no connection: a request is held."""

    def offer(self, request: Request) -> Any:
        """Send a request, if somebody listens.

        A fanout to nobody may be no error; it is kept for nobody then.

        :raises NotTaken: nobody has seen it, nor will
        """

    def insist(self, request: Request) -> Any:
        """Send a request with all the patience that the bus has.

        A fanout to nobody is no error.
        """

    def close(self) -> None:
        """Let go of everything."""

    def after_fork(self) -> None:
        """In a child: leave to the parent what is the parent's."""


#: What is certain to mean that nobody listens.
_NOBODY = frozenset({Presence.ABSENT, Presence.GONE})


class DirectBus:
    """`amqp` and `zmq`: whoever sends knows whether somebody listens.

    :param open: makes a driver with options that the URL is to have besides
    """

    left_over: LeftOver | None = None

    def __init__(self, name: str, open: Open) -> None:
        self.name = name
        # whoever waits for servers that restart has to watch both buses
        self.driver = open({"restart_timeout": "0"})
        # nobody watches the other bus for a notification
        self.notifying = open({})

    def presence(self, target: Target, since: float = -math.inf) -> Presence:
        try:  # it is known as of now
            presence: Presence = self.driver.presence(target)
        except errors.BusUnavailable:  # there is no socket left, for instance
            return Presence.UNKNOWN
        return presence

    def hurry(self) -> None:
        pass  # `zmq` asks the matchmaker four times a second

    def offer(self, request: Request) -> Any:
        if request.target.fanout and self.presence(request.target) in _NOBODY:
            raise NotTaken("nobody listens")
        try:
            # what cannot be sent now may be sent on the other bus
            return request.send(self.driver, retry=0)
        except (errors.TargetUnreachable, errors.BusUnavailable) as error:
            raise NotTaken(str(error)) from error

    def insist(self, request: Request) -> Any:
        return request.send(self.driver, request.retry)

    def close(self) -> None:
        try:
            self.driver.cleanup()
        finally:
            self.notifying.cleanup()

    def after_fork(self) -> None:
        pass  # its drivers do so themselves


class AmqpBus(DirectBus):
    """`amqp`, whose pauses between two attempts to connect grow."""

    def hurry(self) -> None:
        self.driver.hurry()


class RabbitBus:
    """`rabbit`: what is sent waits in a queue, whether anybody listens or not."""

    def __init__(self, name: str, open: Open) -> None:
        self.name = name
        self.driver = self.notifying = open({})
        self._queues = Queues(self.driver)

    def presence(self, target: Target, since: float = -math.inf) -> Presence:
        # as `impl_rabbit` names them
        topic, server = target.topic, target.server
        name = f"{topic}.{server}" if server else topic
        return self._queues.presence(name, since)

    def hurry(self) -> None:
        pass  # whoever looks at queues tries to connect each second

    def offer(self, request: Request) -> Any:
        return self.insist(request)

    def insist(self, request: Request) -> Any:
        try:
            return request.send(self.driver, request.retry)
        except MessageDeliveryFailure as error:
            # the exchange of a fanout goes with the last who listens
            if request.target.fanout and isinstance(error.__context__, NotFound):
                return None
            raise

    def left_over(self, listener: oslo.Listener) -> list[oslo.RpcIncomingMessage]:
        return oslo.left_over(listener)

    def close(self) -> None:
        self._queues.close()
        self.driver.cleanup()

    def after_fork(self) -> None:
        self._queues = Queues(self.driver)


class KafkaBus(DirectBus):
    """`kafka`: notifications alone."""

    def __init__(self, name: str, open: Open) -> None:
        self.name = name
        self.notifying = open({})

    @property
    def driver(self) -> Any:
        """There is none.

        :raises ConfigurationError: always
        """
        raise ConfigurationError(
            f"{self.name} carries notifications alone: give RPC a transport URL of"
            " another kind in [DEFAULT] transport_url, and notifications theirs in"
            " [oslo_messaging_notifications] transport_url"
        )

    def close(self) -> None:
        self.notifying.cleanup()


_KINDS: dict[str, type[DirectBus] | type[RabbitBus]] = {
    "amqp": AmqpBus,
    "kafka": KafkaBus,
    "kombu": RabbitBus,
    "rabbit": RabbitBus,
    "zmq": DirectBus,
}


def open_bus(
    conf: Any,
    url: TransportURL,
    default_exchange: str | None,
    allowed_remote_exmods: list[str] | None,
) -> DirectBus | RabbitBus:
    """Make a bus with the driver that a transport URL names.

    :raises ConfigurationError: it names none that can be part of a migration
    """
    name = url.transport.partition("+")[0]
    kind = _KINDS.get(name)
    if kind is None:
        known = ", ".join(f"{each}://" for each in sorted(_KINDS))
        raise ConfigurationError(
            f"a migration is between two of {known}, and {name!r:.40} is none of them"
        )
    # a package may be found twice on the path
    found = iter(metadata.entry_points(group="oslo.messaging.drivers", name=name))
    load = next(found).load()

    def open(besides: dict[str, str]) -> Any:
        query = {**url.query, **besides}
        return load(
            conf,
            TransportURL(conf, url.transport, url.virtual_host, url.hosts, query),
            default_exchange=default_exchange,
            allowed_remote_exmods=allowed_remote_exmods,
        )

    hosts = ", ".join(map(_shown, url.hosts))
    return kind(f"{name}://{hosts}", open)


def _shown(host: TransportHost) -> str:
    name = host.hostname or ""
    name = f"[{name}]" if ":" in name else name
    return f"{name}:{host.port}" if host.port else name
