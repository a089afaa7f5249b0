# SPDX-License-Identifier: Apache-2.0
"""What a sender may rely on: patience, limits, odd times, forks, orderly ends."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import oslo_messaging
import proton
import pytest
from oslo_messaging import MessageDeliveryFailure, MessagingTimeout
from tests.functional import c_fork
from tests.functional.fakes import Fake, Peer
from tests.functional.routers import Router
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import Stopwatch, until
from tests.functional.worker import Worker

from hybrid_messaging.drivers import errors, logs
from hybrid_messaging.drivers.amqp import outbox, route
from hybrid_messaging.protocol.endpoint import ACCEPTED, Delivery, Link, Receiver

#: Seconds that what is at once may take on a busy machine.
AT_ONCE = 30


class RouterPeer(Peer):
    """A router that a test plays."""

    product = "hybrid-messaging-router"


class Obedient(Peer):
    """Does what a test asks for, in its own thread."""

    def __init__(self, connection: socket.socket) -> None:
        self.asked: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        super().__init__(connection)

    def run(self) -> None:
        self.socket.settimeout(0.02)
        while not self.endpoint.closed and not self.endpoint.finished:
            while not self.asked.empty():
                self.asked.get()()
            self.endpoint.tick(time.monotonic())
            self.flush()
            with contextlib.suppress(TimeoutError):
                if data := self.socket.recv(1 << 16):
                    self.endpoint.receive(data)
                else:
                    self.endpoint.end_of_input()
        self.endpoint.abandon()


# -- who is there ------------------------------------------------------------


class Vacating(RouterPeer):
    """Takes all credit back after each message, as if the last listener had left."""

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        self.messages.append(data)
        assert delivery is not None
        receiver.settle(delivery, ACCEPTED)
        receiver.drain()


def test_credit_that_is_taken_back_says_that_nobody_listens() -> None:
    with Fake(Vacating) as fake, Rpc(fake.url) as rpc:
        client = rpc.client(rpc.transport(restart_timeout=0, default_send_timeout=30))
        client.cast({}, "echo", value=1)

        def gone() -> bool:
            try:
                client.cast({}, "echo", value=2)
            except errors.TargetUnreachable:
                return True
            return False

        until(gone, "nobody listens any more")


def test_the_time_counts_from_when_the_last_listener_left(rpc: Rpc) -> None:
    """The router says so, also where nobody asks."""
    client = rpc.client(rpc.transport(restart_timeout=14), timeout=60)
    with Worker(rpc.url, rpc.topic) as worker:
        assert client.call({}, "name") == "worker"
        worker.kill()
    time.sleep(12)
    with Stopwatch() as watch, pytest.raises(errors.TargetUnreachable):
        client.call({}, "name")
    assert watch.seconds < 12


def test_credit_wakes_those_who_wait_for_it() -> None:
    """Long before they would look again, or their patience ends."""

    class Late(Obedient):
        product = RouterPeer.product
        credit = 0

        def on_link_open(self, link: Link) -> None:
            super().on_link_open(link)
            if isinstance(link, Receiver):
                late.append((self, link))

    late: list[tuple[Late, Receiver]] = []
    with Fake(Late) as fake, Rpc(fake.url) as rpc:
        client = rpc.client(rpc.transport(restart_timeout=60, default_send_timeout=60))
        ended: list[float] = []

        def cast() -> None:
            client.cast({}, "echo", value=1)
            ended.append(time.monotonic())

        threads = [threading.Thread(target=cast) for _ in range(5)]
        for thread in threads:
            thread.start()
        until(lambda: late, "the link is attached")
        time.sleep(4 * route.SETTLING)  # all of them know that nobody listens
        peer, link = late[0]
        peer.asked.put(lambda: link.grant(5))
        for thread in threads:
            thread.join(60)
        assert len(ended) == 5


@pytest.mark.parametrize("retry", [None, -1, 3])
def test_a_broker_without_credit_has_no_room_and_is_waited_for(
    retry: int | None,
) -> None:
    """Its disk is full, say: that nobody listened would be no reason."""

    class Alarmed(Obedient):
        product = "broker"
        credit = 0

        def on_link_open(self, link: Link) -> None:
            super().on_link_open(link)
            if isinstance(link, Receiver):
                relax = lambda: link.grant(10)  # noqa: E731
                threading.Timer(1, self.asked.put, [relax]).start()

    with Fake(Alarmed) as fake, Rpc(fake.url) as rpc:
        transport = rpc.transport(restart_timeout=0)
        transport._driver.send_notification(
            oslo_messaging.Target(topic="t.info"), {}, {}, version=2.0, retry=retry
        )


def test_a_broker_that_has_no_room_for_the_whole_time_says_so() -> None:
    class Full(Peer):
        product = "broker"
        credit = 0

    with Fake(Full) as fake, Rpc(fake.url) as rpc:
        transport = rpc.transport(restart_timeout=0, default_notify_timeout=5)
        with Stopwatch() as watch, pytest.raises(MessageDeliveryFailure) as caught:
            transport._driver.send_notification(
                oslo_messaging.Target(topic="t.info"), {}, {}, version=2.0
            )
    assert not isinstance(caught.value, errors.TargetUnreachable)
    assert "no server had room for it" in str(caught.value)
    assert watch.seconds >= 5


# -- what is given up is not executed ----------------------------------------


class Keeping(RouterPeer):
    """Keeps what it gets, and hears what is withdrawn."""

    kept: list[Delivery | None]
    withdrawn: list[Delivery]

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        if delivery is not None:
            delivery.context = self
        self.kept.append(delivery)

    def on_withdrawn(self, delivery: Delivery) -> None:
        self.withdrawn.append(delivery)


def keeping() -> type[Keeping]:
    return type("Kept", (Keeping,), {"kept": [], "withdrawn": []})


def test_a_cast_that_fails_is_withdrawn() -> None:
    kind = keeping()
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        client = rpc.client(rpc.transport(default_send_timeout=5))
        with pytest.raises(MessageDeliveryFailure, match="it was withdrawn"):
            client.cast({}, "echo", value=1)
        until(lambda: kind.withdrawn == kind.kept, "the router hears of it")


def test_a_bus_that_hangs_is_not_taken_for_one_where_nobody_listens() -> None:
    """Its credit was used up by what was withdrawn."""
    kind = keeping()
    kind.credit = 2
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        client = rpc.client(rpc.transport(default_send_timeout=5, restart_timeout=0))
        with ThreadPoolExecutor(2) as pool:
            casts = [pool.submit(client.cast, {}, "echo", value=n) for n in range(2)]
            for cast in casts:
                assert isinstance(cast.exception(60), errors.CastUnconfirmed)
        with pytest.raises(errors.ServersBusy):
            client.cast({}, "echo", value=2)
    assert len(kind.kept) == 2


def test_a_call_that_fails_is_withdrawn() -> None:
    kind = keeping()
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        with pytest.raises(MessagingTimeout, match="no reply"):
            rpc.client(timeout=5).call({}, "name")
        until(lambda: kind.withdrawn == kind.kept, "the router hears of it")


def test_a_fanout_waits_for_no_listener_behind_a_router() -> None:
    kind = keeping()
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        for number in range(3):
            rpc.client(fanout=True).cast({}, "echo", value=number)
        until(lambda: kind.kept == [None] * 3, "all have arrived, settled")


def test_a_fanout_reaches_who_comes_in_this_moment() -> None:
    """The news of a listener may be on its way; the sender does not wait for it."""

    class Deserted(Obedient):
        product = RouterPeer.product
        credit = 0

        def on_link_open(self, link: Link) -> None:
            super().on_link_open(link)
            if isinstance(link, Receiver):
                deserted.append((self, link))

    deserted: list[tuple[Deserted, Receiver]] = []
    with Fake(Deserted) as fake, Rpc(fake.url) as rpc:
        client = rpc.client(fanout=True)
        client.cast({}, "echo", value="to nobody")
        peer, link = deserted[0]
        deadline = time.monotonic() + 60
        while not any(b"in time" in data for data in peer.messages):
            assert time.monotonic() < deadline
            client.cast({}, "echo", value="in time")
            peer.asked.put(lambda: link.grant(1))


def test_a_fanout_without_retries_is_not_kept(rpc: Rpc) -> None:
    """Whoever sends it may send it elsewhere."""
    rpc.client(fanout=True, retry=0).cast({}, "echo", value="connects")
    rpc.client(fanout=True, retry=0).cast({}, "echo", value="is dropped")
    assert not rpc.default._driver._bus("sending").outbox.has_queued()


def test_fanouts_to_nobody_are_not_kept_for_long(rpc: Rpc) -> None:
    client = rpc.client(fanout=True)
    for number in range(20):
        client.cast({}, "echo", value=number)
    sending = rpc.default._driver._bus("sending")
    until(lambda: not sending.outbox.has_queued(), "they are dropped")


# -- messages and names that cannot be sent ----------------------------------


@pytest.fixture
def calling(rpc: Rpc) -> Iterator[Any]:
    """A client with a call under way, which nothing may disturb."""
    service = Service()
    rpc.server(service)
    client = rpc.client(timeout=60)
    results: list[Any] = []

    def call() -> None:
        results.append(client.call({}, "wait", value="undisturbed"))

    thread = threading.Thread(target=call)
    thread.start()
    until(lambda: service.seen, "the call is at work")
    yield client
    service.gate.set()
    thread.join(60)
    assert results == ["undisturbed"]


@pytest.mark.parametrize("size", [300, 20_000, 70_000])
@pytest.mark.parametrize("part", ["server", "topic", "exchange"])
def test_names_that_are_too_long_harm_nobody(
    rpc: Rpc, calling: Any, part: str, size: int
) -> None:
    target = {"topic": rpc.topic, part: "n" * size}
    client = rpc.client(**target)
    for method in ("call", "cast"):
        with Stopwatch() as watch, pytest.raises(errors.MessageRefused) as caught:
            getattr(client, method)({}, "name")
        assert watch.seconds < AT_ONCE
        assert f"{part} 'nnn" in str(caught.value)
        assert f"{size} bytes, the limit is 255" in str(caught.value)
        assert len(str(caught.value)) < 300
    if part != "exchange":
        server = {"server": "one", **target}
        with pytest.raises(ValueError, match="the limit is 255"):
            oslo_messaging.get_rpc_server(
                rpc.default, oslo_messaging.Target(**server), [Service()]
            ).start()


def test_names_that_are_no_text_are_refused(rpc: Rpc, calling: Any) -> None:
    for name, objection in (("a\ud800", "cannot be encoded"), (7, "is not a string")):
        with pytest.raises(errors.MessageRefused, match=f"topic {objection}"):
            rpc.client(topic=name).call({}, "name")


def test_a_name_may_have_as_many_bytes_as_on_rabbitmq(rpc: Rpc) -> None:
    name = "ä" * 127 + "a"
    rpc.server(name=name)
    assert rpc.client(server=name).call({}, "name") == name


def test_a_message_that_is_larger_than_any_may_be(
    rpc: Rpc, calling: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_MESSAGE", 100_000)
    for method in ("call", "cast"):
        with pytest.raises(errors.MessageRefused, match=r"the limit is 100000"):
            getattr(calling, method)({}, "size", value="x" * 100_000)
    assert calling.call({}, "size", value="x" * 90_000) == 90_000


def test_a_message_that_its_peer_does_not_take() -> None:
    class Small(RouterPeer):
        def confirm(self, link: Link) -> None:
            link.pn.max_message_size = 1000
            super().confirm(link)

    with Fake(Small) as fake, Rpc(fake.url) as rpc:
        client = rpc.client()
        with pytest.raises(
            errors.MessageRefused, match=r"bytes, and the limit is 1000"
        ):
            client.cast({}, "echo", value="x" * 1000)
        client.cast({}, "echo", value="small")
        assert fake.connections == 1


def test_a_message_that_cannot_be_encoded_fails_alone(
    rpc: Rpc, calling: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is: in the thread that reads, it would end the connection."""
    real = outbox.Outgoing.encode

    def encode(self: Any, *arguments: Any) -> bytes:
        if "unlucky" in self.message.body:
            raise OverflowError("no number is that large")
        return real(self, *arguments)

    monkeypatch.setattr(outbox.Outgoing, "encode", encode)
    # the link is not up yet: it is encoded by whoever reads
    with pytest.raises(errors.MessageRefused, match="no number is that large"):
        rpc.client(server="one").cast({}, "echo", value="unlucky")
    assert calling.call({}, "echo", value=1) == 1


