# SPDX-License-Identifier: Apache-2.0
"""Whether a process that asks for the first time waits: the embedded router knows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import proton
import pytest
from tests.functional.fakes import Fake
from tests.functional.fakes import Peer as FakePeer
from tests.functional.peer import Peer
from tests.functional.routers import HOST
from tests.functional.rpc import Rpc
from tests.functional.waiting import Stopwatch, until

from hybrid_messaging.drivers import errors
from hybrid_messaging.protocol import desertion
from hybrid_messaging.protocol.endpoint import Link
from hybrid_messaging.router.addresses import Address
from hybrid_messaging.router.config import (
    OPENSTACK_ADDRESSES,
    Listener,
    RouterConfig,
)
from hybrid_messaging.router.server import Router

#: Seconds that nobody is waited for in vain within: those who do wait take longer.
SOON = 40.0
#: Seconds that servers have for a restart; their callers have longer.
RESTART, FAR = 60, 120


class Local:
    """An embedded router in this process, which a test may tell that time passes."""

    def __init__(self) -> None:
        config = RouterConfig(
            listeners=(Listener(port=0),), addresses=OPENSTACK_ADDRESSES
        )
        self.router = Router(config)
        self.port = int(self.router.listeners[0].socket.getsockname()[1])
        self.url = f"amqp://{HOST}:{self.port}/"

    @property
    def _departed(self) -> dict[str, float]:
        return self.router.table._departures._moments

    def _addresses(self, topic: str) -> list[Address]:
        found = list(self.router.table._addresses.values())
        return [address for address in found if topic in address.name]

    def served(self, topic: str) -> bool:
        """Somebody listens on all three addresses of a server of a topic."""
        return sum(bool(each.consumers) for each in self._addresses(topic)) == 3

    def left(self, topic: str) -> bool:
        """All of these are deserted."""
        return sum(topic in name for name in list(self._departed)) == 3

    def asked(self, topic: str) -> bool:
        """Somebody has a link to an address of a topic."""
        return any(each.producers for each in self._addresses(topic))

    def age(self, seconds: float) -> None:
        """Have those who have left done so earlier."""
        for name in list(self._departed):
            self._departed[name] -= seconds


@pytest.fixture
def local() -> Iterator[Local]:
    made = Local()
    thread = threading.Thread(target=made.router.run)
    thread.start()
    yield made
    made.router.stop()
    thread.join(20)


@pytest.fixture
def talk(local: Local) -> Iterator[Rpc]:
    with Rpc(local.url) as made:
        yield made


def leave(talk: Rpc, local: Local) -> None:
    """Have a server listen on the topic, and go."""
    transport = talk.transport()
    talk.server(transport=transport)
    until(lambda: local.served(talk.topic), "the router sees that it has come")
    transport.cleanup()
    until(lambda: local.left(talk.topic), "the router sees that it has gone")


def fresh(talk: Rpc, **target: Any) -> Any:
    """The client of a process that has never asked."""
    return talk.client(
        talk.transport(restart_timeout=RESTART, default_send_timeout=FAR),
        timeout=FAR,
        **target,
    )


def seconds_to_fail(client: Any, method: str = "call") -> float:
    with Stopwatch() as watch, pytest.raises(errors.TargetUnreachable):
        getattr(client, method)({}, "name")
    return watch.seconds


@pytest.mark.parametrize("target", [{}, {"server": "one"}])
@pytest.mark.parametrize("method", ["call", "cast"])
def test_a_server_that_left_long_ago_is_not_waited_for(
    talk: Rpc, local: Local, method: str, target: dict[str, str]
) -> None:
    leave(talk, local)
    local.age(3600)
    assert seconds_to_fail(fresh(talk, **target), method) < SOON


def test_a_server_that_left_a_while_ago_is_waited_for_the_rest_of_the_time(
    talk: Rpc, local: Local
) -> None:
    leave(talk, local)
    local.age(RESTART - 5)
    assert seconds_to_fail(fresh(talk)) < SOON


def test_a_server_that_has_just_left_is_waited_for(talk: Rpc, local: Local) -> None:
    leave(talk, local)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(fresh(talk).call, {}, "name")
        until(lambda: local.asked(talk.topic), "it asks")
        with pytest.raises(futures.TimeoutError):
            call.result(2)
        talk.server(name="two")
        assert call.result(FAR) == "two"


def test_an_address_that_nobody_has_listened_on_is_waited_for(talk: Rpc) -> None:
    """Else a cloud would not start."""
    with ThreadPoolExecutor() as pool:
        call = pool.submit(fresh(talk).call, {}, "name")
        with pytest.raises(futures.TimeoutError):
            call.result(2)
        talk.server()
        assert call.result(FAR) == "one"


def test_a_server_that_was_gone_and_comes_is_found(talk: Rpc, local: Local) -> None:
    leave(talk, local)
    local.age(3600)
    client = fresh(talk)
    seconds_to_fail(client)
    talk.server(name="two")
    with ThreadPoolExecutor(1) as pool:  # the news may be slower than a call
        call = lambda: pool.submit(client.call, {}, "name").exception(FAR)  # noqa: E731
        until(lambda: call() is None, "it is found")
    assert fresh(talk).call({}, "name") == "two"


def test_what_a_process_saw_before_a_server_came_and_left_does_not_count(
    talk: Rpc, local: Local
) -> None:
    leave(talk, local)
    local.age(3600)
    transport = talk.transport(restart_timeout=RESTART, default_sender_link_timeout=1)
    client = talk.client(transport, timeout=FAR)
    seconds_to_fail(client)
    until(lambda: not local.asked(talk.topic), "the idle link is given back")
    leave(talk, local)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(client.call, {}, "name")
        until(lambda: call.done() or local.asked(talk.topic), "it asks")
        with pytest.raises(futures.TimeoutError):
            call.result(2)
        talk.server(name="two")
        assert call.result(FAR) == "two"


# -- on the wire ---------------------------------------------------------------------


def said(link: Link) -> Any:
    return link.remote_properties.get(desertion.PROPERTY)


def test_the_router_says_it_of_addresses_that_were_deserted(local: Local) -> None:
    with Peer(local.port) as peer, Peer(local.port) as other:
        assert said(peer.sender("a", credit=False)) is None
        receiver = other.receiver("a")
        assert said(peer.sender("a", credit=False)) is None
        other.detach(receiver)
        local.age(10)
        first = said(peer.sender("/a", credit=False))
        assert isinstance(first, proton.ulong)
        assert 10_000 <= first < 10_000 + FAR * 1000
        assert said(peer.sender(None)) is None
        other.receiver("a")
        assert said(peer.sender("a", credit=False)) is None


class Claims(FakePeer):
    """Says on every attach for how long nobody has listened, and grants no credit."""

    product = "hybrid-messaging-router"
    credit = 0
    value: Any = None

    def confirm(self, link: Link) -> None:
        link.pn.properties = {proton.symbol(desertion.PROPERTY): self.value}
        super().confirm(link)


def claiming(value: Any, **more: Any) -> Any:
    return type("Claiming", (Claims,), {"value": value, **more})


@pytest.mark.parametrize(
    "value",
    [
        -3_600_000,
        "3600000",
        proton.ulong(1 << 63),
        proton.Array(proton.UNDESCRIBED, proton.Data.ULONG, proton.ulong(3_600_000)),
    ],
    ids=["negative", "string", "too large", "array"],
)
def test_an_odd_claim_is_no_claim(value: Any) -> None:
    with Fake(claiming(value)) as fake, Rpc(fake.url) as rpc:
        client = rpc.client(rpc.transport(restart_timeout=3), timeout=FAR)
        assert 3 <= seconds_to_fail(client) < SOON


def test_a_claim_shortens_no_call_to_a_server_that_comes() -> None:
    """Credit counts for more than what was said when the link was attached."""
    kind = claiming(proton.ulong(3_600_000), credit=10)
    with Fake(kind) as fake, Rpc(fake.url) as rpc:
        fresh(rpc).cast({}, "name")
