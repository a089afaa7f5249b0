# SPDX-License-Identifier: Apache-2.0
"""What a router says about an address that nobody listens on any more."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import cproton
import proton
import pytest

from hybrid_messaging.drivers.amqp.outbox import Outbox
from hybrid_messaging.drivers.amqp.route import Route
from hybrid_messaging.protocol import desertion
from hybrid_messaging.protocol.endpoint import (
    Delivery,
    Endpoint,
    Handler,
    Link,
    Outcome,
    Receiver,
    Sender,
)


class _Side(Handler):
    """One end; attaches links with the properties that a test wants."""

    def __init__(self, server: bool = False, properties: Any = None) -> None:
        self.properties = properties
        self.links: list[Link] = []
        self.endpoint = Endpoint(self, "unit", server=server)

    def on_open(self, endpoint: Endpoint) -> None:
        endpoint.open()

    def on_close(self, endpoint: Endpoint, condition: str) -> None:
        pytest.fail(condition)

    def on_link_open(self, link: Link) -> None:
        self.links.append(link)
        if not link.local:
            if isinstance(self.properties, proton.Data):
                written = proton.Data(cproton.pn_link_properties(link.pn._impl))
                written.copy(self.properties)
            else:
                link.pn.properties = self.properties
            link.pn.open()

    def on_link_close(self, link: Link, condition: str) -> None:
        pytest.fail(condition)

    def on_flow(self, link: Link) -> None:
        pass

    def on_message(
        self, receiver: Receiver, delivery: Delivery | None, data: bytes
    ) -> None:
        pytest.fail("no message is sent")

    def on_outcome(self, sender: Sender, delivery: Delivery, outcome: Outcome) -> None:
        pytest.fail("no message is sent")

    def on_withdrawn(self, delivery: Delivery) -> None:
        pytest.fail("no message is sent")


def _received(properties: Any) -> dict[str, Any]:
    """The properties of an attach at its other end."""
    client, server = _Side(), _Side(server=True, properties=properties)
    client.endpoint.open()
    client.endpoint.sender("address")
    moved = True
    while moved:
        moved = False
        for source, target in ((client, server), (server, client)):
            if view := source.endpoint.output():
                target.endpoint.receive(bytes(view))
                source.endpoint.written(len(view))
                moved = True
    return client.links[0].remote_properties


@pytest.mark.parametrize("seconds", [0.0, 0.25, 3600.0, 1e10])
def test_what_a_router_says_arrives(seconds: float) -> None:
    assert desertion.decode(_received(desertion.encode(seconds))) == seconds


def test_most_links_have_no_properties() -> None:
    assert _received(None) == {}
    assert desertion.decode({}) is None


@pytest.mark.parametrize(
    "value",
    [
        -1,
        True,
        1.5,
        "1000",
        b"1000",
        proton.ulong(1 << 63),
        proton.ulong((1 << 64) - 1),
        proton.Array(proton.UNDESCRIBED, proton.Data.ULONG, proton.ulong(1000)),
        [proton.ulong(1000)],
        {"x": proton.ulong(1000)},
        proton.Described(proton.symbol("a"), proton.ulong(1000)),
    ],
)
def test_odd_values_say_nothing(value: Any) -> None:
    properties = _received({proton.symbol(desertion.PROPERTY): value})
    assert list(properties) == [desertion.PROPERTY]
    assert desertion.decode(properties) is None


def test_properties_that_cannot_be_read_are_none() -> None:
    """A map may have keys that no dictionary has."""
    odd = proton.Data()
    odd.put_map()
    odd.enter()
    odd.put_list()
    odd.put_int(1)
    odd.exit()
    assert _received(odd) == {}


@pytest.mark.parametrize(("routing", "counts"), [(True, True), (False, False)])
def test_only_routers_are_believed(routing: bool, counts: bool) -> None:
    outbox = Outbox("bus", SimpleNamespace(restart_timeout=30), None)  # type: ignore[arg-type]
    outbox._line = SimpleNamespace(routing=routing)  # type: ignore[assignment]
    route = Route(outbox, "key", "target")
    said = {desertion.PROPERTY: proton.ulong(3_600_000)}
    route.link = SimpleNamespace(remote_properties=said)  # type: ignore[assignment]
    outbox.on_attach(route)
    now = time.monotonic()
    until = outbox._patience.until("target", now, now, is_call=False)
    assert (until < now) == counts
    assert (route.known > 0) == counts
