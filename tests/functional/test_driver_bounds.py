# SPDX-License-Identifier: Apache-2.0
"""Bounded: who is slow or stuck slows nobody but those who wait for it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest
from oslo_messaging import MessagingException, RPCClient
from tests.functional.fakes import Fake, Proxy
from tests.functional.routers import Router
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import Stopwatch, until
from tests.functional.worker import ROOT, Worker

from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.amqp import outbox
from hybrid_messaging.drivers.amqp.outgoing import Outgoing
from hybrid_messaging.drivers.amqp.route import Route
from hybrid_messaging.protocol.endpoint import Endpoint, Link

MEGABYTE = 1024 * 1024
#: Seconds within which a call is answered that nobody holds up, on a busy machine.
#: One that is held up waits until the router gives up who is stuck: 16 s.
SOON = 30
#: What a connection and its messages consist of.
PARTS = (Endpoint, Link, Outgoing, Route)


def alive() -> int:
    """How many such objects there are."""
    gc.collect()
    return sum(isinstance(each, PARTS) for each in gc.get_objects())


def resident() -> int:
    """Bytes of memory that this process uses."""
    return int(psutil.Process().memory_info().rss)


def answers_for(client: RPCClient, seconds: float) -> None:
    """Call again and again; nothing holds the calls up."""
    with Stopwatch() as watch:
        while watch.elapsed() < seconds:
            with Stopwatch() as one:
                assert client.call({}, "name") == "one"
            assert one.seconds < SOON


CALLER = """
import os, threading
from tests.functional.rpc import Rpc

rpc = Rpc(os.environ["WORKER_URL"])
client = rpc.client(topic=os.environ["TOPIC"])
client.call({}, "name")
for number in range(int(os.environ["CALLS"])):
    threading.Thread(
        target=client.call, args=({}, "fetch"), kwargs={"size": int(os.environ["SIZE"])}
    ).start()
