# SPDX-License-Identifier: Apache-2.0
"""Peers that talk nonsense, brokers with ways of their own, servers that err."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import oslo_messaging
import psutil
import pytest
from oslo_messaging import MessageDeliveryFailure, MessagingException
from oslo_messaging.exceptions import ConfigurationError
from tests.functional.fakes import Fake, Peer, Proxy, hear
from tests.functional.routers import Router
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import Stopwatch, until

from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.amqp import outbox
from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    MODIFIED,
    RECEIVER_LOST,
    REJECTED,
    RELEASED,
    Delivery,
    Link,
    Outcome,
    Receiver,
    Sender,
)

AMQP, SASL = b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00"


def flood(connection: socket.socket) -> None:
    chance = random.Random(1)
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(chance.randbytes(65536))


def trickle(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        for byte in SASL + b"\x00\x00\x00\x20\x02\x01" + b"\x00" * 1000:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)


def says(*words: bytes, stays: bool = True) -> Callable[[socket.socket], None]:
    """Says something, whatever it hears, and stays or goes."""

    def behave(connection: socket.socket) -> None:
        for word in words:
            connection.sendall(word)
        if stays:
            hear(connection)

    return behave


NONSENSE: dict[str, Callable[[socket.socket], None]] = {
    "nothing": hear,
    "goes at once": says(stays=False),
    "HTTP": says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "HTTP and goes": says(b"HTTP/1.1 400 Bad Request\r\n\r\n", stays=False),
    "SSH": says(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "TLS": says(bytes.fromhex("160303003a02000036030300") + b"\x55" * 50),
    "AMQP 0-9-1": says(b"AMQP\x00\x00\x09\x01", stays=False),
    "AMQP without SASL": says(AMQP),
    "SASL header only": says(SASL),
    "SASL header and goes": says(SASL, stays=False),
    "SASL garbage": says(SASL, b"\x00\x00\x00\x10\x02\x01\x00\x00garbage!"),
    "SASL huge frame": says(SASL, b"\x7f\xff\xff\xff\x02\x01\x00\x00", b"x" * 99999),
    "SASL outcome unasked": says(
        SASL, b"\x00\x00\x00\x10\x02\x01\x00\x00\x00\x53\x44\xc0\x03\x01\x50\x00", AMQP
    ),
    "SASL no mechanism": says(
        SASL, b"\x00\x00\x00\x0e\x02\x01\x00\x00\x00\x53\x40\x45\x00\x00"
    ),
    "zeros": says(b"\x00" * 100_000),
    "flood": flood,
    "trickle": trickle,
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_neither_hangs_nor_spins(name: str) -> None:
    with Fake(NONSENSE[name]) as fake, Rpc(fake.url) as rpc:
        client = rpc.client(rpc.transport(connect_timeout=0.4), timeout=1)
        with Stopwatch() as watch, pytest.raises(MessageDeliveryFailure) as caught:
            client.call({}, "name")
        assert isinstance(caught.value, errors.BusUnavailable)
        assert str(fake.port) in str(caught.value)
        assert watch.seconds < 40
        assert reading_time() < 0.5
        assert fake.connections <= 5


@pytest.mark.parametrize("name", ["nothing", "HTTP", "flood", "AMQP 0-9-1"])
def test_nonsense_is_overcome(name: str, bus: Router, rpc: Rpc) -> None:
    """When the right server comes back on the port, everything works again."""
    rpc.server()
    with Fake(NONSENSE[name]) as fake:
        transport = rpc.transport(fake.url, connect_timeout=0.5)
        client = rpc.client(transport, timeout=1)
        with pytest.raises(MessageDeliveryFailure):
            client.call({}, "name")
        fake.behave = Proxy(bus.port)
        assert rpc.client(transport).call({}, "name") == "one"


@pytest.mark.parametrize("seed", range(2))
def test_damaged_bytes_break_no_process(seed: int, bus: Router, rpc: Rpc) -> None:
    """Calls fail with exceptions of the contract, or work; nothing gets stuck."""
    chance = random.Random(seed)
    damaging = threading.Event()
    damaging.set()

    def damage(data: bytes) -> bytes:
        if not damaging.is_set() or chance.random() > 0.2:
            return data
        changed = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(changed))
            kind = chance.randrange(3)
            if kind == 0:
                changed[at] = chance.randrange(256)
            elif kind == 1:
                changed[at:at] = chance.randbytes(chance.randint(1, 10))
            elif len(changed) > 20:
                del changed[at : at + chance.randint(1, 10)]
        return bytes(changed)

    with Fake(Proxy(bus.port, damage)) as fake:
        options = {"connect_timeout": 0.5, "restart_timeout": 0.5}
        rpc.server(transport=rpc.transport(fake.url, **options))
        client = rpc.client(rpc.transport(fake.url, **options), timeout=0.7)
        begin = time.monotonic()
        while time.monotonic() < begin + 3:
            # builtin exceptions may come from the server, of damaged requests
            with contextlib.suppress(
                MessagingException, TypeError, ValueError, KeyError, AttributeError
            ):
                client.call({}, "echo", value="x" * 100)
        damaging.clear()
        fake.hang_up()
        until(lambda: works(client), "everything works again")


def works(client: Any) -> bool:
    try:
        return bool(client.call({}, "name") == "one")
    except MessagingException:
        return False


def casts(client: Any) -> bool:
    try:
        client.cast({}, "echo", value=1)
    except MessagingException:
        return False
    return True


def reading_time() -> float:
    """Seconds of processor time that the threads of buses have taken."""
    readers = {
        thread.native_id
        for thread in threading.enumerate()
        if thread.name == "amqp-bus"
    }
    return sum(
        each.user_time + each.system_time
        for each in psutil.Process().threads()
        if each.id in readers
    )


# -- servers that answer nonsense ------------------------------------------------


class Answering(Peer):
    """A broker and server in one, which answers each call as a test wants."""

    answers: list[bytes] = []

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        super().on_message(receiver, delivery, data)
        request = codec.decode(data)
        reply = next(
            link
            for link in self.links
            if isinstance(link, Sender) and link.pn.source.address == request.reply_to
        )
        for answer in self.answers:
            reply.send(answer)


@pytest.mark.parametrize(
    "body", ["no json", "[]", '{"failure": 7}', '{"failure": "no json"}', ""]
)
def test_reply_that_is_none_fails_its_call(body: str) -> None:
    class Nonsensical(Answering):
        def on_message(
            self, receiver: Receiver, delivery: Delivery | None, data: bytes
        ) -> None:
            request = codec.decode(data)
            type(self).answers = [codec.encode(body, correlation_id=request.id)]
            super().on_message(receiver, delivery, data)

    with Fake(Nonsensical) as fake, Rpc(fake.url) as rpc:
        client = rpc.client(timeout=5)
        with pytest.raises(errors.ReplyMalformed, match="RPC call"):
            client.call({}, "name")


def test_replies_that_nobody_understands_are_dropped() -> None:
    value = b"\x00\x53\x77"

    class Nonsensical(Answering):
        def on_message(
            self, receiver: Receiver, delivery: Delivery | None, data: bytes
        ) -> None:
            request = codec.decode(data)
            type(self).answers = [
                b"",
                b"garbage",
                value + b"\xa1\xff",
                codec.encode("{}"),
                codec.encode("{}", correlation_id="somebody else's"),
                codec.encode("{}", correlation_id=7),
                # a list and a boolean for a correlation-id
                b"\x00\x53\x73\xc0\x07\x06\x40\x40\x40\x40\x40\x45" + value + b"\x40",
                b"\x00\x53\x73\xc0\x07\x06\x40\x40\x40\x40\x40\x41" + value + b"\x40",
                codec.encode(None, correlation_id=request.id),
                codec.encode('{"response": "right"}', correlation_id=request.id),
                codec.encode('{"response": "twice"}', correlation_id=request.id),
            ]
            super().on_message(receiver, delivery, data)

    with Fake(Nonsensical) as fake, Rpc(fake.url) as rpc:
        client = rpc.client(timeout=5)
        assert [client.call({}, "name") for _ in range(50)] == ["right"] * 50
        assert fake.connections == 1


# -- clients that ask nonsense ------------------------------------------------------


class Asking(Peer):
    """A broker that hands nonsense to the server that listens, then a call."""

    requests: list[bytes] = []
    settled = False
    outcomes: list[Outcome] = []
    replies: list[Any] = []

    def on_flow(self, link: Link) -> None:
        asked = getattr(self, "asked", False)
        if isinstance(link, Sender) and link.credit and not asked:
            self.asked = True
            for request in self.requests:
                link.send(request, self.settled)

    def on_outcome(self, sender: Sender, delivery: Delivery, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        super().on_message(receiver, delivery, data)
        self.replies.append(codec.decode(data))


def request(method: str, **more: Any) -> str:
    return json.dumps(
        {"request": {"method": method, "args": {}, "version": "1.0"}, **more}
    )


REQUESTS = [
    b"",
    b"garbage",
    b"\x00" * 1000,
    codec.encode(None),
    codec.encode("no json"),
    codec.encode("[" * 100_000),
    codec.encode("{}"),
    codec.encode('{"request": 7}'),
    codec.encode('{"request": {"oslo.version": "99.0", "oslo.message": "{}"}}'),
    codec.encode(request("name", context=[1])),
    codec.encode(request("name", call_monitor_timeout="soon")),
    codec.encode("x" * 1_000_000),
    b"\x00\x53\x73\xc0\x02\x01\x45" + b"\x00\x53\x77\xa1\x02{}",
]


@pytest.mark.parametrize("settled", [True, False])
def test_server_refuses_nonsense_and_goes_on(settled: bool) -> None:
    last = codec.encode(request("name"), id="last", reply_to="somewhere")

    class Strange(Asking):
        requests = [*REQUESTS, last]
        outcomes: list[Outcome] = []
        replies: list[Any] = []

    Strange.settled = settled
    with Fake(Strange) as fake, Rpc(fake.url) as rpc:
        rpc.server()
        until(lambda: Strange.replies, "the last request is answered")
        (reply,) = Strange.replies
        assert json.loads(reply.body) == {"response": "one"}
        assert reply.correlation_id == "last"
        assert fake.connections == 1
    if not settled:
        assert [outcome.state for outcome in Strange.outcomes] == [
            REJECTED.state
        ] * len(REQUESTS) + [ACCEPTED.state]
        assert {outcome.condition for outcome in Strange.outcomes[:-1]} == {
            "amqp:decode-error"
        }


def test_server_answers_identifiers_of_every_type() -> None:
    ids: list[Any] = ["text", 7, b"bytes"]

    class Strange(Asking):
        requests = [
            codec.encode(request("name"), id=id, reply_to="somewhere") for id in ids
        ]
        replies: list[Any] = []

    with Fake(Strange) as fake, Rpc(fake.url) as rpc:
        rpc.server()
        until(lambda: len(Strange.replies) == len(ids), "all are answered")
        found = [reply.correlation_id for reply in Strange.replies]
    assert sorted(map(str, found)) == sorted(map(str, ids))


# -- what brokers decide --------------------------------------------------------------


def deciding(*outcomes: Outcome) -> tuple[Fake, list[bytes]]:
    """A broker that gives each message the next of some outcomes, then accepts."""
    left = list(outcomes)
    seen: list[bytes] = []

    class Deciding(Peer):
        def outcome(self, data: bytes) -> Outcome:
            seen.append(data)
            return left.pop(0) if left else ACCEPTED

    return Fake(Deciding), seen


@pytest.mark.parametrize("outcome", [RELEASED, MODIFIED])
def test_messages_that_nobody_has_seen_are_sent_again(outcome: Outcome) -> None:
    fake, seen = deciding(*[outcome] * 3)
    with fake, Rpc(fake.url) as rpc:
        rpc.client().cast({}, "echo", value=1)
    assert len(seen) == 4
    assert len({codec.decode(data).body for data in seen}) == 1


@pytest.mark.parametrize(
    ("outcome", "error", "words"),
    [
        (RECEIVER_LOST, errors.ServerLost, "may have acted on it"),
        (Outcome(0), errors.ServerLost, "may have acted on it"),
        (
            Outcome(REJECTED.state, condition="amqp:decode-error", description="what?"),
            errors.MessageRefused,
            r"rejected \(amqp:decode-error: what\?\)",
        ),
        (
            Outcome(MODIFIED.state, undeliverable=True),
            errors.MessageRefused,
            "modified",
        ),
    ],
)
@pytest.mark.parametrize("method", ["call", "cast"])
def test_messages_that_were_lost_or_refused_are_not_sent_again(
    outcome: Outcome, error: type[Exception], words: str, method: str
) -> None:
    fake, seen = deciding(outcome)
    with fake, Rpc(fake.url) as rpc:
        with Stopwatch() as watch, pytest.raises(error, match=words):
            getattr(rpc.client(), method)({}, "echo", value=1)
        assert watch.seconds < 40
    assert len(seen) == 1


@pytest.mark.parametrize(("retry", "attempts"), [(0, 1), (2, 3)])
def test_retry_bounds_the_attempts(retry: int, attempts: int) -> None:
    fake, seen = deciding(*[RELEASED] * 20)
    with fake, Rpc(fake.url) as rpc, pytest.raises(errors.TargetUnreachable):
        rpc.client(retry=retry).cast({}, "echo", value=1)
    assert len(seen) == attempts


def test_a_released_message_holds_up_nobody() -> None:
    """In the retired driver, one parked all that followed for ten seconds."""

    class Choosy(Peer):
        def outcome(self, data: bytes) -> Outcome:
            return RELEASED if b"unwanted" in data else ACCEPTED

    with Fake(Choosy) as fake, Rpc(fake.url) as rpc:
        # as long as others are taken, somebody listens: it has all of its time
        client = rpc.client(rpc.transport(default_send_timeout=60))
        with ThreadPoolExecutor() as pool:
            failing = pool.submit(client.cast, {}, "echo", value="unwanted")
            with Stopwatch() as watch:
                for number in range(20):
                    client.cast({}, "echo", value=number)
            assert watch.seconds < 30
            assert not failing.done()
            client.transport.cleanup()
            assert isinstance(failing.exception(30), errors.DeliveryError)


# -- links that brokers refuse or take back ---------------------------------------


class Refusing(Peer):
    """Refuses links, for a reason, as long as `refusals` are left."""

    condition, refusals = "amqp:not-found", 1000

    def on_link_open(self, link: Link) -> None:
        if type(self).refusals > 0 and not link.pn.remote_source.dynamic:
            type(self).refusals -= 1
            self.refuse(link, self.condition, "because")
        else:
            super().on_link_open(link)


@pytest.mark.parametrize(
    ("condition", "error"),
    [
        ("amqp:not-found", errors.TargetUnreachable),
        ("amqp:resource-limit-exceeded", errors.TargetUnreachable),
        ("amqp:unauthorized-access", errors.MessageRefused),
        ("amqp:not-allowed", errors.MessageRefused),
    ],
)
def test_refused_links_fail_with_the_reason(
    condition: str, error: type[Exception]
) -> None:
    kind = type("Refuses", (Refusing,), {"condition": condition})
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        client = rpc.client(rpc.transport(restart_timeout=0.5))
        with Stopwatch() as watch, pytest.raises(error, match=f"{condition}: because"):
            client.cast({}, "echo", value=1)
        assert watch.seconds < 40


def test_refused_links_are_asked_for_again() -> None:
    kind = type("Refuses", (Refusing,), {"refusals": 3})
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        rpc.client().cast({}, "echo", value=1)


def test_bus_without_reply_addresses_says_so() -> None:
    class Plain(Peer):
        def on_link_open(self, link: Link) -> None:
            if link.pn.remote_source.dynamic:
                self.refuse(link, "amqp:not-implemented", "no dynamic sources")
            else:
                super().on_link_open(link)

    with Fake(Plain) as fake, Rpc(fake.url) as rpc:
        rpc.client().cast({}, "echo", value="casts need none")
        with pytest.raises(errors.MessageRefused, match="reply address"):
            rpc.client(timeout=5).call({}, "name")


def test_bus_that_ends_the_session_of_a_reply_address() -> None:
    """RabbitMQ's plugin for AMQP 1.0 does: casts have to go on all the same."""

    class Ending(Peer):
        def on_link_open(self, link: Link) -> None:
            if link.pn.remote_source.dynamic:
                session = link.pn.session
                session.condition = link.pn.condition
                session.close()
            else:
                super().on_link_open(link)

    with Fake(Ending) as fake, Rpc(fake.url) as rpc:
        with pytest.raises(errors.DeliveryError):
            rpc.client(timeout=60).call({}, "name")
        until(lambda: casts(rpc.client()), "casts get through")
        assert fake.connections == 1


