# SPDX-License-Identifier: Apache-2.0
"""One end of an AMQP 1.0 connection over qpid-proton, fed with bytes, without a socket.

Connections, sessions and links are rare, so they are qpid-proton's Python
objects. Transfers and dispositions are frequent, so they go straight to
qpid-proton's C functions (`proton_c`): its Python wrappers for events and
deliveries cost several times the encoding they wrap.

An endpoint is not thread-safe: threads that share one hold a lock around every
call.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import cproton
import proton

from hybrid_messaging.protocol import pieces, proton_c
from hybrid_messaging.protocol.pieces import MAX_FRAME, PIECE, Pieces
from hybrid_messaging.protocol.proton_c import lib
from hybrid_messaging.protocol.reassembly import Reassembly

#: How many bytes of unread transfers a peer may have under way in its first
#: session. In frames, this is more than the credit that links usually get.
SESSION_WINDOW = 8 * 1024 * 1024
#: Later sessions get a share of it, but at least this: many of them, as of peers
#: that open one for each link, are to take little more memory than one.
MIN_SESSION_WINDOW = 4 * MAX_FRAME
#: Sessions beside the first that our own links may have, where the peer allows it.
MAX_APART = 32
#: Bytes that a message may have, and that all incomplete messages of a connection may
#: have together: one more ends its link.
MAX_MESSAGE = 128 * 1024 * 1024

#: Values, keys included, that properties and capabilities may have together each.
MAX_VALUES = 64

#: How often per idle timeout we look whether we have been silent ourselves.
LOOKS = 4

#: Offered by a peer that forwards by each message's own `to` address.
ANONYMOUS_RELAY = "ANONYMOUS-RELAY"


class Excessive(ValueError):
    """A peer has put more into a frame than is kept for it."""


class Delivery:
    """A delivery that is not settled yet; what is done to a settled one is ignored."""

    __slots__ = ("context", "link", "raw")

    def __init__(self, link: Link, raw: Any) -> None:
        self.link = link
        #: qpid-proton's object; None once settled, since its memory is used again
        self.raw = raw
        #: the owner's own object behind this delivery
        self.context: Any = None


class Outcome(NamedTuple):
    """How a delivery ended (AMQP 1.0, part 3, section 3.4)."""

    state: int
    failed: bool = False
    undeliverable: bool = False
    condition: str | None = None
    description: str | None = None

    @property
    def accepted(self) -> bool:
        return self.state == lib.PN_ACCEPTED

    @property
    def never_forwarded(self) -> bool:
        """Nobody has seen the message: it is safe to send it again."""
        return self.state == lib.PN_RELEASED or (
            self.state == lib.PN_MODIFIED and not self.failed and not self.undeliverable
        )

    @property
    def receiver_lost(self) -> bool:
        """Somebody had the message and went away with it, or detached its link."""
        return self.state == 0 or (self.state == lib.PN_MODIFIED and self.failed)

    def __str__(self) -> str:
        name = _STATES.get(self.state, "settled without an outcome")
        detail = ": ".join(part for part in (self.condition, self.description) if part)
        return f"{name} ({detail})" if detail else name


_STATES = {
    lib.PN_ACCEPTED: "accepted",
    lib.PN_REJECTED: "rejected",
    lib.PN_RELEASED: "released",
    lib.PN_MODIFIED: "modified",
}

ACCEPTED = Outcome(lib.PN_ACCEPTED)
REJECTED = Outcome(lib.PN_REJECTED)
RELEASED = Outcome(lib.PN_RELEASED)
MODIFIED = Outcome(lib.PN_MODIFIED)
RECEIVER_LOST = Outcome(lib.PN_MODIFIED, failed=True)
#: settled without a state, or with one that is no outcome, such as `received`
NO_OUTCOME = Outcome(0)


class Handler(Protocol):
    """What an endpoint reports to its owner, from within its own methods."""

    def on_open(self, endpoint: Endpoint) -> None:
        """The peer has opened the connection."""

    def on_close(self, endpoint: Endpoint, condition: str) -> None:
        """The peer has closed the connection, or the transport has failed.

        Called once; `condition` is the peer's reason, or ''.
        """

    def on_link_open(self, link: Link) -> None:
        """The peer has attached a link; `link.local`: we asked for it."""

    def on_link_close(self, link: Link, condition: str) -> None:
        """The peer has detached a link; the owner calls `link.close()`."""

    def on_flow(self, link: Link) -> None:
        """The peer has changed a link's credit or asks to drain it."""

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        """A whole message has arrived; `delivery` is None if the peer settled it."""

    def on_outcome(self, sender: Sender, delivery: Delivery, outcome: Outcome) -> None:
        """The peer has decided on a delivery of ours, which is settled on return."""

    def on_withdrawn(self, delivery: Delivery) -> None:
        """The peer has settled its own delivery before we did.

        One that it settles before `on_message` is not reported at all.
        """


