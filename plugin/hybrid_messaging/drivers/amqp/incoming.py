# SPDX-License-Identifier: Apache-2.0
"""What a service receives: requests and notifications, and their listeners."""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, NamedTuple

from hybrid_messaging.drivers import bodies, errors, logs, oslo, reentry
from hybrid_messaging.drivers.amqp.addressing import Addressing
from hybrid_messaging.drivers.amqp.answers import Answers, OnEnd
from hybrid_messaging.drivers.amqp.duties import Duties
from hybrid_messaging.drivers.amqp.outbox import Outbox
from hybrid_messaging.drivers.amqp.outgoing import SETTLES_WITH_REPLY, Message
from hybrid_messaging.drivers.amqp.subscription import (
    Source,
    Subscription,
    Subscriptions,
)
from hybrid_messaging.drivers.amqp.waiting import Waiting
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.drivers.listeners import HandOver, NotExecuted
from hybrid_messaging.drivers.seen import Seen
from hybrid_messaging.log_safety import quoted
from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    RECEIVER_LOST,
    REJECTED,
    RELEASED,
    Delivery,
    Outcome,
)

LOG = logs.get(__name__)

#: Fanouts that a listener remembers, and for how many seconds. While a mesh of routers
#: finds its ways anew, for a second or two, one may come on two of them; and so it does
#: while a listener moves to another router.
MOST_SEEN, SEEN = 10_000, 60.0


class Desk(NamedTuple):
    """What an inbox works with: parts of its bus."""

    options: Any
    lock: CombiningLock
    duties: Duties
    outbox: Outbox
    waiting: Waiting
    subscriptions: Subscriptions


class Stage(Enum):
    """How far a message has come here. It leaves WAITING once."""

    WAITING = auto()  # for a thread of the service
    BEGUN = auto()  # the service works on it, or has done so
    RETURNED = auto()  # given back to the bus, or refused
    LOST = auto()  # its link has gone, and the bus has told its sender
    WITHDRAWN = auto()  # its sender has given up
    DUPLICATE = auto()  # a fanout that has arrived before
    EXPIRED = auto()  # its sender has given up, as the time that it has waited shows


class Incoming(oslo.RpcIncomingMessage):
    """A message, from its arrival on.

    :param inbox: that it has arrived in
    :param source: the link that it came on, and has a credit of
    :param delivery: to be settled; None if the peer has done that
    """

    def __init__(self, inbox: Inbox, source: Source, delivery: Delivery | None) -> None:
        super().__init__({}, {}, "")
        self.inbox = inbox
        self.source = source
        self.delivery = delivery
        self.stage = Stage.WAITING
        #: its sender takes it for executed, or does not want to know
        self.confirmed = delivery is None
        if delivery is not None:
            delivery.context = self

    def read(self, data: bytes) -> bool:
        """Decode the message.

        :returns: whether it is to be handed to the service
        :raises MalformedMessage: it is no AMQP message
        :raises MalformedBody: it is nothing that oslo.messaging sends
        """
        envelope = codec.decode(data)
        request = bodies.read_request(envelope.body)
        self.ctxt, self.message = request.context, request.message
        self.client_timeout = request.call_monitor_timeout
        self.msg_id = envelope.id or ""
        return self._understand(envelope)

    def _understand(self, envelope: codec.Message) -> bool:
        raise NotImplementedError

    def handed_over(self) -> None:
        """The service has it, and will begin with it when it can."""

    def on_withdrawn(self) -> None:
        """The peer no longer waits for what becomes of it; the lock is held."""
        self.inbox.drop(self, Stage.WITHDRAWN)

    def heartbeat(self) -> None:
        """Do nothing: only a call has a caller that waits for signs of life."""

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        """Do nothing: only a call has a caller that waits for a reply."""


class Notification(Incoming):
    """A notification: settled when the service has dealt with it.

    A listener works on all that it has taken, also after its stop. So a notification
    has begun as soon as the listener has it.
    """

    def _understand(self, envelope: codec.Message) -> bool:
        return self.inbox.begin(self)

    def acknowledge(self) -> None:
        self.inbox.leave(self._settle, ACCEPTED)

    def requeue(self) -> None:
        self.inbox.leave(self._settle, RELEASED)

    def _settle(self, outcome: Outcome) -> None:
        self.source.settle(self.delivery, outcome)
        if self.source.free():
            self.source.renew()