def test_subscriptions_that_are_taken_away_return() -> None:
    class Fickle(Peer):
        taken = 0

        def on_link_open(self, link: Link) -> None:
            super().on_link_open(link)
            if isinstance(link, Sender) and type(self).taken < 3:
                type(self).taken += 1
                link.close()

    with Fake(Fickle) as fake, Rpc(fake.url) as rpc:
        server = rpc.server(transport=rpc.transport(link_retry_delay=1))
        (inbox,) = server.listener._inbox.inboxes.values()
        sources = inbox._subscription.sources
        until(lambda: len(sources) == 3, "all have been attached again")
        assert Fickle.taken == 3
        assert fake.connections == 1


def test_link_that_is_taken_away_fails_what_is_on_it() -> None:
    class Fickle(Peer):
        def on_message(
            self, receiver: Receiver, delivery: Delivery | None, data: bytes
        ) -> None:
            self.messages.append(data)
            if len(self.messages) == 1:
                receiver.close()
            elif delivery is not None:
                receiver.settle(delivery, ACCEPTED)

    with Fake(Fickle) as fake, Rpc(fake.url) as rpc:
        client = rpc.client()
        with pytest.raises(MessageDeliveryFailure):
            client.cast({}, "echo", value=1)
        client.cast({}, "echo", value=2)