class Link:
    """A link of an endpoint, whichever side attached it first."""

    __slots__ = (
        "_deliveries",
        "_pn",
        "closed",
        "context",
        "endpoint",
        "local",
        "raw",
        "session",
    )

    def __init__(self, endpoint: Endpoint, pn: proton.Link, local: bool) -> None:
        self.endpoint = endpoint
        self._pn: proton.Link | None = pn
        self.raw = proton_c.address(pn._impl)
        self.local = local
        self.closed = False
        #: the session that it is in, until it is closed
        self.session: _Session | None = endpoint._join(self)
        #: the owner's own object behind this link
        self.context: Any = None
        self._deliveries: dict[Any, Delivery] = {}

    @property
    def pn(self) -> proton.Link:
        """qpid-proton's own link, until ours is closed."""
        assert self._pn is not None, "the link is closed"
        return self._pn

    @property
    def name(self) -> str:
        return self.pn.name

    @property
    def remote_properties(self) -> dict[str, Any]:
        """The properties of the peer's attach, with plain strings as keys.

        :raises Excessive: the peer's connection should end
        """
        return _properties(cproton.pn_link_remote_properties(self.pn._impl))

    @property
    def credit(self) -> int:
        return 0 if self.closed else lib.pn_link_credit(self.raw)

    @property
    def unsettled(self) -> int:
        return 0 if self.closed else lib.pn_link_unsettled(self.raw)

    @property
    def deliveries(self) -> list[Delivery]:
        """The unsettled deliveries that the owner knows, oldest first."""
        return list(self._deliveries.values())

    def close(self, condition: proton.Condition | None = None) -> None:
        """Detach and forget the link; unsettled deliveries on it are dead after this.

        :param condition: the reason to give the peer, if any
        """
        if not self.closed:
            self.closed = True
            if condition is not None:
                self.pn.condition = condition
            self.endpoint._forget(self)
            self.pn.close()
            self.pn.free()
            self.endpoint._leave(self)
            self._let_go()

    def disown(self) -> None:
        """Forget all deliveries: what is done to them has no effect any more."""
        for delivery in self._deliveries.values():
            delivery.raw = None
        self._deliveries.clear()

    def _let_go(self) -> None:
        # Here and now: the last reference to us may be dropped in another thread, and
        # qpid-proton must not free a link there.
        self.closed = True
        self._pn = self.session = None