# -- times -------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan])
def test_times_that_are_none_are_refused(
    rpc: Rpc, calling: Any, timeout: float
) -> None:
    with pytest.raises(errors.MessageRefused, match="timeout is"):
        calling.prepare(timeout=timeout).call({}, "name")
    with pytest.raises(errors.MessageRefused, match="call_monitor_timeout is"):
        calling.prepare(call_monitor_timeout=timeout).call({}, "name")


@pytest.mark.parametrize("timeout", [math.inf, 1e300, 3_000_000])
def test_times_without_end_work(rpc: Rpc, calling: Any, timeout: float) -> None:
    for _ in range(8):  # a lone caller reads for itself
        client = calling.prepare(timeout=timeout, call_monitor_timeout=timeout)
        assert client.call({}, "name") == "one"


def test_no_time_at_all_means_at_once(rpc: Rpc) -> None:
    service = Service()
    rpc.server(service)
    client = rpc.client()
    assert client.call({}, "name") == "one"
    with Stopwatch() as watch, pytest.raises(MessagingTimeout):
        client.prepare(timeout=0).call({}, "wait")
    assert watch.seconds < AT_ONCE
    service.gate.set()
    assert client.prepare(call_monitor_timeout=0).call({}, "name") == "one"


# -- the bus -----------------------------------------------------------------


