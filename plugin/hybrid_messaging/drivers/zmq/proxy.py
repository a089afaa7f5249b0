# SPDX-License-Identifier: Apache-2.0
"""A proxy: clients connect to it, and it connects to their servers.

It is a server for every listener that the matchmaker knows, and passes each request
on to the one that is meant, with an id of its own; what is answered goes the way
back. So a process has one connection to each proxy, whatever it calls, and a server
is not told from one that is reached straight.

A request whose server is connected goes on in the thread that has received it. The
others are left with a thread that looks for their servers, and so are fanouts.
"""

from __future__ import annotations

import collections
import importlib.metadata
import logging
import os
import socket
import threading
import time
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import psutil
from oslo_messaging import exceptions

from hybrid_messaging.drivers import bodies, errors, oslo
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.drivers.zmq import wire
from hybrid_messaging.drivers.zmq.client import SETTLING, Candidate, Client, Route
from hybrid_messaging.drivers.zmq.directory import Directory
from hybrid_messaging.drivers.zmq.incoming import Inbox
from hybrid_messaging.drivers.zmq.keys import Keys
from hybrid_messaging.drivers.zmq.matchmaker import Record
from hybrid_messaging.drivers.zmq.message import Message, State
from hybrid_messaging.drivers.zmq.peer import Peer
from hybrid_messaging.drivers.zmq.proxies import PROXIES, SPREAD
from hybrid_messaging.drivers.zmq.server import Server

LOG = logging.getLogger(__name__)

#: Seconds between two looks at what waits for a server, if nothing happens.
_TICK = 0.1
#: Seconds between two looks at what is not used any more.
_IDLE = 1.0
#: Seconds that what is under way may take when the proxy is stopped.
DRAIN = 10.0
#: Seconds without a request after which clients know that it is being stopped, and
#: those after which they have nowhere else to go.
QUIET, CROWDED = 1.5, 3.0

#: Seconds that the matchmaker, and a proxy, may take to tell their status.
PATIENCE = 5.0

#: What is counted: kinds of answers, and how the status calls them.
_COUNTED = {
    wire.TAKEN: "taken",
    wire.REPLY: "replies",
    wire.LOST: "lost",
    wire.NOBODY: "unreachable",
    wire.BUSY: "busy",
    wire.REFUSED: "refused",
}


class _Passing(Message):
    """A request on its way through the proxy.

    :param proxy: who passes it on
    :param routing_id: of the client
    :param request: as it has come
    :param route: to whom it may go
    """

    __slots__ = ("_asked", "_id", "_proxy", "_route", "_routing_id")

    def __init__(
        self, proxy: Proxy, routing_id: bytes, request: wire.Request, route: Route
    ) -> None:
        super().__init__(request.kind, "request", route.topic, "")
        self.body = request.body
        self.waiter = proxy.news
        self._proxy = proxy
        self._routing_id = routing_id
        self._id = request.id
        self._route = route
        self._asked = False

    def step(self, now: float) -> bool:
        """Go on as far as possible.

        :returns: whether nothing is left to be done but to wait for answers
        """
        raise NotImplementedError

    def _is_late(self, now: float) -> bool:
        return now >= self.since + SETTLING

    def _looked_up(self, now: float) -> bool:
        """Whether the matchmaker has been asked since the request came, or is away."""
        directory, listing = self._proxy.directory, self._route.listing
        if listing is not None and listing.since >= self.since:
            return True
        if not self._asked:
            self._asked = True
            directory.ask(self._route.topic, self.waiter)
            return False
        return directory.failure is not None or self._is_late(now)

    def _answer(self, kind: bytes, body: bytes = b"") -> None:
        if self.state is not State.DONE:
            self.state = State.DONE
            self._proxy.answer(self, self._routing_id, kind, self._id, body)


