# SPDX-License-Identifier: Apache-2.0
"""What slow, stuck, silent and many peers do to a router, and what they don't."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest
from tests.functional.conftest import MakeRouter
from tests.functional.peer import Peer
from tests.functional.routers import Router, Settings
from tests.functional.waiting import until

from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    RECEIVER_LOST,
    RELEASED,
    Sender,
)

ANYCAST = "openstack.org/om/rpc/anycast/openstack/limits"
MULTICAST = "openstack.org/om/rpc/multicast/openstack/limits"

MEGABYTE = 1024 * 1024
#: Seconds without progress that count as being held back.
HELD_BACK = 1.0
#: What a router may grow by for one stuck peer, in bytes.
GROWTH = 100 * MEGABYTE


@pytest.fixture
def peer(own_bus: Router) -> Iterator[Peer]:
    with Peer(own_bus.port) as made:
        yield made


@pytest.fixture
def other(own_bus: Router) -> Iterator[Peer]:
    with Peer(own_bus.port) as made:
        yield made


def _send_until_held_back(
    peer: Peer, sender: Sender, data: bytes, limit: int, settled: bool
) -> int:
    """Send up to `limit` messages, and tell how many the router has taken."""
    sent, progress = 0, time.monotonic()
    while sent < limit and time.monotonic() < progress + HELD_BACK:
        if sender.credit and peer.endpoint.buffered < MEGABYTE:
            sender.send(data, settled)
            sent += 1
            progress = time.monotonic()
            peer.step(0)
        else:
            peer.step(0.05)
    return sent


# -- slow and stuck receivers ------------------------------------------------


def test_a_receiver_without_credit_holds_its_sender_back(
    peer: Peer, other: Peer
) -> None:
    receiver = other.receiver(ANYCAST, credit=5)
    sender = peer.sender(ANYCAST)
    sent = _send_until_held_back(peer, sender, codec.encode("x"), 2000, False)
    assert sent == 250
    for _ in range(5):
        other.accept(receiver)
    more = _send_until_held_back(peer, sender, codec.encode("x"), 2000, False)
    assert more <= 5
    other.grant(receiver, sent + more)
    for _ in range(sent + more - 5):
        other.accept(receiver)
    peer.until(lambda: len(peer.outcomes) == sent + more, "all outcomes")
    assert set(peer.outcomes.values()) == {ACCEPTED}


@pytest.mark.embedded
def test_presettled_messages_wait_for_a_busy_receiver_too(
    peer: Peer, other: Peer
) -> None:
    receiver = other.receiver(ANYCAST, credit=5)
    sender = peer.sender(ANYCAST)
    sent = _send_until_held_back(peer, sender, codec.encode("x"), 2000, True)
    assert sent <= 5 + 250
    other.grant(receiver, sent)
    for _ in range(sent):
        other.take(receiver)
    peer.until(lambda: sender.credit > 0, "credit for what has been taken")


@pytest.mark.embedded
@pytest.mark.parametrize("relayed", [True, False])
def test_what_waits_on_many_links_is_bounded_together(
    own_bus: Router, peer: Peer, other: Peer, relayed: bool
) -> None:
    receiver = other.receiver(None if relayed else ANYCAST)
    address = receiver.pn.remote_source.address
    before = own_bus.resident()
    data = codec.encode("x" * 3_000_000, to=address)
    for _ in range(30):
        peer.sender(None if relayed else address).send(data)
    progress, left = time.monotonic(), 0
    while time.monotonic() < progress + HELD_BACK:
        peer.step(0.05)
        if peer.endpoint.buffered != left:
            progress, left = time.monotonic(), peer.endpoint.buffered
    assert left > 30 * MEGABYTE
    assert own_bus.resident() - before < 50 * MEGABYTE
    other.grant(receiver, 30)
    while len(other.messages[receiver]) < 30:
        peer.step(0)
        other.step(0.01)
    peer.round_trip()


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("address", [ANYCAST, MULTICAST])
def test_a_receiver_that_does_not_read_grows_nobody(
    own_bus: Router, peer: Peer, other: Peer, address: str, settled: bool
) -> None:
    other.receiver(address, credit=100_000)
    sender = peer.sender(address)
    before = own_bus.resident()
    data = codec.encode("x" * 100_000)
    sent = _send_until_held_back(peer, sender, data, 4000, settled)
    assert sent > 50  # the sockets' buffers
    assert own_bus.resident() - before < GROWTH


def test_a_slow_receiver_of_a_multicast_loses_nothing(
    peer: Peer, other: Peer, own_bus: Router
) -> None:
    with Peer(own_bus.port) as slow:
        receivers = [other.receiver(MULTICAST, credit=5000), slow.receiver(MULTICAST)]
        sender = peer.sender(MULTICAST)
        sent = _send_until_held_back(peer, sender, codec.encode("x"), 5000, False)
        assert sent <= 2 * 250
        slow.grant(receivers[1], 5000)
        for _ in range(sent):
            other.accept(receivers[0])
            slow.accept(receivers[1])
        peer.until(lambda: len(peer.outcomes) == sent, "all outcomes")
        assert set(peer.outcomes.values()) == {ACCEPTED}


def test_a_stuck_receiver_keeps_no_presettled_multicast_from_the_others(
    peer: Peer, other: Peer, own_bus: Router
) -> None:
    with Peer(own_bus.port) as stuck:
        stuck.receiver(MULTICAST, credit=1)
        receiver = other.receiver(MULTICAST, credit=5000)
        sender = peer.sender(MULTICAST)
        for number in range(1500):
            peer.until(lambda: sender.credit > 0, "credit")
            peer.send(sender, str(number), settled=True)
            other.step(0)
        peer.round_trip()
        assert [other.accept(receiver) for _ in range(1500)] == [
            str(number) for number in range(1500)
        ]


@pytest.mark.embedded
def test_a_stuck_caller_keeps_no_replies_from_the_others(
    peer: Peer, other: Peer, own_bus: Router
) -> None:
    relay = other.sender(None)
    with Peer(own_bus.port) as stuck:
        address = stuck.receiver(None, credit=1).pn.remote_source.address
        replies = peer.receiver(None, credit=10)
        reached = replies.pn.remote_source.address
        for _ in range(600):
            if not relay.credit:
                break
            other.send(relay, "to the stuck one", to=address, settled=True)
        other.until(lambda: relay.credit > 0, "the relay goes on")
        delivery = other.send(relay, "to the other one", to=reached)
        assert peer.accept(replies) == "to the other one"
        assert other.outcome(delivery) == ACCEPTED


@pytest.mark.embedded
def test_a_relay_does_not_wait_for_ever_for_a_busy_receiver(
    peer: Peer, other: Peer
) -> None:
    other.receiver(ANYCAST)
    relay = peer.sender(None)
    delivery = peer.send(relay, "busy", to=ANYCAST)
    assert peer.outcome(delivery) == RELEASED


@pytest.mark.embedded
def test_replies_that_wait_are_released_when_their_caller_goes(
    peer: Peer, other: Peer
) -> None:
    receiver = other.receiver(None, credit=1)
    data = codec.encode("x", to=receiver.pn.remote_source.address)
    for relay in (peer.sender(None), peer.sender(None)):
        while relay.credit:  # the first link fills the queue, the second waits
            relay.send(data)
            peer.step(0)
    peer.round_trip()
    assert not peer.outcomes
    other.take(receiver)
    other.vanish()
    peer.until(lambda: len(peer.outcomes) == 500, "all outcomes")
    outcomes = list(peer.outcomes.values())
    assert (outcomes.count(RECEIVER_LOST), outcomes.count(RELEASED)) == (1, 499)


def test_the_relay_waits_for_a_receiver_that_is_slow(peer: Peer, other: Peer) -> None:
    receiver = other.receiver(None, credit=1)
    relay = peer.sender(None)
    data = codec.encode("x", to=receiver.pn.remote_source.address)
    sent = _send_until_held_back(peer, relay, data, 250, False)
    peer.round_trip()
    other.grant(receiver, sent)
    for _ in range(sent):
        other.accept(receiver)
    peer.until(lambda: len(peer.outcomes) == sent, "all outcomes")
    assert set(peer.outcomes.values()) == {ACCEPTED}


# -- many peers --------------------------------------------------------------


@pytest.fixture
def descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("the hard limit of open files is below 4096")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def test_hundreds_of_connections_are_served(
    make_router: MakeRouter, descriptors: None
) -> None:
    count = 1100  # more than select() can tell apart
    bus = make_router(Settings(idle_timeout=120))
    before = bus.resident()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Peer(bus.port))
        requests = server.receiver(ANYCAST, credit=count)
        relay = server.sender(None)
        clients = [stack.enter_context(Peer(bus.port)) for _ in range(count)]
        inboxes = [client.receiver(None, credit=1) for client in clients]
        for client, inbox in zip(clients, inboxes, strict=True):
            client.send(client.sender(ANYCAST), inbox.pn.remote_source.address)
        for _ in range(count):
            address = server.accept(requests)
            server.until(lambda: relay.credit > 0, "credit")
            server.send(relay, "reply", to=address, settled=True)
        server.round_trip()
        for client, inbox in zip(clients, inboxes, strict=True):
            assert client.accept(inbox) == "reply"
        assert bus.resident() - before < count * MEGABYTE / 2
    until(lambda: bus.connections() == 0, "the router has let go of all")


@pytest.mark.embedded
def test_memory_of_many_connections_is_given_back(
    make_router: MakeRouter, descriptors: None
) -> None:
    bus = make_router(Settings(idle_timeout=120, patch="memory.PAUSE = 1.0"))
    before = bus.resident()
    with contextlib.ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(Peer(bus.port)).receiver(None)
        peak = bus.resident()
        assert peak - before > 30 * MEGABYTE
    until(
        lambda: bus.resident() - before < (peak - before) / 2,
        "the memory is given back",
        150,
    )


def test_what_comes_and_goes_leaves_nothing_behind(own_bus: Router) -> None:
    def churn(times: int) -> None:
        for number in range(times):
            with Peer(own_bus.port) as client:
                address = f"{ANYCAST}.{os.getpid()}.{number}"
                receiver = client.receiver(address, credit=1)
                client.receiver(None, credit=1)
                client.send(client.sender(address), "to myself")
                client.take(receiver)

    def links() -> int:
        with own_bus.management() as management:
            return int(management.metrics()["linkCount"])

    def grown() -> int:
        before = own_bus.resident()
        churn(100)
        until(lambda: own_bus.connections() == 0, "the connections are gone")
        return own_bus.resident() - before

    churn(50)
    # what is left for ever makes it grow each time
    assert any(grown() < MEGABYTE for _ in range(5))
    assert links() == 2  # of the question itself
    assert not own_bus.addresses(ANYCAST)


CROWD = """
import socket, sys
while True:
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
    except OSError:
        pass
