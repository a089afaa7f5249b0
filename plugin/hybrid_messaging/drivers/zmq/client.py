# SPDX-License-Identifier: Apache-2.0
"""The sending side: one socket, connected to every server's process in use.

The thread that sends a message finds a server for it, waits for what becomes of
it, and watches its own deadlines.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import zmq
from oslo_messaging import exceptions

from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.zmq import keys, wire
from hybrid_messaging.drivers.zmq.directory import Directory, Listing
from hybrid_messaging.drivers.zmq.matchmaker import Record
from hybrid_messaging.drivers.zmq.message import Message, State
from hybrid_messaging.drivers.zmq.peer import Link, Peer
from hybrid_messaging.drivers.zmq.proxies import ProxiedDirectory
from hybrid_messaging.drivers.zmq.sockets import CALLERS_READ, Event, Socket, resolve

#: Seconds within which a server that is there is connected, on a good network.
SETTLING = 2.0
#: Seconds that a connection may take before the matchmaker is asked about it.
CONNECTING = SETTLING / 2
#: Pauses before another look for a server, in seconds.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
#: A thread that has sent alone so many times in a row reads for itself.
LONE_SENDINGS = 4
#: Seconds between two looks for servers of a route that are not connected.
CONNECT_INTERVAL = 1.0
#: Seconds between two looks for connections that nobody uses.
SWEEP_INTERVAL = 10.0


class Candidate:
    """A listener that a message could go to."""

    __slots__ = ("address", "avoid", "peer", "record")

    def __init__(self, record: Record, address: bytes, peer: Peer) -> None:
        self.record = record
        self.address = address
        self.peer = peer
        #: it did not want a message; wait for news of it
        self.avoid = False


class Route:
    """Whom messages of a topic, or to one of its servers, can go to.

    :param topic: its name in the directory
    :param server: None for any
    """

    __slots__ = ("candidates", "connect_at", "listing", "server", "topic", "turn")

    def __init__(self, topic: str, server: str | None) -> None:
        self.topic = topic
        self.server = server
        self.listing: Listing | None = None
        self.candidates: list[Candidate] = []
        #: monotonic time at which those without a connection are looked at
        self.connect_at = 0.0
        self.turn = 0

    def connecting(self) -> bool:
        """Whether there will soon be news of one of them."""
        return any(each.peer.link is Link.CONNECTING for each in self.candidates)

    def choose(self) -> Candidate | None:
        """The next in turn of those that are connected."""
        candidates = self.candidates
        for _ in candidates:
            self.turn = turn = (self.turn + 1) % len(candidates)
            candidate = candidates[turn]
            if candidate.peer.up and not candidate.avoid:
                return candidate
        return None


class Client:
    """All that a transport of this process sends.

    :param options: the [oslo_messaging_zmq] group
    :param own_keys: for CURVE; None: without
    :param on_news: called when it has changed who can be reached
    """

    def __init__(
        self,
        options: Any,
        own_keys: keys.Keys | None,
        directory: Directory | ProxiedDirectory,
        on_news: Callable[[], None] = lambda: None,
    ) -> None:
        self._options = options
        self._keys = own_keys
        self._directory = directory
        self._on_news = on_news
        self._lock = threading.Lock()
        #: by their endpoints and keys
        self._peers: dict[tuple[str, str], Peer] = {}
        self._by_address: dict[str, Peer] = {}
        self._by_routing_id: dict[bytes, Peer] = {}
        self._routes: dict[tuple[str, str | None], Route] = {}
        self._ids = itertools.count()
        self._routing_ids = itertools.count(1)
        #: what is being sent; a thread each
        self._sending: set[Message] = set()
        #: messages sent since two threads did at once
        self._alone = 0
        self._sweep_at = time.monotonic() + SWEEP_INTERVAL
        self._closed = False
        self._socket = Socket(
            "zmq-client", options, own_keys, self._on_frames, self._on_event
        )

    # -- in the sending thread ---------------------------------------------------

    def send(
        self, message: Message, topic: str, server: str | None, timeout: float
    ) -> bytes | None:
        """Send a message to one server, and wait until it is over.

        :param topic: its name in the directory
        :param server: None for any
        :param timeout: seconds that all of it may take
        :returns: the body of the reply, for a call
        :raises DeliveryError: it did not get through, its class says why
        :raises MessagingTimeout: the time was up first
        """
        sending = _Sending(self, message, self.route(topic, server), timeout)
        return self._while_sending(message, sending.run)

    def fan_out(self, message: Message, topic: str, timeout: float) -> None:
        """Send a message to all servers of a topic, and wait until they have it.

        :raises DeliveryError: who they are cannot be found out
        """
        route = self.route(topic, None)
        self._while_sending(message, _FanningOut(self, message, route, timeout).run)

    def _while_sending(self, message: Message, run: Any) -> bytes | None:
        sending = self._sending
        sending.add(message)
        self._alone = 0 if len(sending) > 1 else self._alone + 1
        try:
            run()
        finally:
            sending.discard(message)
            if message.with_peers:
                # those of a fanout are late, or the thread has been torn away
                self._socket.do(self._forget, message)
            if sending:
                self._socket.step_in()
        if message.error is not None:
            raise message.error
        return message.reply

    def sleep(self, message: Message, until: float) -> None:
        """Wait for something to be said about a message.

        :param until: monotonic time at which to look up anyway
        """
        if (
            CALLERS_READ
            and self._alone >= LONE_SENDINGS
            and message.waits()
            and self._socket.read_while(message, until)
        ):
            if len(self._sending) > 1:
                self._socket.catch_up()
            return
        message.waiter.wait(until - time.monotonic())

    def transmit(self, message: Message, candidates: list[Candidate]) -> None:
        """Hand a message to ZeroMQ, once for each candidate.

        Another thread may do so, a little later; wait while the message waits.
        """
        message.state = State.LEAVING
        self._socket.do(self._transmit, message, candidates)
        if self._closed and message.state is not State.DONE:
            message.finish(_closed(message))

    def give_up(self, message: Message, error: Exception) -> None:
        """Wait no longer, unless the answer has come meanwhile."""
        self._socket.do(self._give_up, message, error)

    def refresh(self, route: Route) -> None:
        """Have a route know what the directory knows."""
        listing = self._directory.known(route.topic)
        if listing is None:
            return
        listing.used = time.monotonic()
        if listing is not route.listing:
            with self._lock:
                route.candidates = [
                    Candidate(record, record.address(route.topic), self._peer(record))
                    for record in listing.records
                    if route.server in (None, record.server)
                ]
            route.listing = listing
            route.connect_at = 0.0
        if listing.used >= route.connect_at:
            # those that are not needed yet, too: they are to share the work
            route.connect_at = listing.used + CONNECT_INTERVAL
            self.widen(route)
        self.tidy(listing.used)

    def tidy(self, now: float) -> None:
        """Let go of what nobody has used for long."""
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_INTERVAL
            self._socket.do(self._sweep, now)

    def widen(self, route: Route) -> None:
        """Begin to connect to so many servers that they can share the work."""
        now = time.monotonic()
        missing: int = self._options.connections_per_topic - sum(
            not (candidate.avoid or candidate.peer.link is Link.DOWN)
            for candidate in route.candidates
        )
        if missing <= 0:
            return
        near = [each for each in route.candidates if each.peer.may_connect(now)]
        # at random: what one client leaves to others, they leave to it
        self.connect(random.sample(near, min(missing, len(near))))

    def connect(self, candidates: list[Candidate]) -> None:
        """Begin to connect to those that are not connected."""
        now = time.monotonic()
        for peer in {candidate.peer for candidate in candidates}:
            if peer.may_connect(now):
                try:
                    keys.agree(self._keys, peer.key)
                    address = resolve(peer.endpoint)
                except (OSError, ValueError) as error:
                    self._socket.do(peer.failed, f"{peer.endpoint}: {error}")
                else:
                    self._socket.do(self._connect, peer, address)

    def _peer(self, record: Record) -> Peer:
        known = record.endpoint, record.key
        return self._peers.get(known) or self._peers.setdefault(known, Peer(*known))

    def route(self, topic: str, server: str | None) -> Route:
        """Whom messages to this target can go to."""
        key = (topic, server)
        return self._routes.get(key) or self._routes.setdefault(key, Route(*key))

    @property
    def options(self) -> Any:
        return self._options

    @property
    def directory(self) -> Directory | ProxiedDirectory:
        return self._directory

    def connected(self) -> int:
        """To how many processes there is a connection."""
        return sum(peer.up for peer in list(self._peers.values()))

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Fail whatever waits, and let go of everything."""
        self._closed = True
        self._socket.do(self._fail_all)
        self._socket.close(linger=0)

    def after_fork(self) -> None:
        """In a child: this client is the parent's."""
        self._closed = True
        self._socket.after_fork()

    # -- with the socket's lock --------------------------------------------------

    def _transmit(self, message: Message, candidates: list[Candidate]) -> None:
        if message.state is not State.LEAVING:
            return  # its time was up first
        self._socket.look_at_events()  # do not send to whom has just gone
        busy = False
        for candidate in candidates:
            peer = candidate.peer
            if not peer.up:
                continue
            id = next(self._ids)
            frame = wire.request(message.kind, id, candidate.address, message.body)
            try:
                self._socket.send(peer.routing_id, frame)
            except zmq.Again:
                busy = True
            except zmq.ZMQError as error:
                self._lose(peer, str(error))
            else:
                peer.used = time.monotonic()
                peer.sent[id] = message
                message.with_peers[id] = peer
        if message.with_peers:
            message.left()
        else:
            message.come_back(busy)
            self._socket.wake(message)

    def _forget(self, message: Message) -> None:
        for id, peer in message.with_peers.items():
            peer.sent.pop(id, None)
        message.with_peers.clear()

    def _give_up(self, message: Message, error: Exception) -> None:
        if message.waits():
            self._forget(message)
            message.finish(error)

    def _on_frames(self, frames: list[bytes]) -> None:
        try:
            routing_id, frame = frames
            answer = wire.read_answer(frame)
        except ValueError:
            return  # a stranger, or a server that has lost its mind
        peer = self._by_routing_id.get(routing_id)
        message = peer.sent.get(answer.id) if peer is not None else None
        if peer is None or message is None:
            return  # nobody waits for it any longer
        if answer.kind == wire.ALIVE:
            message.sign_of_life()
            return
        del peer.sent[answer.id], message.with_peers[answer.id]
        if message.with_peers:
            return  # a fanout that others have not yet taken
        if answer.kind == wire.NOBODY:
            message.come_back()
        elif answer.kind == wire.BUSY:
            message.come_back(busy=True)
        elif answer.kind == wire.REFUSED:
            reason = answer.body.decode(errors="replace")
            message.finish(
                errors.MessageRefused(f"{message}: {peer.endpoint} refuses: {reason}")
            )
        elif answer.kind == wire.LOST:
            message.finish(_lost(message, answer.body.decode(errors="replace")))
        else:
            message.finish(reply=answer.body)
        self._socket.wake(message)

    def _connect(self, peer: Peer, address: str) -> None:
        if not peer.may_connect(time.monotonic()):
            return
        if address in self._by_address:
            # another name for the same: it must not be connected twice
            peer.failed(f"{address} has more than one name")
            return
        peer.address = address
        peer.routing_id = b"%x" % next(self._routing_ids)
        try:
            self._socket.connect(address, peer.routing_id, peer.key)
        except zmq.ZMQError as error:
            peer.failed(f"{peer.endpoint}: {error}")
            return
        peer.link = Link.CONNECTING
        peer.used = time.monotonic()
        self._by_address[address] = peer
        self._by_routing_id[peer.routing_id] = peer

    def _on_event(self, event: Event) -> None:
        peer = self._by_address.get(event["endpoint"].decode())
        if peer is None:
            return
        if event["event"] == zmq.Event.HANDSHAKE_SUCCEEDED:
            peer.connected()
        elif peer.up:
            self._lose(peer, "it has gone")
        else:
            self._lose(peer, self._no_connection(peer, event["event"]))
        self._tell_all()

    def _no_connection(self, peer: Peer, event: int) -> str:
        if event == zmq.Event.HANDSHAKE_FAILED_PROTOCOL:
            return (
                "it is no zmq:// server, or only one of us has [oslo_messaging_zmq]"
                " zmq_key_directory set"
            )
        if self._keys is not None and event == zmq.Event.HANDSHAKE_FAILED_AUTH:
            public = self._keys.own.path.with_suffix(keys.PUBLIC)
            return f"it does not know our key: copy {public} to its key directory"
        if peer.key and event == zmq.Event.HANDSHAKE_FAILED_NO_DETAIL:
            return f"it does not have the secret key to {peer.key}"
        return "no connection"

    def _lose(self, peer: Peer, reason: str) -> None:
        self._socket.disconnect(peer.address)
        self._by_address.pop(peer.address, None)
        self._by_routing_id.pop(peer.routing_id, None)
        peer.failed(f"{peer.endpoint}: {reason}")
        for id, message in peer.sent.items():
            del message.with_peers[id]
            if not message.with_peers:
                if self._directory.proxied:
                    message.finish(
                        errors.BusLost(
                            f"{message}: the proxy at {peer.endpoint} is gone; a server"
                            " may have acted on it"
                        )
                    )
                else:
                    message.finish(_lost(message, peer.endpoint))
                self._socket.wake(message)
        peer.sent.clear()

    def _tell_all(self) -> None:
        """Something has changed for those that wait for a server."""
        for message in list(self._sending):
            if message.state is State.QUEUED:
                self._socket.wake(message)
        self._on_news()

    def _sweep(self, now: float) -> None:
        unused = now - self._options.idle_connection_timeout
        with self._lock:
            known = {
                candidate.peer
                for route in list(self._routes.values())
                for candidate in route.candidates
            }
            for peer in list(self._peers.values()):
                if peer.sent or peer.link is Link.CONNECTING:
                    continue
                if peer.up and (peer.used < unused or peer not in known):
                    self._lose(peer, "it was not used")
                if peer not in known:
                    del self._peers[peer.endpoint, peer.key]
            for key, route in list(self._routes.items()):
                if route.listing is not None and route.listing.used < unused:
                    del self._routes[key]

    def _fail_all(self) -> None:
        for message in list(self._sending):
            if message.state is not State.DONE:
                message.finish(_closed(message))
                self._socket.wake(message)