def test_reply_address_that_is_taken_away_fails_the_calls() -> None:
    class Fickle(Peer):
        def on_message(
            self, receiver: Receiver, delivery: Delivery | None, data: bytes
        ) -> None:
            super().on_message(receiver, delivery, data)
            for link in self.links:
                if not link.closed and link.pn.remote_source.dynamic:
                    link.close()

    with Fake(Fickle) as fake, Rpc(fake.url) as rpc:
        client = rpc.client()
        for _ in range(2):
            with Stopwatch() as watch, pytest.raises(errors.BusLost, match="reply"):
                client.call({}, "name")
            assert watch.seconds < 40


class Native(Peer):
    """Notes when links were attached and when messages arrived."""

    product = "skupper-router"
    attached: list[float] = []
    arrived: list[float] = []

    def on_link_open(self, link: Link) -> None:
        super().on_link_open(link)
        self.attached.append(time.monotonic())

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        self.arrived.append(time.monotonic())
        super().on_message(receiver, delivery, data)


@pytest.mark.parametrize("looked_at", [False, True])
def test_an_edge_router_has_time_to_find_listeners_before_the_first_fanout(
    monkeypatch: pytest.MonkeyPatch, looked_at: bool
) -> None:
    """Whatever has opened the link."""
    monkeypatch.setattr(outbox, "SPREADING", 0.5)
    Native.attached.clear()
    Native.arrived.clear()
    with Fake(Native) as fake, Rpc(fake.url) as rpc:
        client = rpc.client(fanout=True)

        def look() -> bool:
            rpc.default._driver.presence(client.target)
            return bool(Native.attached)

        if looked_at:
            until(look, "the link is open", 60)
        client.cast({}, "echo", value=1)
        until(lambda: Native.arrived, "it has arrived", 60)
        assert Native.arrived[0] - Native.attached[0] >= 0.5
        # the next ones need not wait
        monkeypatch.setattr(outbox, "SPREADING", 600)
        client.cast({}, "echo", value=2)
        until(lambda: len(Native.arrived) == 2, "the second one has arrived", 60)