class Request(Incoming):
    """A call or a cast: executed by this server, by another one, or by none.

    Behind a router, a cast is confirmed when it arrives: its sender does not wait for
    a thread of the service. A call whose sender knows how is settled with its reply:
    if this process dies before that, the router tells the caller. Everything else is
    settled when the service begins with it; until then, a broker keeps it.

    What has not begun when the listener stops, goes back to the bus if that is still
    possible. What has not begun when its sender gives up, is not executed.
    """

    def __init__(self, inbox: Inbox, source: Source, delivery: Delivery | None) -> None:
        super().__init__(inbox, source, delivery)
        self._reply_to: str | None = None
        self._id: Any = None
        self._settles_with_reply = False
        self._expires: float | None = None

    def _understand(self, envelope: codec.Message) -> bool:
        self._reply_to = envelope.reply_to
        self._id = envelope.id
        if self._is_duplicate():
            self.inbox.leave(self.inbox.drop, self, Stage.DUPLICATE, ACCEPTED)
            return False
        if self._reply_to is None:
            return self.stage is Stage.WAITING
        if envelope.ttl is not None:
            # by our own clock, which need not agree with the sender's
            self._expires = time.monotonic() + envelope.ttl / 1000
        self._settles_with_reply = (
            self.source.line.routing and SETTLES_WITH_REPLY in envelope.marks
        )
        if self._settles_with_reply and self.confirmed:
            # it was not sent like that: its caller has settled it on its way here
            self.inbox.leave(self.inbox.drop, self, Stage.WITHDRAWN)
            return False
        return self.stage is Stage.WAITING

    def _is_duplicate(self) -> bool:
        # a second time, a broker brings only what has not been settled here
        source = self.source
        return (
            source.fanouts
            and source.line.routing
            and self._id is not None
            and not self.inbox.seen.is_new(self._id)
        )

    def handed_over(self) -> None:
        if self._reply_to is None and not self.confirmed and self.source.line.routing:
            self.inbox.leave(self._confirm)

    def _confirm(self) -> None:
        if self.stage is Stage.WAITING or self.stage is Stage.BEGUN:
            self.confirmed = True
            self.source.settle(self.delivery, ACCEPTED)

    def acknowledge(self) -> None:
        """Begin, unless that was done before.

        :raises NotExecuted: the request is not to be executed here
        """
        if self.stage is Stage.BEGUN:
            return
        if self._expires is not None and time.monotonic() > self._expires:
            self.inbox.leave(self.inbox.drop, self, Stage.EXPIRED, RELEASED)
            raise NotExecuted
        if not self.inbox.begin(self):
            raise NotExecuted
        if not self._settles_with_reply:
            self.inbox.leave(self.source.settle, self.delivery, ACCEPTED)
            if self._reply_to is not None:
                self.inbox.owes_reply(self._expires)
        if self.source.free():
            self.inbox.leave(self.source.renew)

    def requeue(self) -> None:
        self.inbox.leave(self.inbox.drop, self, Stage.RETURNED, RELEASED)

    def heartbeat(self) -> None:
        if self._reply_to is not None:
            answers = self.inbox.answers
            self.inbox.leave(
                self._post,
                answers.sign_of_life(self._reply_to, self._id, self.client_timeout),
                _ignore,
            )

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        if self._reply_to is None:
            return
        answers = self.inbox.answers
        message = answers.reply(
            self._reply_to,
            self._id,
            bodies.reply(reply, failure),
            self._settles_with_reply,
        )
        if message.settled:
            self.inbox.leave(self._post, message, self._answered)
        elif self.source.line.up:
            self.inbox.leave(self._answered, answers.deliver(message))

    def _post(self, message: Message, on_end: OnEnd) -> None:
        if self.source.line.up:
            self.inbox.answers.post(message, on_end)
        else:
            LOG.debug(
                "The connection that the reply address of %s belonged to is closed",
                quoted(self._id),
            )

    def _answered(self, error: Exception | None) -> None:
        """The reply is on its way, or cannot be sent."""
        if isinstance(error, errors.MessageRefused) and self._reply_to is not None:
            LOG.warning(
                "%s; the caller receives this error instead of the reply", error
            )
            told = errors.MessageRefused(f"The reply was not sent: {error}")
            answers = self.inbox.answers
            self._post(
                answers.reply(
                    self._reply_to,
                    self._id,
                    bodies.refusal(told),
                    self._settles_with_reply,
                ),
                self._settle,
            )
        else:
            self._settle(error)

    def _settle(self, error: Exception | None) -> None:
        if error is None:
            self.source.settle(self.delivery, ACCEPTED)
            return
        level = LOG.debug if isinstance(error, _BUS_AWAY) else LOG.warning
        level("%s", error)
        # so that the caller does not wait for what won't come
        self.source.settle(self.delivery, RECEIVER_LOST)


_BUS_AWAY = (errors.BusLost, errors.BusUnavailable)


def _ignore(error: Exception | None) -> None:
    """A sign of life that is lost is missed by nobody but the caller's monitor."""