class Sender(Link):
    """A link that we send on."""

    __slots__ = ("_gives_up_credit", "_pieces", "_withdrawn", "max_message_size")

    def __init__(self, endpoint: Endpoint, pn: proton.Link, local: bool) -> None:
        super().__init__(endpoint, pn, local)
        #: bytes that the peer takes in one message, once it has attached; 0: any
        self.max_message_size = 0
        self._pieces = Pieces(self.raw)
        #: give up credit once these are through
        self._gives_up_credit = False
        #: deliveries to settle once qpid-proton has sent all of them
        self._withdrawn: list[Any] = []

    def send(self, data: bytes, settled: bool = False) -> Delivery | None:
        """Send one encoded message; the caller has looked at the credit.

        :param data: the message, all its sections
        :param settled: no outcome will be told: it is settled at once, or where it goes
            in pieces as soon as the peer lets it
        :returns: the delivery that `on_outcome` will name, None where settled
        """
        delivery = lib.pn_delivery(self.raw, self.endpoint._next_tag())
        if self._pieces or len(data) > PIECE:
            self._pieces.add(delivery, data, settled)
            self.endpoint._unfinished[self] = None
        else:
            lib.pn_link_send(self.raw, data, len(data))
            pieces.complete(self.raw, delivery, settled)
        if settled:
            return None
        self._deliveries[delivery] = unsettled = Delivery(self, delivery)
        return unsettled

    def forget(self, delivery: Delivery) -> None:
        """Withdraw a delivery: its outcome no longer matters, nor need it arrive."""
        raw, delivery.raw = delivery.raw, None
        if raw is None:
            return
        del self._deliveries[raw]
        if self._pieces.abort(raw):
            return
        if lib.pn_delivery_pending(raw):
            # settled now, it would be sent as if it had never been unsettled
            self._withdrawn.append(raw)
            self.endpoint._unfinished[self] = None
        else:
            _withdraw(raw)

    def _decided(self, raw: Any) -> None:
        """The peer has decided on a delivery, perhaps before it has all of it."""
        if raw in self._withdrawn:
            return  # it is settled once all of it is sent
        if not (self._pieces and self._pieces.abort(raw)):
            lib.pn_delivery_settle(raw)

    def _go_on(self) -> bool:
        """Hand over what can be now; return whether there was something."""
        moved = self._pieces.go_on()
        if self._gives_up_credit and not self._pieces:
            self.drained()
        for raw in tuple(self._withdrawn):
            if not lib.pn_delivery_pending(raw):
                self._withdrawn.remove(raw)
                _withdraw(raw)
                moved = True
        if not self._pieces and not self._withdrawn:
            del self.endpoint._unfinished[self]
        return moved

    @property
    def credit(self) -> int:
        # qpid-proton counts a message when it has seen all of it
        return 0 if self.closed else lib.pn_link_credit(self.raw) - len(self._pieces)

    def drained(self) -> None:
        """Inform a peer that drains this link that there is nothing left to send."""
        # credit that is given up would be missing for the rest of a message
        self._gives_up_credit = bool(self._pieces)
        if not self._pieces:
            lib.pn_link_drained(self.raw)

    @property
    def draining(self) -> bool:
        return bool(lib.pn_link_get_drain(self.raw))


def _withdraw(raw: Any) -> None:
    # The state tells it from one that was settled when it was sent, where the peer
    # learns of both at the same time.
    lib.pn_delivery_update(raw, lib.PN_RELEASED)
    lib.pn_delivery_settle(raw)


class _Session:
    """The links of one session.

    :param apart: it is one beside the first, and ends with the last of its links
    """

    __slots__ = ("apart", "links", "raw")

    def __init__(self, raw: Any, apart: bool = False) -> None:
        self.raw = raw
        self.apart = apart
        self.links: dict[Link, None] = {}