print("ready", flush=True)
"""


@contextmanager
def caller(rpc: Rpc, calls: int, size: int) -> Iterator[psutil.Process]:
    """A client process that has called for so many replies of a size."""
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER],
        cwd=ROOT,
        env={
            **os.environ,
            "WORKER_URL": rpc.url,
            "TOPIC": rpc.topic,
            "CALLS": str(calls),
            "SIZE": str(size),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


class Library(Service):
    """Answers with as much as is asked for, once the gate is open."""

    def fetch(self, ctxt: dict, size: int) -> str:
        self._begin("fetch", size)
        self.gate.wait(60)
        return "x" * size


@pytest.mark.parametrize(("calls", "size"), [(40, MEGABYTE), (200, 50_000)])
def test_a_stuck_client_holds_up_nobody_else(
    own_bus: Router, own_rpc: Rpc, calls: int, size: int
) -> None:
    library = Library()
    own_rpc.server(library, workers=calls + 10)
    client = own_rpc.client()
    with caller(own_rpc, calls, size) as stuck:
        until(lambda: len(library.seen) == calls, "all its calls are at work")
        stuck.suspend()
        before = own_bus.resident()
        library.gate.set()
        answers_for(client, 2)
        with Stopwatch() as watch:
            assert len(client.call({}, "fetch", size=MEGABYTE)) == MEGABYTE
        assert watch.seconds < SOON
        assert own_bus.resident() - before < calls * size * 2 + 50 * MEGABYTE
    assert client.call({}, "name") == "one"
    assert len(client.call({}, "fetch", size=MEGABYTE)) == MEGABYTE


def test_a_stuck_server_holds_up_no_other(own_bus: Router, own_rpc: Rpc) -> None:
    own_rpc.server()
    stuck_topic = f"{own_rpc.topic}-stuck"
    other = own_rpc.client()
    client = own_rpc.client(
        own_rpc.transport(restart_timeout=1), topic=stuck_topic, timeout=60
    )
    text = "x" * MEGABYTE
    with Worker(own_rpc.url, stuck_topic) as worker, ThreadPoolExecutor(30) as pool:
        assert client.call({}, "size", value=text) == MEGABYTE
        worker.signal(signal.SIGSTOP)
        calls = [pool.submit(client.call, {}, "size", value=text) for _ in range(30)]
        answers_for(other, 1)
        with Stopwatch() as watch:
            assert other.call({}, "size", value=text) == MEGABYTE
        assert watch.seconds < SOON
        worker.kill()
        with Stopwatch() as watch:
            assert all(call.exception() is not None for call in calls)
        assert watch.seconds < SOON
    with Worker(own_rpc.url, stuck_topic):
        # the other one has lost its patience, and may not know yet
        patient = own_rpc.client(topic=stuck_topic)
        assert patient.call({}, "size", value=text) == MEGABYTE


class Slow(Service):
    """Takes casts one by one, slowly until the gate is open."""

    def take(self, ctxt: dict, value: str) -> None:
        self.gate.wait(0.05)
        self.seen.append(len(value))


@pytest.mark.parametrize("pre_settled", [False, True])
def test_a_slow_server_slows_its_clients(
    own_bus: Router, own_rpc: Rpc, pre_settled: bool
) -> None:
    """Casts wait for their turn; they pile up in no process, and none is lost.

    Those that are pre-settled a router may drop.
    """
    service = Slow()
    own_rpc.server(
        service, workers=1, transport=own_rpc.transport(rpc_server_credit=20)
    )
    settled = {"pre_settled": "rpc-cast"} if pre_settled else {}
    client = own_rpc.client(own_rpc.transport(restart_timeout=0.5, **settled))
    client.cast({}, "take", value="x")
    router, process = own_bus.resident(), resident()
    ended = threading.Event()
    text = "x" * 200_000

    def cast_on() -> int:
        sent = 0
        while not ended.is_set():
            client.cast({}, "take", value=text)
            sent += 1
        return sent

    with ThreadPoolExecutor(20) as pool:
        casting = [pool.submit(cast_on) for _ in range(20)]
        # as fast as they are sent, these would be hundreds of megabytes
        until(lambda: len(service.seen) > 50, "it has taken some")
        assert own_bus.resident() - router < 150 * MEGABYTE
        assert resident() - process < 150 * MEGABYTE
        ended.set()
        service.gate.set()
    sent = 1 + sum(each.result() for each in casting)
    if pre_settled:
        assert client.call({}, "name") == "one"
    else:
        until(lambda: len(service.seen) >= sent, "all casts have arrived")
        assert len(service.seen) == sent


# -- nothing is left behind ----------------------------------------------------


def descriptors() -> int:
    return psutil.Process().num_fds()


def readers() -> int:
    """How many threads of buses there are."""
    return [thread.name for thread in threading.enumerate()].count("amqp-bus")


def test_transports_that_come_and_go(bus: Router, rpc: Rpc) -> None:
    rpc.server()
    rpc.client().call({}, "name")
    connections = bus.connections()
    threads, open_files, parts = readers(), descriptors(), alive()
    for _ in range(30):
        with Rpc(rpc.url) as other:
            other.server()
            assert rpc.client(topic=other.topic).call({}, "name") == "one"
            assert other.client(topic=rpc.topic).call({}, "name") == "one"
    until(lambda: readers() <= threads, "their threads have ended")
    until(lambda: descriptors() <= open_files, "their descriptors are closed")
    until(lambda: bus.connections() <= connections, "their connections are closed")
    # the client that stays has a link to each of the topics
    until(lambda: alive() <= parts + 2 * 30, "their connections are freed")


def test_servers_that_come_and_go(bus: Router, rpc: Rpc) -> None:
    transport = rpc.transport()
    client = rpc.client(fanout=True)
    service = Service()
    for number in range(30):
        server = rpc.server(service, transport=transport)
        client.cast({}, "echo", value=number)
        until(lambda: number in service.seen, "it has arrived")  # noqa: B023
        server.stop()
        server.listener.cleanup()
    assert service.seen == list(range(30))
    until(
        lambda: (
            not any(row["subscriberCount"] for row in bus.addresses(rpc.topic).values())
        ),
        "all subscriptions are gone",
    )


@pytest.mark.parametrize(("count", "size"), [(1000, 10), (200, 100_000)])
def test_targets_that_come_and_go(bus: Router, rpc: Rpc, count: int, size: int) -> None:
    """Links to targets that nobody uses any more are given back."""
    transport = rpc.transport(restart_timeout=0, default_sender_link_timeout=1)
    client = rpc.client(transport, timeout=20)
    text = "x" * size

    def call(number: int) -> None:
        with pytest.raises(errors.TargetUnreachable):
            client.prepare(server=f"server-{number}").call({}, "size", value=text)

    before = alive()
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(call, range(count)))
    sending = transport._driver._bus("sending")
    until(lambda: not sending.outbox._routes, "the links are given back")
    until(lambda: not bus.addresses(f"{rpc.topic}/server-"), "the router knows it")
    until(lambda: alive() <= before + 10, "they are freed")
    assert sending.outbox.connected
    rpc.server()
    assert client.call({}, "size", value=text) == size


def test_links_to_targets_are_bounded(
    bus: Router, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router allows a connection so many, and no more."""
    most = 300
    monkeypatch.setattr(outbox, "MOST_ROUTES", most)
    transport = rpc.transport(restart_timeout=0)
    rpc.server()
    client = rpc.client(transport, timeout=20)

    def call(number: int) -> None:
        with pytest.raises(errors.TargetUnreachable):
            client.prepare(server=f"server-{number}").call({}, "name")

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(call, range(2 * most)))
    assert client.call({}, "name") == "one"
    assert len(transport._driver._bus("sending").outbox._routes) <= most
    until(
        lambda: len(bus.addresses(f"{rpc.topic}/server-")) <= most,
        "the router has forgotten the others",
    )


def test_connections_that_come_and_go(bus: Router, rpc: Rpc) -> None:
    """Many losses of the connection leave what one leaves: nothing."""
    with Fake(Proxy(bus.port)) as fake:
        options = {"connection_retry_interval_max": 1}
        services, clients = [], []
        for number in range(10):
            services.append(Service())
            topic = f"{rpc.topic}-{number}"
            transport = rpc.transport(fake.url, **options)
            rpc.server(services[-1], topic=topic, transport=transport)
            clients.append(rpc.client(transport, topic=topic, timeout=5))

        def all_recover() -> None:
            for client in clients:
                until(lambda: works(client), "calls get through")  # noqa: B023

        fake.hang_up()
        all_recover()
        open_files, threads, parts = descriptors(), readers(), alive()
        for _ in range(4):  # of twenty connections each
            fake.hang_up()
            all_recover()
        until(lambda: descriptors() <= open_files, "descriptors are closed")
        until(lambda: readers() <= threads, "threads have ended")
        until(lambda: alive() <= parts, "their connections are freed")
        for number, service in enumerate(services):
            topic = f"{rpc.topic}-{number}"

            def subscribers() -> list[int]:
                found = bus.addresses(topic).values()  # noqa: B023
                return [row["subscriberCount"] for row in found]

            until(lambda: subscribers() == [1] * 3, "each has one subscription")
            rpc.client(topic=topic, fanout=True).cast({}, "echo", value="last")
            until(lambda: "last" in service.seen, "the fanout has arrived")  # noqa: B023
            assert service.seen.count("last") == 1


def works(client: RPCClient) -> bool:
    try:
        return bool(client.call({}, "name"))
    except MessagingException:
        return False
