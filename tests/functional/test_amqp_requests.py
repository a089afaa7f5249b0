# SPDX-License-Identifier: Apache-2.0
"""What servers do with requests that they have, and have not begun with."""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import oslo_messaging
import pytest
from oslo_messaging import MessagingTimeout, Target
from oslo_messaging.rpc.client import RemoteError
from tests.functional.fakes import Fake, Peer, Proxy
from tests.functional.routers import Router
from tests.functional.rpc import Rpc, configuration, end
from tests.functional.service import Service
from tests.functional.waiting import Stopwatch, until
from tests.functional.worker import Worker

from hybrid_messaging.drivers import errors, logs
from hybrid_messaging.drivers.amqp import bus, outbox, subscription
from hybrid_messaging.drivers.amqp.answers import _Answer
from hybrid_messaging.drivers.amqp.incoming import Inbox, Stage
from hybrid_messaging.drivers.amqp.outgoing import SETTLES_WITH_REPLY
from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    RECEIVER_LOST,
    RELEASED,
    Delivery,
    Link,
    Outcome,
    Receiver,
    Sender,
)

#: Seconds, far beyond what anything here takes.
FAR = 60.0


@pytest.fixture
def service() -> Any:
    """A service whose `wait` waits until the test opens its gate, or ends."""
    made = Service()
    yield made
    made.gate.set()


def inbox(server: Any) -> Inbox:
    """The inbox of a server."""
    (found,) = server.listener._inbox.inboxes.values()
    assert isinstance(found, Inbox)
    return found