def test_a_router_that_ends_in_order_is_no_lost_server() -> None:
    class Ending(RouterPeer):
        def on_message(
            self, receiver: Receiver, delivery: Delivery | None, data: bytes
        ) -> None:
            reason = proton.Condition("amqp:connection:forced", "shutting down")
            self.endpoint.close(reason)

    with Fake(Ending) as fake, Rpc(fake.url) as rpc:
        with pytest.raises(errors.BusLost, match=r"\(shutting down\)") as caught:
            rpc.client().call({}, "name")
        assert f"the router at amqp://127.0.0.1:{fake.port}" in str(caught.value)


def test_whoever_waits_is_served_soon_after_an_outage(
    own_bus: Router, own_rpc: Rpc
) -> None:
    """However long the pauses have become."""
    service = Service()
    own_rpc.server(service)
    client = own_rpc.client(
        own_rpc.transport(
            connection_retry_backoff=1_000_000,
            connection_retry_interval_max=1_000_000,
        ),
        timeout=60,
    )
    assert client.call({}, "name") == "one"
    own_bus.stop()
    sending = client.transport._driver._bus("sending")
    until(lambda: not sending.outbox.connected, "the loss is known")
    time.sleep(3)  # two attempts and a pause: the next one is eleven days away
    own_bus.start()
    assert client.call({}, "name") == "one"


