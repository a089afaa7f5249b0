# SPDX-License-Identifier: Apache-2.0
"""The sending side: one socket, connected to every server's process in use.

The thread that sends a message finds a server for it, waits for what becomes of
it, and watches its own deadlines.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import zmq

from hybrid_messaging import log_safety
from hybrid_messaging.drivers import errors, logs, reentry
from hybrid_messaging.drivers.zmq import names, wire
from hybrid_messaging.drivers.zmq.directory import Directory
from hybrid_messaging.drivers.zmq.encryption import Encryption
from hybrid_messaging.drivers.zmq.message import Fanout, Message, State
from hybrid_messaging.drivers.zmq.names import Found, Names
from hybrid_messaging.drivers.zmq.options import too_large
from hybrid_messaging.drivers.zmq.peer import Candidate, Peer
from hybrid_messaging.drivers.zmq.proxies import ProxiedDirectory
from hybrid_messaging.drivers.zmq.routes import Routes
from hybrid_messaging.drivers.zmq.sending import FanningOut, Missed, Sending
from hybrid_messaging.drivers.zmq.sockets import Event, Socket

LOG = logs.get(__name__)

#: Seconds that an address of a server may take that has more of them.
FIRST_ADDRESS = 2.0
#: Seconds between two looks for connections that nobody uses.
SWEEP_INTERVAL = 10.0
#: How many connections are begun in one go, before others get the socket.
_BATCH = 50


class Client:
    """All that a transport of this process sends.

    :param options: the [oslo_messaging_zmq] group
    :param encryption: decides which servers may be connected to, and how
    :param on_news: called when it has changed who can be reached
    :param on_gone: called with the addresses of listeners that have stopped, or whose
        process cannot be connected to; with the socket's lock held
    """

    def __init__(
        self,
        options: Any,
        encryption: Encryption,
        directory: Directory | ProxiedDirectory,
        on_news: Callable[[], None] = lambda: None,
        on_gone: Callable[[Iterable[bytes]], None] = lambda addresses: None,
    ) -> None:
        self._options = options
        self._encryption = encryption
        self.directory = directory
        self._on_news = on_news
        self._on_gone = on_gone
        self.routes = Routes(options, directory, self._dial)
        #: listeners that had no room for fanouts
        self.missed = Missed()
        #: monotonic time at which the last connection was made
        self.connected_at = 0.0
        self._by_address: dict[str, Peer] = {}
        self._by_routing_id: dict[bytes, Peer] = {}
        self._ids = itertools.count()
        self._routing_ids = itertools.count(1)
        #: messages that a listener has, or had no room for, by their ids there
        self._out: dict[int, Message] = {}
        #: what is being sent; a thread each
        self._sending: set[Message] = set()
        self._sweep_at = time.monotonic() + SWEEP_INTERVAL
        self._closed = False
        self._names = Names()
        self._socket = Socket("zmq-client", options, self._on_frames, self._on_event)
        directory.follow(self._tend)

    # -- in the sending thread ---------------------------------------------------

    def send(self, message: Message, topic: str, server: str | None) -> bytes | None:
        """Send a message to one server, and wait until it is over.

        :param topic: its name in the directory
        :param server: None for any
        :returns: the body of the reply, for a call
        :raises DeliveryError: it did not get through, its class says why
        :raises MessagingTimeout: the time was up first
        """
        way = Sending(self, message, self.routes.get(topic, server))
        return self._while_sending(message, way.run)

    def fan_out(self, message: Fanout, topic: str) -> None:
        """Send a message to all servers of a topic, and wait until they have it.

        :raises DeliveryError: who they are cannot be found out, or there was no time
            to reach all
        """
        way = FanningOut(self, message, self.routes.get(topic, None))
        self._while_sending(message, way.run)

    @reentry.works
    def _while_sending(self, message: Message, run: Callable[[], None]) -> bytes | None:
        self._check_size(message)
        self._sending.add(message)
        self._socket.begin()
        try:
            run()
        finally:
            self._socket.end()
            self._sending.discard(message)
            if message.held or message.refused:
                # refused by others before, late for a fanout, or the thread has been
                # torn away
                self.withdraw(message)
        if message.error is not None:
            raise message.error
        return message.reply

    def _check_size(self, message: Message) -> None:
        size, limit = len(message.body), self._options.max_message_size
        if size > limit:
            raise errors.MessageRefused(f"{message}: {too_large('it', size, limit)}")

    def sleep(self, message: Message, until: float) -> None:
        """Wait for something to be said about a message.

        :param until: monotonic time at which to look up anyway
        """
        self._socket.wait(message, until)

    def hear(self, message: Message, moment: float) -> None:
        """Wait until all is read that arrived by a moment, or something is said.

        :param moment: monotonic time
        """
        addresses = [each.peer.address for each in list(message.held.values())]
        self._socket.hear(message, addresses, moment)

    def pause(self, message: Message, until: float) -> None:
        """Wait for news of connections, or of the matchmaker.

        :param until: monotonic time at which to look up anyway
        """
        self._socket.pause(message, until)

    def transmit(
        self, message: Message, candidates: list[Candidate], more: bool = False
    ) -> None:
        """Hand a message to ZeroMQ, once for each candidate.

        Another thread may do so, a little later; wait while the message waits.

        :param more: for a fanout, whether others follow
        """
        message.state = State.LEAVING
        self._socket.do(self._transmit, message, candidates, more)
        if self._closed and message.state is not State.DONE:
            message.finish(_closed(message))

    def give_up(self, message: Message, error: Exception) -> None:
        """Wait no longer, unless the answer has come meanwhile."""
        self._socket.do(self._give_up, message, error)

    def withdraw(self, message: Message) -> None:
        """Tell the listeners that have a message, or had no room for it, to drop it."""
        self._socket.do(self._withdraw, message)

    def _tend(self) -> None:
        """Learn from the directory which servers have come or gone."""
        if self.routes.tend():
            self._socket.do(self._tell_all)
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_INTERVAL
            self._socket.do(self._sweep, now)

    def connect(self, peers: Iterable[Peer]) -> None:
        """Begin to connect to the peers that are not connected."""
        self._dial(self.routes.claim(peers, time.monotonic()))

    def _dial(self, claimed: list[Peer]) -> None:
        wanted = []
        try:
            for peer in claimed:
                try:
                    self._encryption.agree(peer.key)
                    wanted.append(peer)
                except ValueError as error:
                    self._mention(peer, str(error))
                    self._socket.do(peer.failed, f"{peer.endpoint}: {error}")
        except BaseException:
            # torn away: as long as they are claimed, nobody else connects to them
            for peer in claimed:
                self._socket.do(peer.failed, f"{peer.endpoint}: interrupted")
            raise
        for first in range(0, len(wanted), _BATCH):
            self._socket.do(self._find_addresses, wanted[first : first + _BATCH])

    def _mention(self, peer: Peer, objection: str) -> None:
        LOG.warning(
            "Not connecting to %s: %s",
            peer.endpoint,
            objection,
            extra=log_safety.SELDOM,
        )

    def connected(self) -> int:
        """To how many processes there is a connection."""
        return sum(peer.up for peer in self.routes.peers())

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Fail all that waits, and let go of everything."""
        self._closed = True
        self.directory.unfollow(self._tend)
        self._socket.do(self._fail_all)
        self._socket.close(linger=0)

    def after_fork(self) -> None:
        """In a child: this client is the parent's."""
        self._closed = True
        self._socket.after_fork()

    # -- with the socket's lock --------------------------------------------------

    def _transmit(
        self, message: Message, candidates: list[Candidate], more: bool
    ) -> None:
        if message.state is not State.LEAVING:
            return  # its time was up first
        self._socket.look_at_events()  # do not send to a peer that has just gone
        if isinstance(message, Fanout):
            message.more = more
        back = []
        for candidate in candidates:
            peer = candidate.peer
            id = next(self._ids)
            frame = wire.request(
                message.kind, id, candidate.address, message.body, message.ttl
            )
            try:
                if not peer.up:
                    raise zmq.ZMQError(zmq.EHOSTUNREACH)
                self._socket.send(peer.routing_id, frame)
            except zmq.Again:
                candidate.full = True
                back.append((id, candidate, True))
            except zmq.ZMQError as error:
                if peer.up:
                    self._lose(peer, str(error))
                back.append((id, candidate, False))
            else:
                peer.used = time.monotonic()
                self._note(id, message, candidate)
                message.held[id] = candidate
        message.left()
        for each in back:
            message.came_back(*each)
        if not message.waits():
            self._socket.wake(message)

    def _note(self, id: int, message: Message, candidate: Candidate) -> None:
        self._out[id] = message
        candidate.peer.ids.add(id)

    def _forget(self, id: int, candidate: Candidate) -> None:
        self._out.pop(id, None)
        candidate.peer.ids.discard(id)

    def _give_up(self, message: Message, error: Exception) -> None:
        if message.waits():
            self._withdraw(message)
            message.finish(error)

    def _withdraw(self, message: Message) -> None:
        for id, candidate in message.withdrawn_from().items():
            if candidate.peer.up:
                frame = wire.request(wire.WITHDRAW, id, candidate.address)
                with contextlib.suppress(zmq.ZMQError):
                    self._socket.send(candidate.peer.routing_id, frame)
        for id, candidate in (message.held | message.refused).items():
            self._forget(id, candidate)
        message.held.clear()
        message.refused.clear()

    def _on_frames(self, frames: list[bytes]) -> None:
        try:
            routing_id, frame = frames
            answer = wire.read_answer(frame)
        except ValueError:
            return  # a stranger, or a server that has lost its mind
        peer = self._by_routing_id.get(routing_id)
        if answer.kind == wire.GONE and peer is not None:
            self.routes.gone(peer, answer.body)
            self._on_gone([answer.body])
            return
        message = self._out.get(answer.id)
        if message is None or peer is None:
            return  # nobody waits for it any longer
        peer.silent = False
        peer.answered = True
        if answer.kind == wire.ROOM:
            self._on_room(message, peer, answer.id)
            return
        candidate = message.held.get(answer.id)
        if candidate is None or candidate.peer is not peer:
            return
        if answer.kind == wire.ALIVE:
            candidate.answered()
            message.sign_of_life()
            return
        del message.held[answer.id]
        self._on_end(message, candidate, answer)
        if answer.id not in message.refused:
            self._forget(answer.id, candidate)
        if not message.waits():
            self._socket.wake(message)

    def _on_end(
        self, message: Message, candidate: Candidate, answer: wire.Answer
    ) -> None:
        endpoint = candidate.peer.endpoint
        if answer.kind == wire.NOBODY:
            candidate.nobody()
            message.came_back(answer.id, candidate)
            return
        candidate.answered(full=answer.kind == wire.BUSY)
        if candidate.full:
            message.came_back(answer.id, candidate, busy=True)
        elif answer.kind == wire.REFUSED:
            reason = log_safety.line(answer.body.decode(errors="replace"))
            message.was_refused(
                errors.MessageRefused(f"{message}: {endpoint} refuses: {reason}")
            )
        elif answer.kind == wire.LOST:
            message.was_lost(_lost(message, log_safety.quoted(answer.body)))
        else:
            message.was_taken(answer.body)

    def _on_room(self, message: Message, peer: Peer, id: int) -> None:
        candidate = message.refused.get(id)
        if candidate is not None and candidate.peer is peer:
            self._forget(id, candidate)
            self._ask_again(message, id)

    def _ask_again(self, message: Message, id: int) -> None:
        candidate = message.refused.pop(id)
        candidate.full = False
        message.has_room(candidate)
        if message.wants_news():
            self._socket.wake(message)

    def _find_addresses(self, peers: list[Peer]) -> None:
        for peer in peers:
            then = functools.partial(self._socket.do, self._on_addresses, peer)
            self._names.find(peer.endpoint, then)

    def _on_addresses(self, peer: Peer, found: Found) -> None:
        # the one that has served before comes first
        peer.addresses = sorted(found.addresses, key=lambda each: each != peer.address)
        self._connect(peer, found.failure)

    def _connect(self, peer: Peer, failure: str) -> None:
        """Try the next of a peer's addresses.

        :param failure: what has become of the one before
        """
        while peer.addresses:
            address = peer.addresses.pop(0)
            if not peer.key and (
                objection := self._encryption.without_key(names.parse(address)[0])
            ):
                self._mention(peer, objection)
                failure = objection
                continue
            other = self._by_address.get(address)
            if other is not None and other.up and not self.routes.is_outdated(other):
                # ZeroMQ connects once to each
                failure = f"{address} is already connected as {other.endpoint}"
                continue
            if other is not None:
                # a name that is outdated, or has the wrong key, does not keep it
                self._lose(other, f"{address} now belongs to {peer.endpoint}")
            routing_id = b"%x" % next(self._routing_ids)
            longest = FIRST_ADDRESS if peer.addresses else math.inf
            try:
                pair = self._encryption.pair(peer.key)
                self._socket.connect(address, routing_id, longest, pair, peer.key)
            except zmq.ZMQError as error:
                failure = str(error)
                continue
            peer.address, peer.routing_id = address, routing_id
            self._by_address[address] = peer
            self._by_routing_id[routing_id] = peer
            return
        peer.failed(f"{peer.endpoint}: {failure}")
        self._on_gone(self.routes.addresses(peer))
        self._tell_all()

    def _on_event(self, event: Event) -> None:
        peer = self._by_address.get(event["endpoint"].decode())
        if peer is None:
            return
        if event["event"] == zmq.Event.HANDSHAKE_SUCCEEDED:
            peer.connected()
            self.connected_at = time.monotonic()
        elif peer.up:
            self._lose(peer, "it is gone")
        else:
            self._disconnect(peer)
            self._connect(peer, self._no_connection(peer, event["event"]))
        self._tell_all()

    def _no_connection(self, peer: Peer, event: int) -> str:
        if event == zmq.Event.HANDSHAKE_FAILED_PROTOCOL:
            return (
                "it is not a zmq:// server, or it is not encrypted as its record in"
                " the matchmaker says"
            )
        keys = self._encryption.keys
        if keys is not None and event == zmq.Event.HANDSHAKE_FAILED_AUTH:
            return keys.refused()
        if peer.key and event == zmq.Event.HANDSHAKE_FAILED_NO_DETAIL:
            return f"it does not have the secret key of {peer.key}"
        return "no connection"

    def _disconnect(self, peer: Peer) -> None:
        self._socket.disconnect(peer.address)
        self._by_address.pop(peer.address, None)
        self._by_routing_id.pop(peer.routing_id, None)

    def _lose(self, peer: Peer, reason: str) -> None:
        self._disconnect(peer)
        peer.failed(f"{peer.endpoint}: {reason}")
        ids, peer.ids = peer.ids, set()
        for id in ids:
            message = self._out.pop(id)
            if message.held.pop(id, None) is None:
                self._ask_again(message, id)
                continue
            message.was_lost(self._loss(message, peer))
            if not message.waits():
                self._socket.wake(message)

    def _loss(self, message: Message, peer: Peer) -> errors.DeliveryError:
        if self.directory.proxied:
            return errors.BusLost(
                f"{message}: the proxy at {peer.endpoint} is gone; a server may have"
                " acted on it"
            )
        return _lost(message, peer.endpoint)

    def _tell_all(self) -> None:
        """Wake the threads that wait for a server: something has changed."""
        for message in list(self._sending):
            if message.wants_news():
                self._socket.wake(message)
        self._on_news()

    def _sweep(self, now: float) -> None:
        unused = now - self._options.idle_connection_timeout
        forgotten = self.routes.sweep(unused)
        for peer in (*forgotten, *self.routes.peers()):
            if peer.up and not peer.ids and (peer.used < unused or peer in forgotten):
                self._lose(peer, "it was not used")

    def _fail_all(self) -> None:
        for message in list(self._sending):
            if message.state is not State.DONE:
                error = _closed(message)
                self._withdraw(message)
                message.finish(error)
                self._socket.wake(message)


def _lost(message: Message, endpoint: str) -> errors.DeliveryError:
    return errors.make(
        errors.ServerLost,
        message.is_call,
        f"{message}: the server at {endpoint} is gone; it may have acted on it",
    )


def _closed(message: Message) -> Exception:
    if message.held:
        return errors.BusLost(
            f"{message}: the transport was closed while it was being delivered; a"
            " server may have acted on it"
        )
    return errors.BusUnavailable(f"{message}: the transport is closed")