def test_a_router_without_others_gets_the_first_fanout_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "SPREADING", 600)

    class Alone(Peer):
        product = "hybrid-messaging-router"

    with Fake(Alone) as fake, Rpc(fake.url) as rpc:
        rpc.client(fanout=True).cast({}, "echo", value=1)


# -- brokers, not routers ----------------------------------------------------------


def test_broker_is_sent_notifications_without_a_reply_address() -> None:
    """Some brokers refuse dynamic sources, and with them whole sessions."""
    seen: list[Link] = []

    class Broker(Peer):
        product = "broker"

        def on_link_open(self, link: Link) -> None:
            seen.append(link)
            super().on_link_open(link)

    with Fake(Broker) as fake, Rpc(fake.url) as rpc:
        transport = rpc.transport()
        transport._driver.send_notification(
            oslo_messaging.Target(topic="t.info"), {}, {"a": 1}, version=2.0
        )
        assert [link.pn.remote_target.address for link in seen] == [
            "openstack.org/om/notify/anycast/openstack/t.info"
        ]


def test_broker_is_not_kept_waiting_for_the_settlement_of_calls(bus: Router) -> None:
    """It would deliver again what a dead server has not settled."""
    last = codec.encode(
        request("wait"),
        id="call",
        reply_to="somewhere",
        marks=codec.mark(["x-opt-settles-with-reply"]),
    )

    class Broker(Asking):
        product = "broker"
        requests = [last]
        outcomes: list[Outcome] = []
        replies: list[Any] = []

    service = Service()
    with Fake(Broker) as fake, Rpc(fake.url) as rpc:
        rpc.server(service)
        until(lambda: service.seen, "the call is at work")
        until(lambda: Broker.outcomes == [ACCEPTED], "it is settled already")
        assert Broker.replies == []
        service.gate.set()
        until(lambda: Broker.replies, "the reply comes later")


