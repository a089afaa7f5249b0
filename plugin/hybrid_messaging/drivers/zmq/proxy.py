# SPDX-License-Identifier: Apache-2.0
"""A proxy: clients connect to it, and it connects to their servers.

It is a server for every listener that the matchmaker knows, and passes each request
on to the one that is meant, with another id; what is answered goes the way
back. So a process has one connection to each proxy for all that it calls, and a server
is not told from one that is reached straight.

A request whose server is connected goes on in the thread that has received it. The
others are left with a thread that looks for their servers, and so are fanouts. There is
room for so many of them, since anybody who reaches a proxy without keys can ask for
servers that he has made up. Nothing is kept of those.
"""

from __future__ import annotations

import collections
import importlib.metadata
import math
import os
import socket
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import psutil
from oslo_messaging import exceptions

from hybrid_messaging import log_safety
from hybrid_messaging.drivers import bodies, errors, logs, oslo
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.drivers.zmq import wire
from hybrid_messaging.drivers.zmq.backlog import REMEMBERED, Key, Refused
from hybrid_messaging.drivers.zmq.client import Client
from hybrid_messaging.drivers.zmq.directory import MOST_IN_VAIN, Directory
from hybrid_messaging.drivers.zmq.encryption import Encryption
from hybrid_messaging.drivers.zmq.incoming import Inbox
from hybrid_messaging.drivers.zmq.matchmaker import Record
from hybrid_messaging.drivers.zmq.message import Fanout, Message, State
from hybrid_messaging.drivers.zmq.peer import SETTLING, Candidate, Peer, sort
from hybrid_messaging.drivers.zmq.proxies import PROXIES, SPREAD
from hybrid_messaging.drivers.zmq.routes import Route
from hybrid_messaging.drivers.zmq.server import MOST_CLIENTS, Server

LOG = logs.get(__name__)

#: Seconds between two looks at what waits for a server, if nothing happens.
_TICK = 0.1
#: Seconds between two looks at what is not used any more.
_IDLE = 1.0
#: Requests whose servers are looked for at once: no more than are kept in the
#: directory without a server.
_SEARCHED = MOST_IN_VAIN
#: Requests that their servers had no room for, and may have yet; of more than these,
#: the first is forgotten. Its client asks again by itself.
_MOST_REFUSED = 10_000
#: Listeners whose clients are remembered, to be told when one is gone; the one that was
#: first called is forgotten first.
_MOST_CALLED = 10_000
#: Seconds that what is under way may take when the proxy is stopped.
DRAIN = 10.0
#: Seconds without a request after which all clients know that it is being stopped, and
#: after which those that still ask have nowhere else to go.
QUIET, CROWDED = 1.5, 3.0

