# SPDX-License-Identifier: Apache-2.0
"""How the embedded router ends: calls in flight are answered, then it says good-bye."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import proton
import pytest
from tests.functional.peer import Peer
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import until

from hybrid_messaging.drivers import errors
from hybrid_messaging.protocol import draining
from hybrid_messaging.protocol.endpoint import ACCEPTED, Link
from hybrid_messaging.router import config, connection, server
from hybrid_messaging.router.server import Router

ANYCAST = "openstack.org/om/rpc/anycast/openstack/end"
MULTICAST = "openstack.org/om/rpc/multicast/openstack/end"
FORCED = "amqp:connection:forced"
FAR = 60.0


class Running:
    """A router in a thread."""

    def __init__(self) -> None:
        listener = config.Listener(port=0)
        self.router = Router(
            config.RouterConfig(
                listeners=(listener,), addresses=config.OPENSTACK_ADDRESSES
            )
        )
        self.port = int(self.router.listeners[0].socket.getsockname()[1])
        self._thread = threading.Thread(target=self.router.run)
        self._thread.start()

    def stop(self) -> None:
        """Tell it to stop."""
        self.router.stop()

    def wait(self) -> None:
        """See that it does."""
        self._thread.join(FAR)
        assert not self._thread.is_alive(), "the router does not end"


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.stop()
    made.wait()


@pytest.fixture
def peer(running: Running) -> Iterator[Peer]:
    with Peer(running.port) as made:
        yield made


@pytest.fixture
def other(running: Running) -> Iterator[Peer]:
    with Peer(running.port) as made:
        yield made


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment for answers is longer than any test."""
    monkeypatch.setattr(server, "ANSWER_TIME", 10 * FAR)
    monkeypatch.setattr(server, "MOVE_TIME", 10 * FAR)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is hardly any."""
    monkeypatch.setattr(server, "ANSWER_TIME", 0.1)


def _ended(peer: Peer) -> str:
    return peer.until(lambda: peer.ended, "the connection ends", FAR) or ""


def test_a_router_with_nothing_in_flight_ends_at_once(
    patient: None, running: Running, peer: Peer, other: Peer
) -> None:
    receiver = other.receiver(ANYCAST, credit=1)
    peer.send(peer.sender(ANYCAST), "done")
    other.accept(receiver)
    peer.until(lambda: peer.outcomes, "it is accepted", FAR)
    running.stop()
    assert _ended(peer).startswith(FORCED)
    assert _ended(other).startswith(FORCED)
    running.wait()


@pytest.mark.parametrize("settled", [True, False])
def test_calls_in_flight_are_answered(
    patient: None, running: Running, peer: Peer, other: Peer, settled: bool
) -> None:
    replies = peer.receiver(None, credit=1)
    receiver = other.receiver(ANYCAST, credit=1)
    relay = other.sender(None)
    call = peer.send(peer.sender(ANYCAST), "call")
    request, _ = other.take(receiver)
    running.stop()
    peer.until(lambda: running.router.closing, "it is told to stop", FAR)
    other.send(relay, "reply", to=replies.pn.remote_source.address, settled=settled)
    other.settle(request)
    assert peer.accept(replies) == "reply"
    assert peer.outcome(call, FAR) == ACCEPTED
    assert _ended(peer).startswith(FORCED)


def test_nothing_new_comes_in(
    patient: None, running: Running, peer: Peer, other: Peer
) -> None:
    receiver = other.receiver(ANYCAST, credit=5)
    sender = peer.sender(ANYCAST)
    peer.send(sender, "call")
    request, _ = other.take(receiver)
    running.stop()
    peer.until(lambda: sender.draining, "the credit is taken back", FAR)
    sender.drained()
    for link in (peer.endpoint.sender(ANYCAST), peer.endpoint.receiver(None)):
        peer.until(lambda: link in peer.detached, "a new link is refused", FAR)  # noqa: B023
        assert peer.detached[link].startswith(FORCED)
    with pytest.raises(OSError):
        Peer(running.port)
    other.settle(request)
    assert _ended(peer).startswith(FORCED)
    assert sender.credit <= 0 or sender.closed


@pytest.mark.parametrize("address", [ANYCAST, MULTICAST])
def test_who_waits_for_an_answer_sees_that_the_router_goes(
    impatient: None, running: Running, other: Peer, peer: Peer, address: str
) -> None:
    """And not that the receiver does, which lives, and whose connection is older."""
    receiver = other.receiver(address, credit=1)
    sender = peer.sender(address)
    sent = [peer.send(sender, body) for body in ("with a receiver", "held", "unread")]
    other.take(receiver)
    running.stop()
    assert _ended(peer).startswith(FORCED)
    assert _ended(other).startswith(FORCED)
    assert not [delivery for delivery in sent if delivery in peer.outcomes]
    running.wait()


def test_a_caller_that_takes_no_replies_delays_the_end_for_a_moment_only(
    impatient: None, running: Running, peer: Peer, other: Peer
) -> None:
    stuck = peer.receiver(None)
    relay = other.sender(None)
    to = stuck.pn.remote_source.address
    delivery = other.send(relay, "reply", to=to)
    other.round_trip()
    running.stop()
    assert _ended(other).startswith(FORCED)
    assert delivery not in other.outcomes
    running.wait()


# -- as services see it ----------------------------------------------------------


@pytest.fixture
def rpc(running: Running) -> Iterator[Rpc]:
    with Rpc(f"amqp://127.0.0.1:{running.port}/") as talk:
        yield talk


def test_a_call_in_flight_has_its_answer(
    patient: None, running: Running, rpc: Rpc
) -> None:
    service = Service()
    rpc.server(service)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(rpc.client(timeout=FAR).call, {}, "wait", value=5)
        until(lambda: service.seen, "the server works on it", FAR)
        running.stop()
        until(lambda: running.router.closing, "the router is told to stop", FAR)
        service.gate.set()
        assert call.result(FAR) == 5
    running.wait()


def test_a_call_that_is_not_answered_in_time_has_lost_its_bus_not_its_server(
    impatient: None, running: Running, rpc: Rpc
) -> None:
    service = Service()
    rpc.server(service)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(rpc.client(timeout=FAR).call, {}, "wait")
        until(lambda: service.seen, "the server works on it", FAR)
        running.stop()
        with pytest.raises(errors.BusLost, match="shutting down"):
            call.result(FAR)
        service.gate.set()
    running.wait()


# -- peers that can move to another router ---------------------------------------


@pytest.fixture
def mover(running: Running) -> Iterator[Peer]:
    """A peer that may know what the router's announcement means."""

    def say(transport: proton.Transport, connection: proton.Connection) -> None:
        connection.properties = {proton.symbol("product"): draining.PRODUCT}

    with Peer(running.port, setup=say) as made:
        yield made