class Forward(_Passing):
    """A request to one server.

    :param address: of the listener
    """

    __slots__ = ("_address", "_size", "peer")

    def __init__(
        self,
        proxy: Proxy,
        routing_id: bytes,
        request: wire.Request,
        route: Route,
    ) -> None:
        super().__init__(proxy, routing_id, request, route)
        self._address = request.address
        self._size = len(request.body)
        #: the server that has it
        self.peer: Peer | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    def go(self) -> bool:
        """Go on if the server is known and connected; whether that is so."""
        candidate = self._candidate()
        if candidate is None or not candidate.peer.up:
            return False
        assert self._route.listing is not None
        self._route.listing.used = self.since  # so that it is watched on
        self._hand_over(candidate)
        return True

    def step(self, now: float) -> bool:
        client, route = self._proxy.client, self._route
        client.refresh(route)
        candidate = self._candidate()
        if candidate is None:
            if not self._looked_up(now):
                return False
            self.come_back()
        elif candidate.peer.up:
            self._hand_over(candidate)
        elif candidate.peer.tried >= self.since or self._is_late(now):
            self.come_back()
        else:
            client.connect([candidate])
            return False
        return True

    def _candidate(self) -> Candidate | None:
        for candidate in self._route.candidates:
            if candidate.address == self._address:
                return candidate
        return None

    def _hand_over(self, candidate: Candidate) -> None:
        if self._proxy.hold(candidate.peer, self._size):
            self.peer = candidate.peer
            self._proxy.client.transmit(self, [candidate])
        else:
            self.come_back(busy=True)

    # -- what the client does with a message, with the lock of its socket ------------

    def left(self) -> None:
        super().left()
        self.body = b""

    def come_back(self, busy: bool = False) -> None:
        self._answer(wire.BUSY if busy else wire.NOBODY)

    def sign_of_life(self) -> None:
        self._proxy.pass_on(self._routing_id, wire.ALIVE, self._id)

    def finish(
        self, error: Exception | None = None, reply: bytes | None = None
    ) -> None:
        if error is None:
            kind = wire.REPLY if self.is_call else wire.TAKEN
            self._answer(kind, reply or b"")
        elif isinstance(error, errors.MessageRefused):
            self._answer(wire.REFUSED, str(error).encode())
        else:
            self._answer(wire.LOST, self.peer.endpoint.encode() if self.peer else b"")


class Spread(_Passing):
    """A request to all servers of a topic; it is taken when they have taken it."""

    __slots__ = ("_until",)

    def __init__(
        self, proxy: Proxy, routing_id: bytes, request: wire.Request, route: Route
    ) -> None:
        super().__init__(proxy, routing_id, request, route)
        #: monotonic time until which those that have it may take it
        self._until: float | None = None

    def step(self, now: float) -> bool:
        client, route = self._proxy.client, self._route
        if self.state is State.DONE:
            return True
        if self._until is not None:
            if now < self._until:
                return False
            # one that is slow or silent does not keep the sender for ever
            client.give_up(self, errors.DeliveryError("some have not taken it"))
            return True
        client.refresh(route)
        if not self._looked_up(now):
            return False
        if route.listing is None:
            self._answer(wire.NOBODY)
            return True
        if not self._is_late(now) and not all(
            candidate.peer.up or candidate.peer.tried >= self.since
            for candidate in route.candidates
        ):
            client.connect(route.candidates)
            return False
        self._until = now + client.options.unreachable_timeout
        client.transmit(self, route.candidates)
        return False

    def come_back(self, busy: bool = False) -> None:
        self._answer(wire.TAKEN)

    def sign_of_life(self) -> None:
        pass

    def finish(
        self, error: Exception | None = None, reply: bytes | None = None
    ) -> None:
        self._answer(wire.TAKEN)