#: Seconds that the matchmaker, and a proxy, may take to report their status.
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
    :param route: where it may go
    """

    def __init__(
        self, proxy: Proxy, routing_id: bytes, request: wire.Request, route: Route
    ) -> None:
        timeout = math.inf if request.ttl == wire.NO_TTL else request.ttl / 1000
        super().__init__(request.kind, "request", route.topic, request.body, timeout)
        self.waiter = proxy.news
        #: bytes
        self.size = len(request.body)
        self.route = route
        self._proxy = proxy
        self._asked = False
        self.key = routing_id, request.id

    def step(self, now: float) -> bool:
        """Go on as far as possible.

        :returns: whether nothing is left to be done but to wait for answers
        """
        raise NotImplementedError

    def withdraw(self) -> None:
        """Its sender does not want it any more."""
        raise NotImplementedError

    def has_no_room(self) -> None:
        """Its sender is to ask again, as too many are under way."""
        self._end(wire.BUSY)

    def _is_late(self, now: float) -> bool:
        return now >= self.since + SETTLING

    def _looked_up(self, now: float) -> bool:
        """Whether the matchmaker has been asked since the request came, or is away."""
        directory, listing = self._proxy.directory, self.route.listing
        if listing is not None and listing.since >= self.since:
            return True
        if not self._asked:
            self._asked = True
            directory.ask(self.route.topic, self.waiter)
            return False
        return directory.failure is not None or self._is_late(now)

    def _end(self, kind: bytes | None, body: bytes = b"") -> None:
        """It is over.

        :param kind: of the answer; None: nobody waits for one
        """
        if self.state is not State.DONE:
            self.state = State.DONE
            self._proxy.passed(self)
            if kind is not None:
                self._proxy.answer(self.key, kind, body)


class Forward(_Passing):
    """A request to one server."""

    def __init__(
        self, proxy: Proxy, routing_id: bytes, request: wire.Request, route: Route
    ) -> None:
        super().__init__(proxy, routing_id, request, route)
        self.address = request.address
        #: the server that has it
        self.peer: Peer | None = None

    def go(self) -> bool:
        """Go on if the server is known and connected; whether that is so."""
        candidate = self._candidate()
        if candidate is None or not candidate.peer.up:
            return False
        self.route.used = self.since
        assert self.route.listing is not None
        self.route.listing.used = self.since  # so that it is watched on
        self._hand_over(candidate)
        return True

    def step(self, now: float) -> bool:
        routes = self._proxy.client.routes
        if self.state is State.DONE:
            return True
        routes.refresh(self.route, now)
        if self.route.candidates:
            # another request may have ended meanwhile, and the route with it
            self.route = routes.keep(self.route)
            routes.refresh(self.route, now)
        candidate = self._candidate()
        if now >= self.deadline:
            self._end(None)
        elif candidate is None:
            if not self._looked_up(now):
                return False
            self._end(wire.NOBODY)
        elif candidate.peer.up:
            self._hand_over(candidate)
        elif candidate.peer.tried >= self.since or self._is_late(now):
            self._end(wire.NOBODY)
        else:
            self._proxy.client.connect([candidate.peer])
            return False
        return True

    def withdraw(self) -> None:
        self._proxy.client.withdraw(self)
        self._end(None)

    def _candidate(self) -> Candidate | None:
        for candidate in self.route.candidates:
            if candidate.address == self.address:
                return candidate
        return None

    def _hand_over(self, candidate: Candidate) -> None:
        if self._proxy.hold(candidate.peer, self):
            self.peer = candidate.peer
            self._proxy.client.transmit(self, [candidate])
        else:
            self._end(wire.BUSY)

    # -- what the client does with a message, with the lock of its socket ------------

    def left(self) -> None:
        super().left()
        self.body = b""

    def came_back(self, id: int, candidate: Candidate, busy: bool = False) -> None:
        if busy:
            # kept, to pass on that there is room again
            super().came_back(id, candidate, busy)
            self._proxy.refused(self)
        else:
            self._end(wire.NOBODY)

    def has_room(self, candidate: Candidate) -> None:
        self._end(wire.ROOM)

    def sign_of_life(self) -> None:
        self._proxy.answer(self.key, wire.ALIVE)

    def finish(
        self, error: Exception | None = None, reply: bytes | None = None
    ) -> None:
        if error is None:
            self._end(wire.REPLY if self.is_call else wire.TAKEN, reply or b"")
        elif isinstance(error, errors.MessageRefused):
            self._end(wire.REFUSED, log_safety.line(str(error)).encode())
        else:
            self._end(wire.LOST, self.peer.endpoint.encode() if self.peer else b"")


class Spread(_Passing, Fanout):
    """A request to all servers of a topic; it is taken when they have taken it."""

    def __init__(
        self, proxy: Proxy, routing_id: bytes, request: wire.Request, route: Route
    ) -> None:
        super().__init__(proxy, routing_id, request, route)
        #: listeners that are not yet connected
        self._pending: list[Candidate] | None = None
        #: monotonic time until which the listeners that have it may confirm it
        self._until = math.inf

    def step(self, now: float) -> bool:
        client, route = self._proxy.client, self.route
        if self.state is State.DONE:
            return True
        if not self.more:
            self._await_confirmations(now)
            return False
        client.routes.refresh(route, now)
        if not self._looked_up(now):
            return False
        if route.listing is None:
            self._end(wire.NOBODY)
            return True
        self._send(now)
        return False

    def _send(self, now: float) -> None:
        client = self._proxy.client
        if self._pending is None:
            self._pending = self.route.candidates
        ready, self._pending, silent = sort(
            self._pending, self.since, client.connected_at, now
        )
        client.missed.note(self.route.topic, silent)
        over = not self._pending or now >= self.deadline
        if over:
            self._until = now + SETTLING
        else:
            client.connect(each.peer for each in self._pending)
        if ready or over:
            client.transmit(self, ready, more=not over)

    def _await_confirmations(self, now: float) -> None:
        if now >= self._until:
            # one that is slow or silent does not keep the sender for ever
            for each in list(self.held.values()):
                each.peer.silent = True
            self._proxy.client.give_up(
                self, errors.CastUnconfirmed("some listeners did not confirm it")
            )

    def withdraw(self) -> None:
        if self._pending is None:
            self._end(None)

    def sign_of_life(self) -> None:
        pass

    def finish(
        self, error: Exception | None = None, reply: bytes | None = None
    ) -> None:
        if self.held:
            self._proxy.client.withdraw(self)
        self._proxy.client.missed.note(self.route.topic, self.missed)
        if self._pending:
            number, all = len(self._pending), len(self.route.candidates)
            reason = f"{number} of {all} listeners could not be reached in time"
            error = errors.FanoutIncomplete(reason)
        if error is None or isinstance(error, errors.CastUnconfirmed):
            self._end(wire.TAKEN)
        else:
            self._end(wire.REFUSED, log_safety.line(str(error)).encode())


class _Load:
    """What a server has to do, and what had to wait for it."""

    __slots__ = ("refused", "size")

    def __init__(self) -> None:
        #: bytes of requests that it has and has not answered
        self.size = 0
        self.refused = Refused()


class _Search:
    """The requests whose servers are looked for.

    :param size: how many bytes they may have; one may always
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._requests: set[Forward | Spread] = set()
        self._bytes = 0
        self._refused = Refused()

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Forward | Spread]:
        with self._lock:
            return iter(list(self._requests))

    def add(self, passing: Forward | Spread) -> bool:
        """Look for a request's servers; whether there is room for that."""
        with self._lock:
            if self._requests and (
                len(self._requests) >= _SEARCHED
                or self._bytes + passing.size > self._size
            ):
                self._refused.add(passing.key, passing.size)
                return False
            self._requests.add(passing)
            self._bytes += passing.size
            return True

    def discard(self, found: Collection[Forward | Spread]) -> list[Key]:
        """Look for some no longer.

        :returns: the requests for which there is room now
        """
        with self._lock:
            self._requests.difference_update(found)
            self._bytes -= sum(passing.size for passing in found)
            number, size = _SEARCHED - len(self._requests), self._size - self._bytes
            return self._refused.pop(number, size)

    def withdraw(self, key: Key) -> None:
        """Nobody wants room for a request any more."""
        with self._lock:
            self._refused.discard(key)