def _announcement(peer: Peer) -> Link:
    peer.until(lambda: peer.invited, "the router announces its end", FAR)
    (link,) = peer.invited
    assert draining.announces(link)
    return link


def test_peers_that_move_are_served_as_ever_until_they_have(
    patient: None, running: Running, mover: Peer, other: Peer
) -> None:
    receiver = other.receiver(ANYCAST, credit=5)
    running.stop()
    link = _announcement(mover)
    with pytest.raises(OSError):
        Peer(running.port)
    link.pn.open()
    mover.round_trip()
    # links as well as messages
    sender = mover.sender(ANYCAST)
    delivery = mover.send(sender, "on")
    other.accept(receiver)
    assert mover.outcome(delivery, FAR) == ACCEPTED
    assert not other.invited, "who does not know it is not told"
    mover.close()
    assert _ended(other).startswith(FORCED)
    running.wait()


@pytest.mark.parametrize("answer", ["stays", "silent"])
def test_peers_that_do_not_move_are_not_waited_for(
    patient: None,
    running: Running,
    mover: Peer,
    answer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if answer == "silent":
        monkeypatch.setattr(connection, "ANNOUNCEMENT_TIMEOUT", 0.1)
    running.stop()
    link = _announcement(mover)
    if answer == "stays":
        link.close()
    assert _ended(mover).startswith(FORCED)
    running.wait()


def test_a_router_that_is_stopped_twice_waits_for_nobody(
    patient: None, running: Running, mover: Peer
) -> None:
    running.stop()
    _announcement(mover).pn.open()
    mover.round_trip()
    running.stop()
    assert _ended(mover).startswith(FORCED)
    running.wait()