class Inbox:
    """Takes the messages of one listener and hands them on.

    :param desk: parts of the bus
    :param kind: what the messages are
    :param addresses: returns the addresses, once it is known how the peer names them
    :param capacity: messages that may be under way or wait here, per address
    :param hand_over: called with every message in the thread that reads
    :param seen: the fanouts that have arrived lately, on this bus or on another
    """

    def __init__(
        self,
        desk: Desk,
        kind: type[Incoming],
        addresses: Callable[[Addressing], list[str]],
        capacity: int,
        hand_over: HandOver,
        seen: Seen,
    ) -> None:
        self._desk = desk
        self._kind = kind
        self._hand_over = hand_over
        #: The thread that takes a message out decides on it: set.remove() is atomic.
        self._waiting: set[Incoming] = set()
        #: messages that have not begun, by what became of them
        self.dropped: collections.Counter[Stage] = collections.Counter()
        self._lost = 0
        self.seen = seen
        self._owes_until = -math.inf
        self.answers = Answers(
            desk.options, desk.duties, desk.outbox, desk.waiting.send
        )
        self._subscription = Subscription(
            desk.duties, desk.options.link_retry_delay, addresses, capacity, self
        )
        desk.subscriptions.add(self._subscription)

    # -- the listener ----------------------------------------------------------

    def start(self) -> None:
        self._desk.subscriptions.start(self._subscription)

    def stop(self) -> None:
        self._desk.subscriptions.stop(self._subscription)
        if self.confirmed:
            LOG.info(
                "%d messages that were confirmed to their senders remain to be"
                " executed",
                self.confirmed,
            )

    def cleanup(self) -> None:
        self._desk.subscriptions.remove(self._subscription)
        lost = self._lost + len(self._waiting)
        if lost:
            LOG.error(
                "%d messages are lost: the service had confirmed them to their senders,"
                " and ended before it executed them",
                lost,
            )

    @property
    def attached(self) -> bool:
        """Messages can come on all its addresses."""
        return self._subscription.attached

    def retire(self) -> None:
        """Take what still comes for a while, but attach to no other host."""
        self._desk.subscriptions.retire(self._subscription)

    @property
    def done(self) -> bool:
        """Nothing is under way here any more, after `retire`."""
        return (
            self._subscription.detached
            and not self._waiting
            and time.monotonic() >= self._owes_until
        )

    def owes_reply(self, until: float | None) -> None:
        """Note that a call has begun that is settled before it is answered.

        :param until: monotonic time at which its caller gives up
        """
        if until is None:
            until = time.monotonic() + self._desk.options.default_send_timeout
        self._owes_until = max(self._owes_until, until)

    # -- its messages ------------------------------------------------------------

    @property
    def confirmed(self) -> int:
        """Messages that would be lost if the process were killed now."""
        return sum(incoming.confirmed for incoming in tuple(self._waiting))

    @reentry.works
    def leave(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have something done with the bus' lock held."""
        self._desk.lock.leave(function, *arguments)

    def begin(self, incoming: Incoming) -> bool:
        """Have the service begin with a message, unless it was decided otherwise."""
        return self._move(incoming, Stage.BEGUN)

    def drop(
        self, incoming: Incoming, stage: Stage, outcome: Outcome | None = None
    ) -> None:
        """Do without a message, if it has not begun; called with the lock held.

        :param outcome: what the bus is told, if it has not decided itself
        """
        if not self._move(incoming, stage):
            return
        LOG.debug(
            "%s on %s: %s",
            quoted(incoming.msg_id),
            incoming.source.address,
            stage.name,
        )
        self.dropped[stage] += 1
        # it may still be in the queue of a service that is busy or stuck
        incoming.ctxt, incoming.message = {}, {}
        if outcome is not None:
            incoming.source.settle(incoming.delivery, outcome)
        if incoming.source.free():
            incoming.source.renew()

    # -- its subscription --------------------------------------------------------

    def on_arrived(
        self, source: Source, delivery: Delivery | None, data: bytes
    ) -> None:
        incoming = self._kind(self, source, delivery)
        self._waiting.add(incoming)
        self._desk.duties.afterwards(self._take, incoming, data)

    def on_stopped(self) -> None:
        for incoming in tuple(self._waiting):
            if not incoming.confirmed:
                self.drop(incoming, Stage.RETURNED, RELEASED)

    def on_detached(self, source: Source) -> None:
        for incoming in tuple(self._waiting):
            if incoming.source is source and not incoming.confirmed:
                self.drop(incoming, Stage.LOST)

    # -- inside ------------------------------------------------------------------

    def _take(self, incoming: Incoming, data: bytes) -> None:
        address = incoming.source.address
        try:
            wanted = incoming.read(data)
        except (codec.MalformedMessage, bodies.MalformedBody) as error:
            reason = quoted(error)
            LOG.warning("Refused a message on %s: %s", address, reason)
            refused = REJECTED._replace(
                condition="amqp:decode-error", description=reason
            )
            self.leave(self.drop, incoming, Stage.RETURNED, refused)
            return
        if not wanted:
            return
        try:
            self._hand_over(incoming)
        except RuntimeError as error:  # the service's executor has been shut down
            LOG.debug("Returned a message on %s: %s", address, error)
            incoming.requeue()
            self._lost += incoming.confirmed
        else:
            incoming.handed_over()

    def _move(self, incoming: Incoming, stage: Stage) -> bool:
        try:
            self._waiting.remove(incoming)
        except KeyError:
            return False
        incoming.stage = stage
        return True