class Proxy:
    """A proxy; it works from `start` to `stop`.

    :param options: the [oslo_messaging_zmq] group
    :param encryption: of connections to clients and servers
    :param directory: nobody else uses it
    """

    def __init__(
        self, options: Any, encryption: Encryption, directory: Directory
    ) -> None:
        self._options = options
        self._started = time.time()
        #: told when there is news for requests that wait for a server
        self.news = Waiter()
        self.directory = directory
        self.client = Client(options, encryption, directory, self.news.wake, self._gone)
        self._server = Server(
            options, encryption, directory, self._take, self._withdraw
        )
        name = f"{socket.gethostname()}-{os.getpid()}"
        self._inbox = Inbox(self._server, PROXIES, name, self._tell_status)
        self._lock = threading.Lock()
        self._counts = collections.Counter(dict.fromkeys(_COUNTED.values(), 0))
        self._loads: dict[Peer, _Load] = {}
        #: routing ids of the clients of each listener, by its address
        self._callers: dict[bytes, set[bytes]] = {}
        self._passing: dict[Key, Forward | Spread] = {}
        #: requests for which their servers had no room
        self._refused: dict[Key, Forward] = {}
        self._searching = _Search(options.max_message_size)
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
            self.answer((routing_id, request.id), wire.NOBODY)
            return
        self._passing[passing.key] = passing
        if isinstance(passing, Forward) and passing.go():
            return
        if self._searching.add(passing):
            self.news.wake()
        else:
            passing.has_no_room()

    def _passing_of(
        self, routing_id: bytes, request: wire.Request
    ) -> Forward | Spread | None:
        """What is to be done with a request; None if it is for nobody."""
        try:
            process, *topic, server = request.address.decode().split("/")
        except ValueError:
            return None
        route = self.client.routes.get
        if len(topic) == 3:
            target = route("/".join(topic), unquote(server))
            return Forward(self, routing_id, request, target)
        if [process, *topic[:1]] != [self._server.process, SPREAD[:-1]]:
            return None  # also if a proxy had this port before us
        return Spread(self, routing_id, request, route("/".join(topic[1:]), None))

    def _withdraw(self, key: Key) -> None:
        """A client does not want a request any more."""
        passing = self._passing.get(key) or self._refused.get(key)
        if passing is not None:
            passing.withdraw()
            return
        self._searching.withdraw(key)
        with self._lock:
            for load in self._loads.values():
                load.refused.discard(key)

    def hold(self, peer: Peer, forward: Forward) -> bool:
        """Have room for a request to a server; whether there is some.

        If not, the client is told when there is.
        """
        limit: int = self._options.max_message_size
        with self._lock:
            load = self._loads.setdefault(peer, _Load())
            if load.size and load.size + forward.size > limit:
                load.refused.add(forward.key, forward.size)
                return False
            load.size += forward.size
            self._note_caller(forward)
        return True

    def _note_caller(self, forward: Forward) -> None:
        callers = self._callers.setdefault(forward.address, set())
        callers.add(forward.key[0])
        if len(callers) > MOST_CLIENTS:
            callers.pop()
        if len(self._callers) > _MOST_CALLED:
            del self._callers[next(iter(self._callers))]

    def _gone(self, addresses: Iterable[bytes]) -> None:
        """Tell the clients of listeners that these are gone, as they would do."""
        for address in addresses:
            with self._lock:
                callers = self._callers.pop(address, set())
            for routing_id in callers:
                self._server.answer(routing_id, wire.GONE, 0, address)

    def _let_go(self, forward: Forward) -> None:
        """A server is done with a request."""
        peer, forward.peer = forward.peer, None
        if peer is None:
            return
        with self._lock:
            load = self._loads[peer]
            load.size -= forward.size
            room = self._options.max_message_size - load.size
            keys = load.refused.pop(REMEMBERED, room)
            if not load.size and not load.refused:
                del self._loads[peer]
        for key in keys:
            self.answer(key, wire.ROOM)

    def refused(self, forward: Forward) -> None:
        """A server has no room for a request, and will say when it has."""
        self._passing.pop(forward.key, None)
        oldest = None
        with self._lock:
            self._refused[forward.key] = forward
            if len(self._refused) > _MOST_REFUSED:
                oldest = next(iter(self._refused.values()))
        self._let_go(forward)
        self.answer(forward.key, wire.BUSY)
        if oldest is not None:
            oldest.withdraw()

    def passed(self, passing: _Passing) -> None:
        """A request is over."""
        self._passing.pop(passing.key, None)
        self.client.routes.drop_if_empty(passing.route)
        if isinstance(passing, Forward):
            if passing.key in self._refused:
                with self._lock:
                    self._refused.pop(passing.key, None)
            self._let_go(passing)

    def answer(self, key: Key, kind: bytes, body: bytes = b"") -> None:
        """Tell a client something of a request."""
        if kind in _COUNTED:
            with self._lock:
                self._counts[_COUNTED[kind]] += 1
        routing_id, id = key
        self._server.answer(routing_id, kind, id, body)

    # -- its own thread ----------------------------------------------------------

    def _search(self) -> None:
        while not self._ended:
            self.news.wait(_TICK if self._searching else _IDLE)
            now = time.monotonic()
            found = [each for each in self._searching if self._step(each, now)]
            for key in self._searching.discard(found):
                self.answer(key, wire.ROOM)

    def _step(self, passing: Forward | Spread, now: float) -> bool:
        """Go on with a request; whether nothing is left but to wait for answers."""
        try:
            return passing.step(now)
        except Exception:
            LOG.exception("A request could not be forwarded")
            passing.finish(
                errors.DeliveryError(
                    "the proxy failed with an internal error; see its log"
                )
            )
            return True


