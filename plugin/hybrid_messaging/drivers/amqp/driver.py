# SPDX-License-Identifier: Apache-2.0
"""The `amqp` driver as oslo.messaging calls it.

URL form:  amqp://[user:password@]host[:port][,…][/vhost][?option=value&…]

Several hosts are alternatives, tried in turn. Every option of
[oslo_messaging_amqp] may stand in the query.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oslo_messaging.target import Target

from hybrid_messaging.drivers import bodies, errors, forks, logs, oslo, timeouts
from hybrid_messaging.drivers.amqp import hosts, incoming
from hybrid_messaging.drivers.amqp import options as amqp_options
from hybrid_messaging.drivers.amqp.addressing import Addressing, refusal
from hybrid_messaging.drivers.amqp.bus import Bus, Side
from hybrid_messaging.drivers.amqp.mailbox import Mailbox
from hybrid_messaging.drivers.amqp.outbox import Retired
from hybrid_messaging.drivers.amqp.outgoing import Message, Outgoing
from hybrid_messaging.drivers.amqp.uplink import Move, Uplink
from hybrid_messaging.drivers.driver import Driver, Request
from hybrid_messaging.drivers.listeners import HandOver, PollingListener, RpcListener
from hybrid_messaging.drivers.presence import Presence
from hybrid_messaging.drivers.seen import Seen

LOG = logs.get(__name__)


class AmqpDriver(Driver):
    """oslo.messaging over AMQP 1.0."""

    def _set_up(self) -> None:
        self._options = oslo.read_options(
            self.conf, self._url, amqp_options.GROUP, amqp_options.OPTIONS
        )
        kinds = self._options.pre_settled
        if isinstance(kinds, str):  # in the URL, where an option stands once
            kinds = kinds.split(",")
        settled = frozenset(kind.strip().lower() for kind in kinds) - {""}
        self._options.pre_settled = settled
        if unknown := settled - amqp_options.KINDS:
            LOG.warning(
                "[oslo_messaging_amqp] pre_settled: ignored the unknown value %s;"
                " valid values: %s",
                ", ".join(sorted(unknown)),
                ", ".join(sorted(amqp_options.KINDS)),
            )
        self._uplinks = self._new_uplinks()

    def _new_uplinks(self) -> dict[Side, Uplink]:
        """Both sides, which connect when they are first needed.

        What a service sends does not queue behind what it receives.
        """
        sides: tuple[Side, ...] = ("sending", "listening")
        return {side: Uplink(self._maker(side)) for side in sides}

    def _maker(self, side: Side) -> Callable[[Move], Bus]:
        """What makes the buses of one side, which all want to be at the same host."""
        options, url = self._options, self._url
        places = hosts.parse(url, options.sasl_default_realm)
        return lambda move: Bus(
            side, options, url, self._default_exchange, places, move
        )

    def _bus(self, side: Side) -> Bus:
        return self._uplinks[side].bus

    def _deliver(
        self, outgoing: Outgoing, timeout: float, monitor: float | None = None
    ) -> Any:
        """Send a message on the bus, or on the next if that is just being left.

        :returns: the body of the reply, for a call
        """
        while True:
            try:
                return self._bus("sending").waiting.send(outgoing, timeout, monitor)
            except Retired:
                outgoing = outgoing.anew()

    def require_features(self, requeue: bool = False) -> None:
        """Requeueing is supported: a message is released to the bus."""

    def _send(self, request: Request) -> Any:
        target, is_call = request.target, bool(request.wait_for_reply)
        name, kind = ("RPC call", "rpc-call") if is_call else ("RPC cast", "rpc-cast")
        if target.fanout:
            name = "RPC fanout"
        _check(name, target)
        timeout = request.timeout
        seconds = timeouts.of_message(timeout, self._options.default_send_timeout)
        monitor = timeouts.of_monitor(request.call_monitor_timeout)
        settled = kind in self._options.pre_settled
        next_id = self._bus("sending").outbox.next_id
        message = Message(
            _key(target),
            target,
            name,
            bodies.request(request.message, request.context, monitor),
            settled=settled,
            id=next_id() if is_call or target.fanout else None,
            is_call=is_call,
            marked=is_call and not settled,
            ttl=None if timeout is None else seconds,
            fanout=bool(target.fanout),
            retry=request.retry,
        )
        reply = self._deliver(Outgoing(message, request.began), seconds, monitor)
        if not is_call:
            return None
        return bodies.read_reply(reply, self._allowed_remote_exmods)

    def presence(self, target: Target) -> Presence:
        """Return whether somebody listens on a target of RPC, without waiting.

        The first question for a target opens a link to it: ask again a moment later.
        """
        forks.notice()
        if refusal(target) is not None:
            return Presence.ABSENT
        # a link for fanouts is held back at first, whatever opens it
        look = Message(_key(target), target, "RPC", None, fanout=bool(target.fanout))
        return self._bus("sending").presence(look)

    def hurry(self) -> None:
        """Pause for no longer than usual before connecting: somebody waits for that."""
        forks.notice()
        self._bus("sending").start()

    def _send_notification(
        self,
        target: Target,
        context: Any,
        message: dict[str, Any],
        version: float,
        retry: int | None,
    ) -> None:
        _check("Notification", target)
        notification = Message(
            ("notify", target.exchange, target.topic),
            target,
            "Notification",
            bodies.request(message, context, envelope=version >= 2.0),
            service="notify",
            settled="notify" in self._options.pre_settled,
            durable=True,
            retry=retry,
        )
        self._deliver(Outgoing(notification), self._options.default_notify_timeout)

    def _listen(
        self, target: Target, batch_size: int, batch_timeout: float | None
    ) -> oslo.Listener:
        _check_listening(target)

        def addresses(addressing: Addressing) -> list[str]:
            found = [addressing.multicast(target), addressing.anycast(target)]
            if target.server:
                found.append(addressing.unicast(target))
            return found

        return RpcListener(
            self._opens(incoming.Request, addresses, self._options.rpc_server_credit)
        )

    def _listen_for_notifications(
        self,
        targets_and_priorities: list[tuple[Target, str]],
        pool: str | None,
        batch_size: int,
        batch_timeout: float | None,
    ) -> oslo.Listener:
        if pool:
            raise NotImplementedError(
                "amqp:// does not support notification pools, because AMQP 1.0 defines"
                " no standard way to give listeners separate copies; use rabbit:// or"
                " kafka:// for them"
            )
        targets = [
            Target(exchange=target.exchange, topic=f"{target.topic}.{priority}")
            for target, priority in targets_and_priorities
        ]

        for target in targets:
            _check_listening(target)

        def addresses(addressing: Addressing) -> list[str]:
            found = (addressing.anycast(target, "notify") for target in targets)
            return list(dict.fromkeys(found))

        open_inbox = self._opens(
            incoming.Notification, addresses, self._options.notify_server_credit
        )

        return oslo.PollStyleListenerAdapter(
            PollingListener(open_inbox), batch_size, batch_timeout
        )

    def _opens(
        self,
        kind: type[incoming.Incoming],
        addresses: Callable[[Addressing], list[str]],
        capacity: int,
    ) -> Callable[[HandOver], Mailbox]:
        """What opens a mailbox for the messages to some addresses."""
        uplink = self._uplinks["listening"]

        def open(hand_over: HandOver) -> Mailbox:
            seen = Seen(incoming.MOST_SEEN, incoming.SEEN)
            return uplink.listen(
                lambda bus: incoming.Inbox(
                    self._desk(bus), kind, addresses, capacity, hand_over, seen
                )
            )

        return open

    def _desk(self, bus: Bus) -> incoming.Desk:
        return incoming.Desk(
            self._options,
            bus.lock,
            bus.duties,
            bus.outbox,
            bus.waiting,
            bus.subscriptions,
        )

    def _close(self) -> None:
        uplinks, self._uplinks = self._uplinks, self._new_uplinks()
        for uplink in uplinks.values():
            uplink.close()

    def after_fork(self) -> None:
        uplinks, self._uplinks = self._uplinks, self._new_uplinks()
        for uplink in uplinks.values():
            uplink.after_fork()


def _key(target: Target) -> tuple[Any, ...]:
    """What identifies a target of RPC."""
    return "rpc", target.exchange, target.topic, target.server, target.fanout


def _check(name: str, target: Target) -> None:
    why = refusal(target)
    if why is not None:
        raise errors.MessageRefused(f"{name}: {why}; nothing was sent")


def _check_listening(target: Target) -> None:
    why = refusal(target)
    if why is not None:
        raise ValueError(f"Cannot listen: {why}")