class Receiver(Link):
    """A link that we receive on."""

    __slots__ = ("_unread", "continued", "paused", "since")

    def __init__(self, endpoint: Endpoint, pn: proton.Link, local: bool) -> None:
        super().__init__(endpoint, pn, local)
        #: messages stay unread; credit and session window bound how many
        self.paused = False
        #: monotonic time since which the message that `on_message` tells of has
        #: waited unread; None: it has just arrived
        self.since: float | None = None
        #: monotonic time at which a part of a message came that is not complete yet
        self.continued = -math.inf
        self._unread: dict[Any, _Unread] = {}

    def grant(self, credit: int) -> None:
        """Let the peer send so many more messages."""
        lib.pn_link_flow(self.raw, credit)

    def drain(self) -> None:
        """Ask the peer to use up its credit now or to give it back."""
        lib.pn_link_drain(self.raw, 0)

    def take_given_up(self) -> int:
        """The credit that the peer has given up since this was last called."""
        return int(lib.pn_link_drained(self.raw))

    def resume(self) -> None:
        """Read again, beginning with what has arrived in the meantime."""
        self.paused = False
        while not (self.paused or self.closed or self.endpoint.paused):
            raw = lib.pn_link_current(self.raw)
            if not raw or not self.endpoint._read(raw):
                break

    def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Settle a delivery of the peer's with our outcome, once.

        A delivery that the peer or the end of its link has settled in the
        meantime is left alone.
        """
        raw, delivery.raw = delivery.raw, None
        if raw is None:
            return
        del self._deliveries[raw]
        if outcome.state == lib.PN_MODIFIED:
            local = lib.pn_delivery_local(raw)
            lib.pn_disposition_set_failed(local, outcome.failed)
            lib.pn_disposition_set_undeliverable(local, outcome.undeliverable)
        elif outcome.condition:
            condition = proton_c.wrap_condition(
                lib.pn_disposition_condition(lib.pn_delivery_local(raw))
            )
            cproton.pn_condition_set_name(condition, outcome.condition)
            if outcome.description:
                cproton.pn_condition_set_description(condition, outcome.description)
        if outcome.state:
            lib.pn_delivery_update(raw, outcome.state)
        lib.pn_delivery_settle(raw)


class _Unread(NamedTuple):
    """A delivery that waits on a paused link: since when, and how it was sent."""

    since: float
    settled: bool


class Endpoint:
    """An AMQP 1.0 connection: bytes in, bytes out, what they mean to a handler.

    :param handler: is told what the peer does
    :param container: container-id of our Open
    :param server: wait for the peer's protocol header instead of starting
    :param idle_timeout: seconds of silence after which the peer counts as
        gone; the peer is asked for a frame at least every half of it; 0: never
    :param setup: called with the transport and the connection before they are
        bound: TLS, SASL and Open's fields are set there
    """

    def __init__(
        self,
        handler: Handler,
        container: str,
        *,
        server: bool = False,
        idle_timeout: float = 0,
        setup: Callable[[proton.Transport, proton.Connection], None] | None = None,
    ) -> None:
        self.handler = handler
        #: the peer has opened the connection
        self.opened = False
        #: the peer has closed the connection, or the transport has failed
        self.closed = False
        #: the reason for that, once it is known
        self.failure = ""
        #: messages stay unread on all links
        self.paused = False
        self.transport = proton.Transport(
            proton.Transport.SERVER if server else proton.Transport.CLIENT
        )
        self.connection = proton.Connection()
        self.connection.container = container
        self.transport.max_frame_size = MAX_FRAME
        if idle_timeout:
            self.transport.idle_timeout = idle_timeout
        self._collector = proton.Collector()
        self.connection.collect(self._collector)
        if setup is not None:
            setup(self.transport, self.connection)
        self.transport.bind(self.connection)
        self._raw_transport = proton_c.address(self.transport._impl)
        self._raw_collector = proton_c.address(self._collector._impl)
        self._links: dict[Any, Link] = {}
        #: senders with messages that qpid-proton has not seen all of
        self._unfinished: dict[Sender, None] = {}
        self._partial = Reassembly()
        self._session: proton.Session | None = None
        #: the sessions that links are in
        self._sessions: dict[Any, _Session] = {}
        self._remote_sessions = 0
        self._names = itertools.count()
        # the tag of the last delivery: a number, which qpid-proton copies from here
        self._tag_number = ctypes.c_uint64()
        self._tag = proton_c.Tag(8, ctypes.addressof(self._tag_number))
        self._output: Any = ctypes.create_string_buffer(MAX_FRAME)
        self._output_at = ctypes.addressof(self._output)
        self._input: Any = ctypes.create_string_buffer(MAX_FRAME)
        self._input_at = ctypes.addressof(self._input)
        self._push = proton_c.push_unlocked  # until the peer has authenticated
        #: monotonic time of the last bytes, where no tick has come since
        self._heard: float | None = None

    # -- bytes ---------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer and tell the handler what they mean."""
        self._heard = time.monotonic()
        self._dispatch(_OWN_EVENTS)
        start: bytes | int = data
        taken, total = 0, len(data)
        while (count := self._push(self._raw_transport, start, total - taken)) > 0:
            taken += count
            self._dispatch()
            if taken == total:
                return
            start = proton_c.start_of(data) + taken
        self._dispatch()  # the transport is closed or broken, as its event says

    def end_of_input(self) -> None:
        """The peer will send no more bytes."""
        lib.pn_transport_close_tail(self._raw_transport)
        self._dispatch()
        if not self.closed:  # qpid-proton still waits for the rest of a frame
            self.failure = "the connection was cut off"
            self.discard_output()

    def output(self) -> bytes:
        """The bytes that wait to be written, at most one frame's worth.

        `written()` removes them.
        """
        pending = lib.pn_transport_pending(self._raw_transport)
        if self._unfinished:
            pending = self._hand_over(pending)
        if pending <= 0:
            return b""
        size = min(pending, MAX_FRAME)
        lib.pn_transport_peek(self._raw_transport, self._output_at, size)
        data: bytes = self._output[:size]
        return data

    def _hand_over(self, pending: int) -> int:
        while 0 <= pending < MAX_FRAME:
            if not any([sender._go_on() for sender in tuple(self._unfinished)]):
                break
            pending = lib.pn_transport_pending(self._raw_transport)
        return pending

    def written(self, size: int) -> None:
        """So many bytes of `output()` have been handed to the network."""
        lib.pn_transport_pop(self._raw_transport, size)

    @property
    def buffered(self) -> int:
        """How many bytes wait to be written, those of messages included."""
        count = max(0, lib.pn_transport_pending(self._raw_transport))
        session = lib.pn_session_head(proton_c.address(self.connection._impl), 0)
        while session:
            count += lib.pn_session_outgoing_bytes(session)
            session = lib.pn_session_next(session, 0)
        return count + sum(sender._pieces.size for sender in self._unfinished)

    def discard_output(self) -> None:
        """The network takes no more bytes."""
        lib.pn_transport_close_head(self._raw_transport)
        self._dispatch()

    @property
    def finished(self) -> bool:
        """Nothing more will be read or written: the socket can be closed."""
        return bool(lib.pn_transport_closed(self._raw_transport))

    def tick(self, now: float) -> float | None:
        """Send or expect keep-alive frames.

        :param now: seconds on the monotonic clock
        :returns: when to call again at the latest, on the same clock; None: never
        """
        # qpid-proton measures the peer's silence from the first tick after its last
        # byte: have that tick at the time of the byte.
        if self._heard is not None:
            self._tick(self._heard)
            self._heard = None
        deadline = self._tick(now)
        self._dispatch()
        if not deadline:
            return None
        # It measures our own silence in the same way, from our last byte: look often.
        look = self.transport.idle_timeout / LOOKS or math.inf
        return min((deadline - 1) / 1000, now + look)

    def _tick(self, now: float) -> int:
        # proton takes 0 for "no deadline" and counts whole milliseconds
        deadline: int = lib.pn_transport_tick(self._raw_transport, int(now * 1000) + 1)
        return deadline

    # -- the connection ------------------------------------------------

    def open(self) -> None:
        """Open the connection, with what `setup` left in its fields."""
        self.connection.open()

    def close(self, condition: proton.Condition | None = None) -> None:
        """Say good-bye; the peer's answer or the end of the socket finishes it."""
        if condition is not None:
            self.connection.condition = condition
        self.connection.close()

    def abandon(self) -> None:
        """Free all that qpid-proton keeps; no other call may follow.

        Freed in the thread that calls this, even if others still refer to parts of it.
        """
        self.closed = True
        self._partial.clear()
        self._unfinished.clear()
        for link in self._links.values():
            link.disown()
            link._let_go()
        self._links.clear()
        self._sessions.clear()
        self._session = None
        self.transport.unbind()
        del self.transport, self.connection, self._collector

    @property
    def authentication_failed(self) -> bool:
        """The peer's SASL layer, or ours, has refused the other side."""
        outcome = self.transport.sasl().outcome
        return outcome not in (None, proton.SASL.OK)

    @property
    def remote_properties(self) -> dict[str, Any]:
        """The properties of the peer's Open, with plain strings as keys.

        :raises Excessive: the peer's connection should end
        """
        return _properties(
            cproton.pn_connection_remote_properties(self.connection._impl)
        )

    @property
    def remote_product(self) -> str | None:
        """What the peer's Open says that it is.

        :raises Excessive: the peer's connection should end
        """
        product = self.remote_properties.get("product")
        return str(product) if isinstance(product, str) else None

    @property
    def relays_anonymously(self) -> bool:
        """The peer forwards messages of a sender without a target address.

        :raises Excessive: the peer's connection should end
        """
        offered = _convert(
            cproton.pn_connection_remote_offered_capabilities(self.connection._impl)
        )
        return offered == ANONYMOUS_RELAY or (
            isinstance(offered, proton.Array) and ANONYMOUS_RELAY in offered.elements
        )

    # -- links ---------------------------------------------------------

    def resume(self) -> None:
        """Read again on all links, beginning with what has arrived meanwhile."""
        self.paused = False
        for link in tuple(self._links.values()):
            if self.paused:
                break
            if isinstance(link, Receiver) and not link.paused:
                link.resume()

    @property
    def session(self) -> proton.Session:
        """The first session of our own links, opened with the first of them."""
        if self._session is None:
            self._session = self._open_session(SESSION_WINDOW)
        return self._session

    def _open_session(self, window: int) -> proton.Session:
        session = self.connection.session()
        session.incoming_capacity = window
        session.open()
        return session

    def _session_apart(self) -> proton.Session:
        """The session with the fewest links beside the first, if there may be one."""
        # half of what the peer allows: one that is ending may still be counted
        limit = min(MAX_APART, self.transport.remote_channel_max // 2)
        apart = [each for each in self._sessions.values() if each.apart]
        if len(apart) < limit:
            session = self._open_session(MIN_SESSION_WINDOW)
            raw = proton_c.address(session._impl)
            self._sessions[raw] = _Session(raw, apart=True)
            return session
        if not apart:
            return self.session
        return proton_c.wrap_session(min(apart, key=lambda each: len(each.links)).raw)

    def _join(self, link: Link) -> _Session:
        raw = lib.pn_link_session(link.raw)
        session = self._sessions.get(raw)
        if session is None:
            session = self._sessions[raw] = _Session(raw)
        session.links[link] = None
        return session

    def _leave(self, link: Link) -> None:
        session = link.session
        assert session is not None
        del session.links[link]
        if session.links or self._sessions.pop(session.raw, None) is not session:
            return
        if session.apart:
            # it is freed when the peer has ended it, too
            proton_c.wrap_session(session.raw).close()

    def sender(self, address: str | None, apart: bool = False) -> Sender:
        """Attach a link to an address; None: each message names its own.

        :param apart: what the peer does not take on this link shall not hold up the
            others: in a separate session, or shared with few
        """
        session = self._session_apart() if apart else self.session
        pn = session.sender(self._link_name(address))
        pn.source.address = self.connection.container
        if address is not None:
            pn.target.address = address
        link = Sender(self, pn, local=True)
        self._links[link.raw] = link
        pn.open()
        return link

    def receiver(
        self,
        address: str | None,
        prepare: Callable[[proton.Link], None] | None = None,
    ) -> Receiver:
        """Attach a link from an address; None: from one that the peer invents.

        :param prepare: called before the link is opened: more source fields
        """
        pn = self.session.receiver(self._link_name(address))
        if address is None:
            pn.source.dynamic = True
        else:
            pn.source.address = address
            pn.target.address = address
        if prepare is not None:
            prepare(pn)
        link = Receiver(self, pn, local=True)
        self._links[link.raw] = link
        pn.open()
        return link

    def _next_tag(self) -> proton_c.Tag:
        self._tag_number.value += 1
        return self._tag

    def _link_name(self, address: str | None) -> str:
        return f"{self.connection.container}-{next(self._names)}-{address or ''}"

    def _forget(self, link: Link) -> None:
        self._links.pop(link.raw, None)
        link.disown()
        if isinstance(link, Sender):
            self._unfinished.pop(link, None)
            link._pieces.abort_all()
        elif self._partial:
            self._partial.drop_link(link.raw)

    # -- events --------------------------------------------------------

    def _dispatch(self, handlers: _Handlers | None = None) -> None:
        collector = self._raw_collector
        while event := lib.pn_collector_peek(collector):
            handle = (handlers or _EVENTS).get(lib.pn_event_type(event))
            try:
                if handle is not None:
                    handle(self, event)
            finally:
                lib.pn_collector_pop(collector)

    def _on_delivery(self, event: Any) -> None:
        delivery = lib.pn_event_delivery(event)
        if lib.pn_delivery_readable(delivery):
            self._read(delivery)
        elif lib.pn_delivery_updated(delivery):
            self._update(delivery)
        else:
            self._leave_unread(
                self._links.get(lib.pn_delivery_link(delivery)), delivery
            )

    def _leave_unread(self, link: Link | None, delivery: Any) -> None:
        """Note a delivery that has arrived on a paused link, or more of it."""
        if (
            isinstance(link, Receiver)
            and (link.paused or self.paused)
            and delivery not in link._unread
            and delivery not in link._deliveries
            and lib.pn_delivery_pending(delivery)  # else it has been read and settled
        ):
            settled = lib.pn_delivery_settled(delivery) and not _withdrawn(delivery)
            link._unread[delivery] = _Unread(time.monotonic(), settled)

    def _read(self, delivery: Any) -> bool:
        """Read what has arrived of a delivery; return whether that was all of it."""
        raw = lib.pn_delivery_link(delivery)
        link = self._links.get(raw)
        if link is None:  # closed by us while this was under way
            return False
        assert isinstance(link, Receiver)
        if link.paused or self.paused:
            if lib.pn_link_queued(raw) > lib.pn_link_credit(raw):
                self._violated(link, _NO_CREDIT)
            else:
                self._leave_unread(link, delivery)
            return False
        size = lib.pn_link_recv(raw, self._input_at, MAX_FRAME)
        if size < 0:
            if lib.pn_delivery_aborted(delivery):
                self._partial.take(delivery)
                self._drop(link, delivery)
                return True
            size = 0  # it ends with an empty frame
        data: bytes = self._input[:size]
        if size == MAX_FRAME:
            size = lib.pn_delivery_pending(delivery)
            rest = ctypes.create_string_buffer(size)
            lib.pn_link_recv(raw, ctypes.addressof(rest), size)
            data += rest.raw
        if lib.pn_delivery_partial(delivery):
            self._partial.add(delivery, data)
            link.continued = time.monotonic()
            if self._partial.size > MAX_MESSAGE:
                self._violated(link, _TOO_LARGE)
            return False
        if self._partial:
            data = self._partial.take(delivery) + data
        lib.pn_link_advance(raw)
        unread = link._unread.pop(delivery, None) if link._unread else None
        link.since = None if unread is None else unread.since
        if lib.pn_link_credit(raw) < 0:
            self._violated(link, _NO_CREDIT)
        elif not lib.pn_delivery_settled(delivery):
            link._deliveries[delivery] = unsettled = Delivery(link, delivery)
            self.handler.on_message(link, unsettled, data)
        elif _withdrawn(delivery) or (unread is not None and not unread.settled):
            self._drop(link, delivery)
        else:
            lib.pn_delivery_settle(delivery)
            self.handler.on_message(link, None, data)
        return True

    def _drop(self, link: Receiver, delivery: Any) -> None:
        """Settle a delivery of which the owner never learns; it costs no credit."""
        link._unread.pop(delivery, None)
        lib.pn_delivery_settle(delivery)
        if not lib.pn_link_get_drain(link.raw):
            link.grant(1)

    def _violated(self, link: Link, condition: proton.Condition) -> None:
        link.close(condition)
        self.handler.on_link_close(link, f"{condition.name}: {condition.description}")

    def _update(self, raw: Any) -> None:
        link = self._links.get(lib.pn_delivery_link(raw))
        delivery = None if link is None else link._deliveries.get(raw)
        state = lib.pn_delivery_remote_state(raw)
        settled = lib.pn_delivery_settled(raw)
        over = settled or state in _STATES  # not `received`, or nothing new
        if link is None or delivery is None:
            if over and isinstance(link, Sender):
                link._decided(raw)  # it went in pieces, and nobody is to be told
            else:
                self._leave_unread(link, raw)
            return
        if not over:
            return
        if isinstance(link, Sender):
            outcome = _outcome(raw, state)
            del link._deliveries[raw]
            delivery.raw = None
            link._decided(raw)
            self.handler.on_outcome(link, delivery, outcome)
        elif settled:
            # the sender has given up on a message that we still work on
            del link._deliveries[raw]
            delivery.raw = None
            lib.pn_delivery_settle(raw)
            self.handler.on_withdrawn(delivery)

    def _on_link_remote_open(self, event: Any) -> None:
        raw = lib.pn_event_link(event)
        link = self._links.get(raw)
        if link is None:
            pn = proton_c.wrap_link(raw)
            kind = Sender if pn.is_sender else Receiver
            link = kind(self, pn, local=False)
            self._links[raw] = link
        if isinstance(link, Sender):
            link.max_message_size = lib.pn_link_remote_max_message_size(raw)
        self.handler.on_link_open(link)

    def _on_link_remote_close(self, event: Any) -> None:
        link = self._links.get(lib.pn_event_link(event))
        if link is not None:
            reason = _text(cproton.pn_link_remote_condition(link.pn._impl))
            self.handler.on_link_close(link, reason)

    def _on_link_flow(self, event: Any) -> None:
        link = self._links.get(lib.pn_event_link(event))
        if link is not None:
            self.handler.on_flow(link)

    def _on_session_remote_open(self, event: Any) -> None:
        session = proton_c.wrap_session(lib.pn_event_session(event))
        self._remote_sessions += 1
        if session.state & proton.Endpoint.LOCAL_UNINIT:
            share = SESSION_WINDOW // self._remote_sessions
            session.incoming_capacity = max(share, MIN_SESSION_WINDOW)
            session.open()

    def _on_session_remote_close(self, event: Any) -> None:
        raw = lib.pn_event_session(event)
        session = proton_c.wrap_session(raw)
        self._remote_sessions -= 1
        reason = _text(cproton.pn_session_remote_condition(session._impl))
        known = self._sessions.pop(raw, None)
        for link in () if known is None else tuple(known.links):
            self.handler.on_link_close(link, reason or "the session was ended")
        if session == self._session:
            self._session = None
        session.close()
        session.free()

    def _on_connection_remote_open(self, event: Any) -> None:
        self.opened = True
        self._push = lib.pn_transport_push
        self.handler.on_open(self)

    def _on_connection_remote_close(self, event: Any) -> None:
        reason = _text(cproton.pn_connection_remote_condition(self.connection._impl))
        self.connection.close()
        self._lost(reason)

    def _on_transport_error(self, event: Any) -> None:
        self._lost(_text(cproton.pn_transport_condition(self.transport._impl)))

    def _on_transport_closed(self, event: Any) -> None:
        self._lost("")

    def _lost(self, reason: str) -> None:
        self.failure = self.failure or reason
        if not self.closed:
            self.closed = True
            self.handler.on_close(self, reason)


def _properties(data: Any) -> dict[str, Any]:
    found = _convert(data)
    if not isinstance(found, dict):
        return {}
    return {str(key): value for key, value in found.items()}


def _convert(data: Any) -> Any:
    """What a peer has said in a field of Open or Attach; None: nothing readable.

    qpid-proton decodes such a field when it is asked for, and keeps what it has made
    of it as long as the connection or link: up to 5 MB of a few bytes that claim to be
    an array of many values. So it is asked only for what is needed.
    """
    if not data:
        return None
    values = proton.Data(data)
    values.rewind()
    count = depth = 0
    while True:
        if values.next():
            count += 1
            values.enter()
            depth += 1
        elif depth:
            values.exit()
            depth -= 1
        else:
            break
        if count > MAX_VALUES:
            raise Excessive(
                f"a field of open or attach has more than {MAX_VALUES} values"
            )
    values.rewind()
    try:
        values.next()
        return values.get_object()
    except Exception:  # a stranger's bytes may lead to any
        return None


def _withdrawn(delivery: Any) -> bool:
    """A settled delivery bears the mark of `_withdraw()`."""
    return bool(lib.pn_delivery_remote_state(delivery) == lib.PN_RELEASED)


def _outcome(delivery: Any, state: int) -> Outcome:
    if state == lib.PN_ACCEPTED:
        return ACCEPTED
    if state not in _STATES:
        return NO_OUTCOME
    remote = lib.pn_delivery_remote(delivery)
    if state == lib.PN_MODIFIED:
        return Outcome(
            state,
            bool(lib.pn_disposition_is_failed(remote)),
            bool(lib.pn_disposition_is_undeliverable(remote)),
        )
    name, description = proton_c.read_condition(
        proton_c.wrap_condition(lib.pn_disposition_condition(remote))
    )
    return Outcome(state, condition=name, description=description)


def _text(condition: Any) -> str:
    return ": ".join(filter(None, proton_c.read_condition(condition)))


_TOO_LARGE = proton.Condition(
    "amqp:link:message-size-exceeded",
    f"incomplete messages exceed {MAX_MESSAGE} bytes",
)
_NO_CREDIT = proton.Condition(
    "amqp:link:transfer-limit-exceeded", "a message was sent without credit"
)

_Handlers = dict[int, Callable[[Endpoint, Any], None]]
_EVENTS: _Handlers = {
    lib.PN_DELIVERY: Endpoint._on_delivery,
    lib.PN_LINK_FLOW: Endpoint._on_link_flow,
    lib.PN_LINK_REMOTE_OPEN: Endpoint._on_link_remote_open,
    lib.PN_LINK_REMOTE_CLOSE: Endpoint._on_link_remote_close,
    lib.PN_LINK_REMOTE_DETACH: Endpoint._on_link_remote_close,
    lib.PN_SESSION_REMOTE_OPEN: Endpoint._on_session_remote_open,
    lib.PN_SESSION_REMOTE_CLOSE: Endpoint._on_session_remote_close,
    lib.PN_CONNECTION_REMOTE_OPEN: Endpoint._on_connection_remote_open,
    lib.PN_CONNECTION_REMOTE_CLOSE: Endpoint._on_connection_remote_close,
    lib.PN_TRANSPORT_ERROR: Endpoint._on_transport_error,
    lib.PN_TRANSPORT_CLOSED: Endpoint._on_transport_closed,
}
#: What may happen while nothing is read; all else says that we have sent something.
_OWN_EVENTS: _Handlers = {
    event: _EVENTS[event] for event in (lib.PN_TRANSPORT_ERROR, lib.PN_TRANSPORT_CLOSED)
}