class RabbitMq(Peer):
    product = "RabbitMQ"


def test_no_server_starts_and_no_call_waits_at_a_peer_that_is_none_for_them() -> None:
    advice = "it is RabbitMQ, .*; use a rabbit:// URL for it"
    with Fake(RabbitMq) as fake, Rpc(fake.url) as rpc:
        with pytest.raises(ConfigurationError, match=f"{fake.port} .*{advice}"):
            rpc.server()
        with pytest.raises(errors.BusUnavailable, match=advice):
            rpc.client(timeout=60).call({}, "name")


def test_a_peer_with_addresses_of_its_own_can_have_prefixes_that_suit_it() -> None:
    with Fake(RabbitMq) as fake, Rpc(fake.url) as rpc:
        transport = rpc.transport(addressing_mode="legacy")
        rpc.client(transport).cast({}, "echo", value=1)


def test_qpidd_gets_legacy_addresses() -> None:
    addresses: list[str] = []

    class Qpidd(Peer):
        product = "qpid-cpp"

        def on_link_open(self, link: Link) -> None:
            addresses.append(link.pn.remote_target.address)
            super().on_link_open(link)

    with Fake(Qpidd) as fake, Rpc(fake.url) as rpc:
        rpc.client(exchange="e", topic="t").cast({}, "echo", value=1)
    assert addresses == ["unicast.e.t"]