def test_one_line_for_an_outage_and_one_for_its_end(
    own_bus: Router, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hybrid_messaging.drivers")
    with Rpc(own_bus.url()) as rpc:
        rpc.server()
        client = rpc.client(timeout=60)
        assert client.call({}, "name") == "one"
        assert logs.flush(60)
        caplog.clear()
        own_bus.kill()
        time.sleep(3)
        own_bus.start()
        assert client.call({}, "name") == "one"
        assert logs.flush(60)
        for side in ("sending", "listening"):
            lines = [
                f"{record.levelname} {record.getMessage()}"
                for record in caplog.records
                if f"({side})" in record.getMessage()
                and str(own_bus.port) in record.getMessage()
            ]
            amqp, router = f"amqp:// ({side})", f"amqp://127.0.0.1:{own_bus.port}"
            shown = [
                f"WARNING {amqp}: the router at {router} closed the connection",
                f"INFO {amqp}: connected to {router}",
            ]
            assert len(lines) == len(shown), lines
            for line, beginning in zip(lines, shown, strict=True):
                assert line.startswith(beginning)
        assert "framing-error" not in caplog.text


# -- forks that Python is not told of ----------------------------------------


def test_a_child_that_was_forked_in_c_disturbs_nobody(rpc: Rpc) -> None:
    """As uWSGI forks."""
    rpc.server()
    client = rpc.client(timeout=30)
    assert client.call({}, "echo", value="before") == "before"
    reading, writing = os.pipe()
    child = c_fork.fork()
    if child == 0:
        code = 1
        try:
            said = [client.call({}, "echo", value=n) for n in range(3)]
            client.cast({}, "echo", value="cast")
            os.write(writing, repr(said).encode())
            code = 0
        finally:
            os._exit(code)
    for number in range(5):
        assert client.call({}, "echo", value=number) == number
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert os.read(reading, 100) == b"[0, 1, 2]"
    assert client.call({}, "echo", value="after") == "after"
    for descriptor in (reading, writing):
        os.close(descriptor)