def times_out(client: Any, method: str, **arguments: Any) -> None:
    with pytest.raises(MessagingTimeout):
        client.call({}, method, **arguments)


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What has been logged as a warning, or as worse."""
    assert logs.flush(FAR)
    found = [each for each in caplog.records if each.levelno >= logging.WARNING]
    return [each.getMessage() for each in found]


# -- casts ---------------------------------------------------------------------------


def test_a_cast_does_not_wait_for_a_worker(rpc: Rpc, service: Service) -> None:
    rpc.server(service, workers=1)
    client = rpc.client()
    client.cast({}, "wait", value=0)
    until(lambda: service.seen == [0], "the worker is busy")
    for number in range(1, 20):
        client.cast({}, "echo", value=number)
    assert service.seen == [0]
    service.gate.set()
    until(lambda: len(service.seen) == 20, "all are executed", FAR)
    assert service.seen == list(range(20))


def test_casts_beyond_the_room_of_a_server_wait_and_are_not_executed_later(
    rpc: Rpc, service: Service
) -> None:
    transport = rpc.transport(rpc_server_credit=4)
    server = rpc.server(service, workers=1, transport=transport)
    client = rpc.client(rpc.transport(default_send_timeout=5))
    client.cast({}, "wait", value="first")
    until(lambda: service.seen, "the worker is busy")
    cast: list[int] = []
    with pytest.raises(errors.CastUnconfirmed):
        for number in range(20):
            client.cast({}, "echo", value=number)
            cast.append(number)
    assert len(cast) == inbox(server).confirmed <= 4
    service.gate.set()
    rpc.client().cast({}, "echo", value="last")
    until(lambda: "last" in service.seen, "the last is executed", FAR)
    assert service.seen == ["first", *cast, "last"]


def test_a_server_that_stops_executes_the_casts_that_it_has_confirmed(
    rpc: Rpc, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    server = rpc.server(service, workers=1)
    client = rpc.client(server="one")
    client.cast({}, "wait", value=0)
    until(lambda: service.seen, "the worker is busy")
    for number in range(1, 10):
        client.cast({}, "echo", value=number)
    until(lambda: inbox(server).confirmed == 9, "nine are confirmed")
    server.stop()
    service.gate.set()
    server.wait()
    assert service.seen == list(range(10))
    assert complaints(caplog) == []


def test_casts_that_a_service_leaves_unexecuted_are_counted(
    rpc: Rpc, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    server = rpc.server(service, workers=1)
    client = rpc.client(server="one")
    client.cast({}, "wait", value=0)
    until(lambda: service.seen, "the worker is busy")
    for number in range(1, 4):
        client.cast({}, "echo", value=number)
    server.stop()
    server.listener.cleanup()  # without waiting for the executor
    (line,) = complaints(caplog)
    assert line.startswith("3 messages are lost")


# -- calls whose callers give up -----------------------------------------------------


@pytest.mark.parametrize("credit", [1, 100])
def test_a_call_is_not_executed_after_its_caller_has_given_up(
    rpc: Rpc, service: Service, caplog: pytest.LogCaptureFixture, credit: int
) -> None:
    transport = rpc.transport(rpc_server_credit=credit)
    server = rpc.server(service, workers=1, transport=transport)
    rpc.server(topic=f"{rpc.topic}-beside", transport=transport)
    with ThreadPoolExecutor(3) as pool:
        patient = pool.submit(rpc.client().call, {}, "wait", value="first")
        until(lambda: service.seen, "the worker is busy")
        impatient = rpc.client(timeout=1)
        given_up = [
            pool.submit(times_out, impatient, "echo", value=n) for n in range(2)
        ]
        for each in given_up:
            each.result(FAR)
        until(lambda: inbox(server).dropped[Stage.WITHDRAWN], "one is withdrawn")
        # on the same connections, behind what has been withdrawn
        beside = rpc.client(topic=f"{rpc.topic}-beside")
        assert beside.call({}, "name") == "one"
        service.gate.set()
        assert patient.result(FAR) == "first"
    assert rpc.client().call({}, "echo", value="last") == "last"
    assert service.seen == ["first", "last"]
    assert complaints(caplog) == []


@pytest.mark.parametrize("size", [10, 20_000])
def test_a_server_that_was_stopped_begins_nothing_that_was_given_up(
    rpc: Rpc, size: int
) -> None:
    """When it goes on, it finds calls and, behind them, that nobody waits any more."""
    with Worker(rpc.url, rpc.topic) as worker, ThreadPoolExecutor(60) as pool:
        impatient = rpc.client(timeout=2)
        assert impatient.call({}, "name") == "worker"
        os.kill(worker.process.pid, signal.SIGSTOP)
        values = [f"{number}".ljust(size) for number in range(60)]
        list(pool.map(lambda v: times_out(impatient, "echo", value=v), values))
        os.kill(worker.process.pid, signal.SIGCONT)
        assert rpc.client().call({}, "echo", value="last") == "last"
        worker.until("begins", "last")
        begun = [each["value"] for each in worker.told if each["event"] == "begins"]
        assert begun == ["last"]


def marked(method: str, **more: Any) -> bytes:
    """A call as this driver sends it."""
    body = json.dumps({"request": {"method": "echo", "args": {"value": method}}})
    return codec.encode(
        body,
        id=method[:20],
        reply_to="somewhere",
        marks=codec.mark([SETTLES_WITH_REPLY]),
        **more,
    )


class FakeRouter(Peer):
    """A router that hands to the first server that listens what a test wants.

    It keeps what it has no credit for.
    """

    product = "skupper-router"
    relays = True
    #: what the address of the server's link has in it
    where = "anycast"
    #: (message, settled)
    requests: list[tuple[bytes, bool]] = []
    made: list[FakeRouter] = []

    def __init__(self, connection: Any) -> None:
        type(self).made.append(self)
        self.outcomes: dict[bytes, Outcome] = {}
        self.replies: list[codec.Message] = []
        self.given: dict[Delivery, bytes] = {}
        super().__init__(connection)

    @property
    def way(self) -> Sender | None:
        """The link to the server of the topic."""
        for link in self.links:
            if (
                isinstance(link, Sender)
                and not link.closed
                and self.where in str(link.pn.source.address)
            ):
                return link
        return None

    def pump(self) -> None:
        way = self.way
        while way is not None and self.requests and way.credit > 0:
            data, settled = self.requests.pop(0)
            delivery = way.send(data, settled)
            if delivery is not None:
                self.given[delivery] = data

    def on_flow(self, link: Link) -> None:
        self.pump()
        if isinstance(link, Sender) and link.draining:
            link.drained()

    def on_outcome(self, sender: Sender, delivery: Delivery, outcome: Outcome) -> None:
        self.outcomes[self.given[delivery]] = outcome

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        super().on_message(receiver, delivery, data)
        self.replies.append(codec.decode(data))


def fake_router(*requests: bytes, settled: bool = False, **more: Any) -> Any:
    """A kind of router that hands out some requests."""
    given = [(request, settled) for request in requests]
    return type(
        "Router", (FakeRouter,), {"requests": given, "made": [], "outcomes": {}, **more}
    )


def test_a_fanout_that_a_mesh_brings_twice_is_executed_once(service: Service) -> None:
    kind = fake_router(where="multicast")
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        client = rpc.client(fanout=True)
        for value in ("first", "first", "last"):
            client.cast({}, "echo", value=value)
        until(lambda: len(kind.made[0].messages) == 3, "the router has them")
        first, second, last = kind.made[0].messages
        kind.requests += [(each, True) for each in (first, first, second, first, last)]
        rpc.server(service, workers=1)
        until(lambda: "last" in service.seen, "the last is executed", FAR)
    assert service.seen == ["first", "first", "last"]


def test_a_call_that_was_withdrawn_on_its_way_is_not_executed(service: Service) -> None:
    kind = fake_router(*[marked(str(number)) for number in range(9)], settled=True)
    kind.requests.append((marked("last"), False))
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        # their credit comes back, or the last would not arrive
        server = rpc.server(service, transport=rpc.transport(rpc_server_credit=2))
        until(lambda: kind.made[0].replies, "the last is answered", FAR)
        assert inbox(server).dropped == {Stage.WITHDRAWN: 9}
    assert service.seen == ["last"]


def test_a_call_that_has_waited_for_too_long_is_not_executed(service: Service) -> None:
    body = json.dumps({"request": {"method": "wait", "args": {"value": "first"}}})
    short, patient = marked("short", ttl=0.05), marked("patient", ttl=600)
    kind = fake_router(codec.encode(body), short, patient)
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        server = rpc.server(service, workers=1)
        until(lambda: not kind.requests, "all have been sent")
        until(lambda: len(inbox(server)._waiting) == 2, "two wait in the server")
        time.sleep(0.1)
        service.gate.set()
        until(lambda: kind.made[0].replies, "the patient is answered", FAR)
        router = kind.made[0]
        until(lambda: len(router.outcomes) == 3, "all are settled")
        assert router.outcomes[short] == RELEASED
        assert router.outcomes[patient] == ACCEPTED
    assert service.seen == ["first", "patient"]


def test_messages_that_are_aborted_cost_no_credit() -> None:
    """As those are whose sender dies in the middle of them."""

    class Aborting(FakeRouter):
        aborted = 0

        def pump(self) -> None:
            way = self.way
            while way is not None and self.aborted < 9 and way.credit > 0:
                self.aborted += 1
                delivery = way.send(marked("x" * 400_000))
                assert delivery is not None
                self.endpoint.written(self.socket.send(self.endpoint.output()))
                way.forget(delivery)
                self.flush()
            if self.aborted == 9:
                super().pump()

    last = marked("last")
    kind = type("Router", (Aborting,), {"requests": [(last, False)], "made": []})
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        rpc.server(transport=rpc.transport(rpc_server_credit=3))
        until(lambda: kind.made and kind.made[0].replies, "the last is answered", FAR)
        assert kind.made[0].replies[0].correlation_id == "last"


# -- servers that stop ---------------------------------------------------------------


def test_a_server_that_stops_gives_back_what_it_has_not_begun(
    rpc: Rpc, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """Another server gets it, while the one that stops still works."""
    server = rpc.server(service, workers=1)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(rpc.client().call, {}, "wait", value="first")
        until(lambda: service.seen, "the worker is busy")
        rest = [
            pool.submit(rpc.client().call, {}, "echo", value=number)
            for number in range(5)
        ]
        until(lambda: len(inbox(server)._waiting) == 5, "five wait")
        other = Service("two")
        rpc.server(other, name="two")
        server.stop()
        assert [each.result(FAR) for each in rest] == list(range(5))
        assert sorted(other.seen) == list(range(5))
        assert service.seen == ["first"]
        service.gate.set()
        assert first.result(FAR) == "first"
    server.wait()
    assert service.seen == ["first"]
    assert complaints(caplog) == []


def test_a_router_gets_back_what_it_keeps_for_a_server_that_stops(
    service: Service,
) -> None:
    """Some choose a server for a message whether it has credit or not."""
    body = json.dumps({"request": {"method": "wait", "args": {"value": "first"}}})
    kind = fake_router(
        codec.encode(
            body,
            id=1,
            reply_to="somewhere",
            marks=codec.mark([SETTLES_WITH_REPLY]),
        )
    )
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        server = rpc.server(service)
        until(lambda: service.seen, "the first is at work")
        server.stop()
        router = kind.made[0]
        until(lambda: router.way.credit == 0, "it grants no credit any more")
        for number in range(3):
            late = marked(f"late {number}")
            kind.requests.append((late, False))
            until(lambda: router.outcomes.get(late) == RELEASED, "it comes back")  # noqa: B023
        service.gate.set()
        until(lambda: router.way is None, "then the link is detached", FAR)
        end(server)
    assert service.seen == ["first"]


class Broker(Peer):
    """One that has some notifications, and gives again what it gets back."""

    product = "ActiveMQ"
    made: list[Broker] = []

    def __init__(self, connection: Any) -> None:
        type(self).made.append(self)
        self.queue: list[int] = [0]
        self.given: dict[Delivery, int] = {}
        self.deliveries = 0
        self.drained = False
        super().__init__(connection)

    def pump(self, link: Link) -> None:
        while self.queue and link.credit > 0:
            assert isinstance(link, Sender)
            number = self.queue.pop(0)
            delivery = link.send(notification(number))
            assert delivery is not None
            self.given[delivery] = number
            self.deliveries += 1

    def on_flow(self, link: Link) -> None:
        if isinstance(link, Sender):
            self.pump(link)
            if link.draining:
                link.drained()
                self.drained = True
                self.queue += range(1, 6)

    def on_outcome(self, sender: Sender, delivery: Delivery, outcome: Outcome) -> None:
        if outcome.never_forwarded:
            self.queue.append(self.given[delivery])
        self.pump(sender)


def notification(number: int) -> bytes:
    message = {
        "message_id": str(number),
        "publisher_id": "publisher",
        "event_type": "event",
        "priority": "INFO",
        "payload": number,
        "timestamp": "now",
    }
    return codec.encode(json.dumps({"request": message, "context": {}}))


def test_a_listener_that_stops_does_not_go_round_with_a_broker(
    service: Service,
) -> None:
    """What the broker has got back it does not get again and again."""
    kind = type("OneBroker", (Broker,), {"made": []})
    begun = threading.Event()

    class Endpoint:
        def info(self, *arguments: Any) -> None:
            begun.set()
            service.gate.wait(FAR)

    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        transport = oslo_messaging.get_notification_transport(configuration(), fake.url)
        rpc.callback(transport.cleanup)
        listener = oslo_messaging.get_notification_listener(
            transport, [Target(topic="n")], [Endpoint()], executor="threading"
        )
        listener.start(override_pool_size=1)
        assert begun.wait(FAR)
        listener.stop()
        broker = kind.made[0]
        until(lambda: broker.drained, "the broker has no credit any more", FAR)
        time.sleep(1)  # 7,000 deliveries, if they go round
        assert broker.deliveries < 100
        service.gate.set()
        listener.wait()


# -- replies -------------------------------------------------------------------------


def test_replies_are_forgotten_when_they_have_been_sent() -> None:
    """Also if their caller takes them one by one."""

    class Reluctant(FakeRouter):
        credit = 0
        taken = 0

        def on_link_open(self, link: Link) -> None:
            super().on_link_open(link)
            if isinstance(link, Receiver):
                link.grant(1)

    count = 50
    calls = [marked(f"{number}") for number in range(count)]
    kind = type(
        "Router", (Reluctant,), {"requests": [(c, False) for c in calls], "made": []}
    )
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        rpc.server()
        until(lambda: len(kind.made) and len(kind.made[0].replies) == count, "all", FAR)
        until(
            lambda: not any(isinstance(each, _Answer) for each in gc.get_objects()),
            "none is kept",
            10,
        )
        until(lambda: len(kind.made[0].outcomes) == count, "all are settled")
        assert set(kind.made[0].outcomes.values()) == {ACCEPTED}


def test_a_reply_that_nobody_takes_fails_its_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    call = marked("call")
    kind = fake_router(call, credit=0)
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        rpc.server(transport=rpc.transport(default_reply_timeout=5))
        until(lambda: kind.made and kind.made[0].outcomes, "it is settled", FAR)
        assert kind.made[0].outcomes[call] == RECEIVER_LOST
        (line,) = complaints(caplog)
        assert "accepted" in line


def test_a_reply_that_is_too_large_becomes_an_error(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "MAX_MESSAGE", 100_000)

    class Library:
        def book(self, ctxt: Any, size: int) -> str:
            return "x" * size

    rpc.server(Library())
    client = rpc.client()
    assert client.call({}, "book", size=90_000) == "x" * 90_000
    with pytest.raises(
        RemoteError, match=r"not sent: .* 100016 bytes, and the limit is 100000"
    ):
        client.call({}, "book", size=100_000)
    (line,) = complaints(caplog)
    assert "the caller receives this error instead" in line


def test_a_reply_that_the_bus_does_not_take_becomes_an_error() -> None:
    class Narrow(FakeRouter):
        def confirm(self, link: Link) -> None:
            if isinstance(link, Receiver):
                link.pn.max_message_size = 10_000
            super().confirm(link)

    call = marked("x" * 20_000)
    kind = type("Router", (Narrow,), {"requests": [(call, False)], "made": []})
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        rpc.server()
        until(lambda: kind.made and kind.made[0].replies, "it is answered", FAR)
        (reply,) = kind.made[0].replies
        assert "the limit is 10000" in json.loads(reply.body)["failure"]
        until(lambda: kind.made[0].outcomes, "it is settled")
        assert kind.made[0].outcomes[call] == ACCEPTED


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_call_is_settled_with_its_reply_which_says_so(size: int) -> None:
    call = marked("x" * size)
    kind = fake_router(call)
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        rpc.server()
        until(lambda: kind.made and kind.made[0].outcomes, "it is settled", FAR)
        (reply,) = kind.made[0].replies
        assert reply.marks == {SETTLES_WITH_REPLY}
        assert kind.made[0].outcomes[call] == ACCEPTED


@pytest.mark.parametrize("pre_settled", ["rpc-reply", "notify"])
def test_a_call_is_not_accepted_if_its_reply_is_not(pre_settled: str) -> None:
    """A large reply is never sent as settled."""

    class Losing(FakeRouter):
        def outcome(self, data: bytes) -> Outcome:
            return RELEASED

    call = marked("x" * 100_000)
    kind = type("Router", (Losing,), {"requests": [(call, False)], "made": []})
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        rpc.server(transport=rpc.transport(pre_settled=pre_settled))
        until(lambda: kind.made and kind.made[0].outcomes, "it is settled", FAR)
        assert kind.made[0].outcomes[call] == RECEIVER_LOST


def test_a_large_reply_that_its_caller_does_not_settle_takes_no_memory() -> None:
    class Keeping(FakeRouter):
        def on_message(
            self, receiver: Receiver, delivery: Delivery | None, data: bytes
        ) -> None:
            self.replies.append(codec.decode(data))

    kind = type(
        "Router", (Keeping,), {"requests": [(marked("x" * 100_000), False)], "made": []}
    )
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        rpc.server()
        until(lambda: kind.made and kind.made[0].replies, "it is answered", FAR)
        until(
            lambda: (
                [
                    each.message.body
                    for each in gc.get_objects()
                    if isinstance(each, _Answer)
                ]
                == [None]
            ),
            "its body is not kept",
            FAR,
        )
        assert not kind.made[0].outcomes


class LosingReplies(Proxy):
    """Lets replies come with ids that no call has, as if they came never."""

    losing = False

    def __init__(self, port: int) -> None:
        super().__init__(port, self.lose)

    def lose(self, data: bytes) -> bytes:
        if not self.losing or b'"response"' not in data:
            return data
        return re.sub(rb"[0-9a-f]{32}-", lambda found: b"x" + found[0][1:], data)


def test_a_call_whose_reply_is_lost_does_not_wait_for_its_timeout(
    bus: Router, rpc: Rpc, service: Service
) -> None:
    rpc.server(service)
    proxy = LosingReplies(bus.port)
    with Fake(proxy) as fake:
        client = rpc.client(rpc.transport(fake.url), timeout=2 * FAR)
        assert client.call({}, "echo", value="first") == "first"
        proxy.losing = True
        with Stopwatch() as watch, pytest.raises(errors.ServerLost) as caught:
            client.call({}, "echo", value="lost")
        assert "executed, but its reply is lost" in str(caught.value)
        assert watch.seconds < FAR
        proxy.losing = False
        assert client.call({}, "echo", value="last") == "last"
    assert service.seen == ["first", "lost", "last"]


def test_exceptions_of_any_kind_end_their_calls_at_once(rpc: Rpc) -> None:
    class Failing:
        def decode(self, ctxt: Any) -> None:
            b"\xff".decode()

        def mute(self, ctxt: Any) -> None:
            raise Mute(b"\xff")

    rpc.server(Failing())
    client = rpc.client()
    with pytest.raises(RemoteError, match=r"UnicodeDecodeError .* codec can't decode"):
        client.call({}, "decode")
    with pytest.raises(RemoteError, match="Mute The text of the exception"):
        client.call({}, "mute")


class Mute(Exception):
    """One that does not say what it is."""

    def __str__(self) -> str:
        raise LookupError


# -- services that end in ways of their own ------------------------------------------


def test_servers_that_stop_after_their_transport_do_so_at_once(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "DRAIN_TIMEOUT", 2 * FAR)
    transport = rpc.transport()
    servers = [rpc.server(name=f"server-{n}", transport=transport) for n in range(10)]
    assert rpc.client(server="server-3").call({}, "name") == "server-3"
    transport.cleanup()
    begin = time.monotonic()
    for server in servers:
        server.stop()
        server.listener.cleanup()
    assert time.monotonic() - begin < FAR


def test_a_server_that_starts_does_not_outlast_its_transport(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus has accepted the connection, and says nothing."""
    monkeypatch.setattr(subscription, "SUBSCRIBE_TIMEOUT", 300)
    monkeypatch.setattr(bus, "FAREWELL", 300)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        transport = rpc.transport(f"amqp://127.0.0.1:{silent.getsockname()[1]}/")
        starting = threading.Thread(
            target=rpc.server, kwargs={"transport": transport}, daemon=True
        )
        starting.start()
        with silent.accept()[0]:
            transport.cleanup()
            starting.join(60)
    assert not starting.is_alive()