def _lost(message: Message, endpoint: str) -> Exception:
    return errors.ServerLost(
        f"{message}: the server at {endpoint} is gone; it may have acted on it"
    )


def _closed(message: Message) -> Exception:
    return errors.BusUnavailable(f"{message}: the transport is closed")


class _Sending:
    """One thread's way with one message to one server."""

    def __init__(
        self, client: Client, message: Message, route: Route, timeout: float
    ) -> None:
        self._client = client
        self._message = message
        self._route = route
        self._deadline = message.since + timeout
        self._grace: float = client.options.unreachable_timeout
        self._pause = FIRST_PAUSE

    def run(self) -> None:
        client, message, route = self._client, self._message, self._route
        while message.state is not State.DONE:
            # the time before the look: what it has not seen counts from then on
            now = time.monotonic()
            client.refresh(route)
            candidate = route.choose()
            if candidate is None:
                self._await_server(now)
                continue
            client.transmit(message, [candidate])
            self._await_answer()
            if message.state is State.QUEUED:
                candidate.avoid = True

    def _await_answer(self) -> None:
        message = self._message
        while message.waits():
            until = self._deadline
            if message.monitor_until is not None:
                until = min(until, message.monitor_until)
            self._client.sleep(message, until)
            if message.waits():
                self._check_time()

    def _check_time(self) -> None:
        message, now = self._message, time.monotonic()
        if now >= self._deadline:
            awaited = "reply" if message.is_call else "confirmation"
            self._client.give_up(
                message,
                exceptions.MessagingTimeout(
                    f"{message}: no {awaited} within {now - message.since:.1f} s"
                ),
            )
        elif message.monitor_until is not None and now >= message.monitor_until:
            self._client.give_up(
                message,
                exceptions.MessagingTimeout(
                    f"{message}: no sign of life from the server within"
                    f" {message.monitor_interval:g} s"
                ),
            )

    def _await_server(self, now: float) -> None:
        """Nobody is there who would take it: look again, or fail."""
        client, message, route = self._client, self._message, self._route
        directory = client.directory
        if client.closed:
            message.finish(errors.BusUnavailable(f"{message}: the transport is closed"))
            return
        if route.listing is None:
            if self._has_no_matchmaker(now):
                return
        else:
            client.widen(route)
            if self._is_deserted(now):
                message.finish(self._unreachable())
                return
        pause = min(LONGEST_PAUSE, max(self._deadline - now, 0))
        if route.connecting() and now < message.since + CONNECTING:
            message.waiter.wait(pause)  # news of it wake us
            return
        directory.ask(route.topic, message.waiter)
        message.waiter.wait(pause)
        if message.state is State.QUEUED and route.listing is not None:
            # what was asked for is there at once: do not ask all the time
            message.waiter.wait(min(self._pause, max(self._deadline - now, 0)))
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _has_no_matchmaker(self, now: float) -> bool:
        message, failure = self._message, self._client.directory.failure
        if now < self._deadline and (failure is None or message.retry != 0):
            return False
        reason = failure or "no answer from the matchmaker"
        message.finish(
            errors.BusUnavailable(
                f"{message}: no server known within {now - message.since:.1f} s:"
                f" {reason}"
            )
        )
        return True

    def _is_deserted(self, now: float) -> bool:
        message, route = self._message, self._route
        assert route.listing is not None
        since = message.unseen_since or message.since
        if now >= self._deadline or message.busy:
            return now >= self._deadline
        known = (
            route.listing.since >= since or self._client.directory.failure is not None
        )
        if not known or now < since + self._grace:
            return False
        settled = all(
            candidate.avoid or candidate.peer.tried >= since
            for candidate in route.candidates
        )
        return settled or now >= since + max(self._grace, SETTLING)

    def _unreachable(self) -> Exception:
        message, route = self._message, self._route
        if message.busy:
            took = time.monotonic() - message.since
            return errors.DeliveryError(
                f"{message}: the servers took no more messages within {took:.1f} s"
            )
        failures = (candidate.peer.failure for candidate in route.candidates)
        hints = [failure for failure in failures if failure][:3]
        if self._client.directory.failure is not None:
            hints.append(str(self._client.directory.failure))
        if self._client.directory.away([each.peer.up for each in route.candidates]):
            reason = "; ".join(hints) or "none has registered"
            return errors.BusUnavailable(f"{message}: there is no proxy: {reason}")
        hint = f" ({'; '.join(hints)})" if hints else ""
        return errors.TargetUnreachable(f"{message}: nobody listens there{hint}")