class Proxy:
    """A proxy; it works from `start` to `stop`.

    :param options: the [oslo_messaging_zmq] group
    :param keys: for CURVE; None: without
    :param directory: of its own
    """

    def __init__(self, options: Any, keys: Keys | None, directory: Directory) -> None:
        self._options = options
        self._started = time.time()
        #: told when there is news for requests that wait for a server
        self.news = Waiter()
        self.directory = directory
        self.client = Client(options, keys, directory, self.news.wake)
        self._server = Server(options, keys, directory, self._take)
        name = f"{socket.gethostname()}-{os.getpid()}"
        self._inbox = Inbox(self._server, PROXIES, name, self._tell_status)
        self._lock = threading.Lock()
        self._counts = collections.Counter(dict.fromkeys(_COUNTED.values(), 0))
        #: bytes of requests that a server has and has not answered
        self._held: collections.Counter[Peer] = collections.Counter()
        self._passing: set[_Passing] = set()
        self._searching: set[_Passing] = set()
        self._stopping = False
        #: monotonic time at which a request came all the same
        self._disturbed = 0.0
        self._ended = False
        self._thread = threading.Thread(
            target=self._search, name="zmq-proxy", daemon=True
        )

    def start(self) -> str:
        """Let clients come.

        :returns: the endpoint
        :raises zmq.ZMQError: there is no port to listen on
        """
        self._thread.start()
        self._inbox.start()
        return self._server.endpoint

    def stop(self) -> None:
        """Let no more requests come, pass on what is under way, and end."""
        self._stopping = True
        self._inbox.stop()
        began = time.monotonic()
        while time.monotonic() < self._drained_at(began):
            time.sleep(_TICK)
        self._ended = True
        self.news.wake()
        self._thread.join()
        self.client.close()
        self._server.close()
        self.directory.close()

    def _drained_at(self, began: float) -> float:
        if self._passing:
            return began + DRAIN
        return min(began + CROWDED, max(began, self._disturbed) + QUIET)

    def status(self) -> dict[str, Any]:
        """What has gone through, and who is connected."""
        port = urlsplit(self._server.endpoint).port
        connections = psutil.Process().net_connections("tcp")
        ends = [
            each
            for each in connections
            if each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port
        ]
        with self._lock:
            counts = dict(self._counts)
        return {
            "version": importlib.metadata.version("hybrid-messaging"),
            "started": self._started,
            "clients": len(ends),
            "servers": self.client.connected(),
            "waiting": len(self._passing),
            **counts,
            "undelivered": self._server.undelivered,
        }

    def _tell_status(self, incoming: oslo.RpcIncomingMessage) -> None:
        incoming.acknowledge()
        incoming.reply(self.status())

    # -- whichever thread has used a socket --------------------------------------

    def _take(self, routing_id: bytes, request: wire.Request) -> None:
        """A request has come."""
        if self._stopping:
            self._disturbed = time.monotonic()
            passing = None
        else:
            passing = self._passing_of(routing_id, request)
        if passing is None:
            self._count(wire.NOBODY)
            self._server.answer(routing_id, wire.NOBODY, request.id)
            return
        self._passing.add(passing)
        if isinstance(passing, Forward) and passing.go():
            return
        self._searching.add(passing)
        self.news.wake()

    def _passing_of(self, routing_id: bytes, request: wire.Request) -> _Passing | None:
        """What is to be done with a request; None if it is for nobody."""
        try:
            process, *topic, server = request.address.decode().split("/")
        except ValueError:
            return None
        route = self.client.route
        if len(topic) == 3:
            target = route("/".join(topic), unquote(server))
            return Forward(self, routing_id, request, target)
        if [process, *topic[:1]] != [self._server.process, SPREAD[:-1]]:
            return None  # also if a proxy had this port before us
        return Spread(self, routing_id, request, route("/".join(topic[1:]), None))

    def hold(self, peer: Peer, size: int) -> bool:
        """Have room for a request to a server; whether there is some."""
        with self._lock:
            held = self._held[peer]
            if held and held + size > self._options.max_message_size:
                return False
            self._held[peer] = held + size
        return True

    def answer(
        self,
        passing: _Passing,
        routing_id: bytes,
        kind: bytes,
        id: int,
        body: bytes,
    ) -> None:
        """It is known what has become of a request."""
        self._passing.discard(passing)
        self._count(kind)
        if isinstance(passing, Forward) and passing.peer is not None:
            with self._lock:
                self._held[passing.peer] -= passing.size
                if not self._held[passing.peer]:
                    del self._held[passing.peer]
        self._server.answer(routing_id, kind, id, body)

    def pass_on(self, routing_id: bytes, kind: bytes, id: int) -> None:
        """Tell a client something that does not end its request."""
        self._server.answer(routing_id, kind, id)

    def _count(self, kind: bytes) -> None:
        with self._lock:
            self._counts[_COUNTED[kind]] += 1

    # -- its own thread ----------------------------------------------------------

    def _search(self) -> None:
        while not self._ended:
            self.news.wait(_TICK if self._searching else _IDLE)
            now = time.monotonic()
            for passing in list(self._searching):
                try:
                    found = passing.step(now)
                except Exception:
                    LOG.exception("A request could not be passed on")
                    passing.come_back()
                    found = True
                if found:
                    self._searching.discard(passing)
            self.client.tidy(now)


# -- asking proxies -------------------------------------------------------------


class Report(NamedTuple):
    """What a proxy has told of itself."""

    name: str
    endpoint: str
    #: see `Proxy.status`; empty if it does not answer
    told: dict[str, Any]
    #: why it does not
    problem: str


def reports(client: Client, directory: Directory) -> list[Report]:
    """Ask every proxy that the matchmaker knows.

    :param client: one that does not use them
    :raises BusUnavailable: the matchmaker is away
    """
    waiter = Waiter()
    directory.ask(PROXIES, waiter)
    waiter.wait(PATIENCE)
    listing = directory.known(PROXIES)
    if listing is None or directory.failure is not None:
        raise errors.BusUnavailable(
            str(directory.failure or "no answer from the matchmaker")
        )
    return [_report(client, record) for record in listing.records]


def _report(client: Client, record: Record) -> Report:
    body = bodies.request({"method": "status"}, {})
    asking = Message(wire.CALL, "question", record.server, body, retry=0)
    try:
        reply = client.send(asking, PROXIES, record.server, PATIENCE)
        told = bodies.read_reply(reply, [])
    except (exceptions.MessagingException, bodies.MalformedBody) as error:
        return Report(record.server, record.endpoint, {}, f"{error}")
    return Report(record.server, record.endpoint, told, "")
