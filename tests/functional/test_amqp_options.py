# SPDX-License-Identifier: Apache-2.0
"""What single options of the `amqp` driver do on a real bus."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.functional.routers import Router
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import until

from hybrid_messaging.drivers import errors


def test_virtual_host_in_the_address(bus: Router, rpc: Rpc) -> None:
    rpc.server(transport=rpc.transport(bus.url(vhost="vhost")))
    found = bus.addresses(rpc.topic)
    assert sorted(found) == [
        f"openstack.org/om/rpc/anycast/vhost/openstack/{rpc.topic}",
        f"openstack.org/om/rpc/multicast/vhost/openstack/{rpc.topic}",
        f"openstack.org/om/rpc/unicast/vhost/openstack/{rpc.topic}/one",
    ]


def test_virtual_host_as_hostname(bus: Router, rpc: Rpc) -> None:
    url = bus.url(vhost="vhost", pseudo_vhost=False)
    rpc.server(transport=rpc.transport(url))
    assert rpc.client(rpc.transport(url)).call({}, "name") == "one"
    assert sorted(bus.addresses(rpc.topic)) == [
        f"openstack.org/om/rpc/anycast/openstack/{rpc.topic}",
        f"openstack.org/om/rpc/multicast/openstack/{rpc.topic}",
        f"openstack.org/om/rpc/unicast/openstack/{rpc.topic}/one",
    ]


def test_legacy_addresses(bus: Router, rpc: Rpc) -> None:
    services = [Service("one"), Service("two")]
    for service in services:
        rpc.server(
            service,
            name=service.name({}),
            transport=rpc.transport(addressing_mode="legacy"),
        )
    assert f"broadcast.openstack.{rpc.topic}.all" in bus.addresses(rpc.topic)
    transport = rpc.transport(addressing_mode="legacy")
    assert rpc.client(transport).call({}, "name") in ("one", "two")
    assert rpc.client(transport, server="two").call({}, "name") == "two"
    rpc.client(transport, fanout=True).cast({}, "echo", value="all")
    until(lambda: all(each.seen for each in services), "both have it")


@pytest.mark.parametrize("pre_settled", ["rpc-cast", "rpc-call", "rpc-cast,rpc-call"])
def test_pre_settled_requests_arrive(rpc: Rpc, pre_settled: str) -> None:
    service = Service()
    rpc.server(service)
    client = rpc.client(rpc.transport(pre_settled=pre_settled))
    for number in range(20):
        client.cast({}, "echo", value=number)
    assert client.call({}, "echo", value="last") == "last"
    until(lambda: len(service.seen) == 21, "all have arrived")


def test_pre_settled_cast_to_nobody_fails(rpc: Rpc) -> None:
    """The retired driver said that it was sent."""
    client = rpc.client(rpc.transport(pre_settled="rpc-cast", restart_timeout=0))
    with pytest.raises(errors.TargetUnreachable):
        client.cast({}, "echo", value=1)


@pytest.mark.parametrize("retry", [0, 2, -1])
def test_replies_may_be_settled_by_the_bus(rpc: Rpc, retry: int) -> None:
    rpc.server(
        transport=rpc.transport(pre_settled="rpc-cast", default_reply_retry=retry)
    )
    client = rpc.client()
    assert [client.call({}, "echo", value=n) for n in range(20)] == list(range(20))


def test_server_reports_replies_that_nobody_takes(
    rpc: Rpc, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service()
    rpc.server(service, transport=rpc.transport(pre_settled="rpc-cast"))
    transport = rpc.transport()
    client = rpc.client(transport)

    def call() -> None:
        with pytest.raises(errors.BusUnavailable):
            client.call({}, "wait")

    calling = threading.Thread(target=call)
    calling.start()
    until(lambda: service.seen, "the call is at work")
    transport.cleanup()
    calling.join()
    service.gate.set()
    until(lambda: "nobody listens there" in caplog.text, "the server says so")
    assert rpc.client().call({}, "name") == "one"


def test_default_exchange_is_an_option(bus: Router, rpc: Rpc) -> None:
    rpc.server(transport=rpc.transport(default_rpc_exchange="special"))
    assert any("/special/" in name for name in bus.addresses(rpc.topic))
    assert rpc.client(exchange="special").call({}, "name") == "one"


def test_prefixes_are_options(bus: Router, rpc: Rpc) -> None:
    options: dict[str, Any] = {
        "rpc_address_prefix": "openstack.org/om/rpc",
        "anycast_address": "anycast/mine",
    }
    rpc.server(transport=rpc.transport(**options))
    assert rpc.client(rpc.transport(**options)).call({}, "name") == "one"
    assert any("/anycast/mine/" in name for name in bus.addresses(rpc.topic))


def test_small_credit_is_no_obstacle(rpc: Rpc) -> None:
    service = Service()
    rpc.server(service, transport=rpc.transport(rpc_server_credit=1))
    client = rpc.client(rpc.transport(reply_link_credit=1))
    threads = [
        threading.Thread(target=client.call, args=({}, "echo"), kwargs={"value": n})
        for n in range(30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(service.seen) == list(range(30))


def test_container_name(bus: Router, rpc: Rpc) -> None:
    name = f"name-{rpc.topic}"
    rpc.server(transport=rpc.transport(container_name=name))
    with bus.management() as management:
        assert name in {row["container"] for row in management.connections()}


def test_trace_prints_frames(rpc: Rpc, capfd: pytest.CaptureFixture[str]) -> None:
    rpc.server()
    client = rpc.client(rpc.transport(trace=True))
    assert client.call({}, "name") == "one"
    assert "@attach" in capfd.readouterr().err