"""


def test_who_connects_without_end_holds_up_nobody(own_bus: Router, peer: Peer) -> None:
    """Not even where there are descriptors for all of them."""
    process = psutil.Process(own_bus.pid)
    _, hard = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (hard, hard))
    command = [sys.executable, "-c", CROWD, str(own_bus.port)]
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            crowd = stack.enter_context(subprocess.Popen(command))
            stack.callback(crowd.kill)
        start = time.monotonic()
        while time.monotonic() < start + 3:
            peer.round_trip()
        most = process.num_fds()
        assert crowd.poll() is None, "it goes on"
    # those who have gone are let go
    assert most < 2000


def test_links_that_come_and_go_leave_nothing_behind(
    own_bus: Router, peer: Peer
) -> None:
    def churn(times: int) -> None:
        for number in range(times):
            address = f"{ANYCAST}.{number}"
            receiver = peer.receiver(address, credit=1)
            sender = peer.sender(address)
            peer.send(sender, "to myself")
            peer.accept(receiver)
            peer.detach(sender)
            peer.detach(receiver)
            sender.close()
            receiver.close()

    churn(50)
    before = own_bus.resident()
    churn(200)
    assert not own_bus.addresses(ANYCAST)
    assert own_bus.resident() - before < 5 * MEGABYTE


@pytest.mark.embedded
def test_a_router_without_descriptors_waits_for_some(
    own_bus: Router, peer: Peer
) -> None:
    process = psutil.Process(own_bus.pid)
    limit = process.num_fds() + 3
    _, hard = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (limit, hard))
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            raw = socket.create_connection(("127.0.0.1", own_bus.port))
            stack.enter_context(raw)
        until(lambda: "cannot accept" in own_bus.log(), "the router is out of them")
        used = sum(process.cpu_times()[:2])
        peer.receiver(ANYCAST)  # who is in is served
        until(lambda: own_bus.log().count("cannot accept") >= 3, "it tries again")
        assert sum(process.cpu_times()[:2]) - used < 0.5
        process.rlimit(psutil.RLIMIT_NOFILE, (hard, hard))
    with Peer(own_bus.port) as late:
        late.round_trip()


# -- silence and the end -----------------------------------------------------


def test_silent_peers_are_taken_for_gone(make_router: MakeRouter) -> None:
    router = make_router(Settings(idle_timeout=4))
    with Peer(router.port) as peer, Peer(router.port) as silent:
        receiver = silent.receiver(ANYCAST, credit=1)
        assert receiver.credit == 1
        delivery = peer.send(peer.sender(ANYCAST), "are you there")
        outcome = peer.outcome(delivery, timeout=60)  # keeps its own ticks
        assert outcome.receiver_lost
        silent.until(lambda: silent.ended is not None, "the router has hung up")


def test_peers_are_told_that_the_router_lives(own_bus: Router) -> None:
    with Peer(own_bus.port, idle_timeout=4) as peer:
        with pytest.raises(AssertionError):
            peer.until(lambda: peer.ended is not None, "it ends", timeout=9)
        peer.round_trip()


def test_a_terminated_router_says_good_bye(own_bus: Router, router_kind: str) -> None:
    process = psutil.Process(own_bus.pid)
    with Peer(own_bus.port) as peer, Peer(own_bus.port):
        peer.receiver(ANYCAST, credit=1)
        process.send_signal(signal.SIGTERM)
        peer.until(lambda: peer.ended is not None, "the connection ends")
        if router_kind == "embedded":
            assert (peer.ended or "").startswith("amqp:connection:forced")
    own_bus.stop()
    assert "Traceback" not in own_bus.log()


def test_a_stuck_peer_does_not_keep_a_router_from_ending(
    own_bus: Router, peer: Peer
) -> None:
    with Peer(own_bus.port) as stuck:
        stuck.receiver(ANYCAST, credit=100_000)
        sender = peer.sender(ANYCAST)
        _send_until_held_back(peer, sender, codec.encode("x" * 100_000), 500, True)
        own_bus.stop()


@pytest.mark.embedded
def test_a_stuck_peer_that_hangs_up_is_gone(own_bus: Router, peer: Peer) -> None:
    with Peer(own_bus.port) as stuck:
        stuck.receiver(ANYCAST, credit=100_000)
        sender = peer.sender(ANYCAST)
        _send_until_held_back(peer, sender, codec.encode("x" * 100_000), 500, True)
        stuck.socket.shutdown(socket.SHUT_WR)
        until(lambda: own_bus.connections() == 1, "it is gone", timeout=12)


@pytest.mark.embedded
def test_a_hang_up_changes_nothing(own_bus: Router, peer: Peer) -> None:
    os.kill(own_bus.pid, signal.SIGHUP)
    peer.round_trip()
    assert own_bus.running