class _FanningOut:
    """One thread's way with one message to all servers of a topic."""

    def __init__(
        self, client: Client, message: Message, route: Route, timeout: float
    ) -> None:
        self._client = client
        self._message = message
        self._route = route
        self._deadline = message.since + timeout

    def run(self) -> None:
        client, message, route = self._client, self._message, self._route
        while not self._look_up():
            if message.state is State.DONE:
                return
        self._connect()
        client.transmit(message, route.candidates)
        # one that is slow or silent does not keep the sender for ever
        until = min(
            self._deadline, time.monotonic() + client.options.unreachable_timeout
        )
        while message.waits() and time.monotonic() < until:
            client.sleep(message, until)
        if isinstance(message.error, errors.ServerLost):
            message.error = None  # whoever is not there does not miss it

    def _look_up(self) -> bool:
        """Find out who is there now; whether that is done."""
        client, message, route = self._client, self._message, self._route
        client.directory.ask(route.topic, message.waiter)
        message.waiter.wait(LONGEST_PAUSE)
        client.refresh(route)
        listing, failure = route.listing, client.directory.failure
        if listing is not None and (listing.since >= message.since or failure):
            return True
        if (
            client.closed
            or time.monotonic() >= self._deadline
            or (failure and message.retry == 0)
        ):
            reason = failure or "no answer from the matchmaker"
            message.finish(errors.BusUnavailable(f"{message}: {reason}"))
        return False

    def _connect(self) -> None:
        client, message, route = self._client, self._message, self._route
        until = min(self._deadline, time.monotonic() + SETTLING)
        while time.monotonic() < until and not all(
            candidate.peer.up or candidate.peer.tried >= message.since
            for candidate in route.candidates
        ):
            client.connect(route.candidates)
            message.waiter.wait(LONGEST_PAUSE / 5)