# -- asking proxies -------------------------------------------------------------

#: A moment that no process is started after, in seconds since 1970.
_LATEST = 2.0**37
#: What a status consists of.
_STATUS: dict[str, type] = {
    "version": str,
    "started": float,
    **dict.fromkeys(("clients", "servers", "waiting", "undelivered"), int),
    **dict.fromkeys(_COUNTED.values(), int),
}


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
    body = bodies.request({"method": "status"}, {}).encode()
    asking = Message(wire.CALL, "question", record.server, body, PATIENCE, retry=0)
    name, problem = log_safety.quoted(record.server), ""
    told: Any = {}
    try:
        told = bodies.read_reply(client.send(asking, PROXIES, record.server), [])
    except (exceptions.MessagingException, bodies.MalformedBody) as error:
        problem = log_safety.line(str(error))
    else:
        if not _is_status(told):
            told, problem = {}, f"{name} at {record.endpoint} is not a proxy"
    return Report(name, record.endpoint, told, problem)


def _is_status(told: Any) -> bool:
    """Whether an answer is what `Proxy.status` makes."""
    return (
        isinstance(told, dict)
        and all(type(told.get(key)) is kind for key, kind in _STATUS.items())
        and 0 <= told["started"] < _LATEST
        and told["version"] == log_safety.quoted(told["version"])
    )
