# SPDX-License-Identifier: Apache-2.0
"""Processes that eventlet has patched: whole scenes in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.functional import matchmakers
from tests.functional.conftest import ALL_BUSES, Bus
from tests.functional.routers import Router
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import until
from tests.functional.worker import ROOT, Worker

BUSES = ALL_BUSES

PATCHED = """
import eventlet
eventlet.monkey_patch()
import json, os, sys, time
import threading
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import Stopwatch, until
from hybrid_messaging.drivers import errors
import oslo_messaging
from oslo_messaging import MessagingTimeout

rpc = Rpc(os.environ["WORKER_URL"])
rpc.topic = os.environ["TOPIC"]

def raises(kind, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except kind:
        return True
    return False

def answer(value):
    print(json.dumps(value), flush=True)
"""


def patched(rpc: Rpc, code: str, timeout: float = 90, **more: str) -> Any:
    """Run code in a patched process and return what it answers last."""
    done = subprocess.run(
        [sys.executable, "-c", PATCHED + code],
        cwd=ROOT,
        env={**os.environ, "WORKER_URL": rpc.url, "TOPIC": rpc.topic, **more},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=timeout,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_patched_server(rpc: Rpc) -> None:
    with Worker(rpc.url, rpc.topic, eventlet=True) as worker:
        client = rpc.client(call_monitor_timeout=5)
        assert client.call({}, "name") == "worker"
        assert rpc.client(server="worker").call({}, "echo", value=1) == 1
        rpc.client(fanout=True).cast({}, "echo", value="fanout")
        rpc.client().cast({}, "echo", value="cast")
        for value in ("fanout", "cast"):
            worker.until("begins", value)
        assert client.call({}, "sleep", seconds=6, value="slept") == "slept"
        assert worker.stop() == 0


def test_patched_client(rpc: Rpc) -> None:
    services = [Service("one"), Service("two")]
    for service in services:
        rpc.server(service, name=service.name({}))
    told = patched(
        rpc,
        """
client = rpc.client()
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        time.sleep(0.01)
eventlet.spawn(tick)
pool = eventlet.GreenPool(50)
echoes = list(pool.imap(lambda n: client.call({}, "echo", value=n), range(300)))
before = ticks
client.call({}, "sleep", seconds=1)
others = ticks - before
rpc.client(fanout=True).cast({}, "echo", value="fanout")
client.cast({}, "echo", value="cast")
none = rpc.client(rpc.transport(restart_timeout=2), topic="none")
with Stopwatch() as watch:
    nobody = raises(errors.TargetUnreachable, none.call, {}, "x")
late = raises(MessagingTimeout, rpc.client(timeout=1).call, {}, "sleep", seconds=3)
big = client.call({}, "size", value="x" * 5_000_000)
two = rpc.client(server="two").call({}, "name")
answer({"echoes": echoes, "others": others, "nobody": nobody, "late": late,
        "seconds": watch.seconds, "big": big, "two": two})
""",
    )
    assert told["echoes"] == list(range(300))
    assert told["others"] > 20, "the call kept other greenlets from running"
    assert told["nobody"] and told["late"]
    assert 2 <= told["seconds"] < 15
    assert (told["big"], told["two"]) == (5_000_000, "two")
    until(lambda: all("fanout" in each.seen for each in services), "both have it")
    until(lambda: any("cast" in each.seen for each in services), "one has it")


def test_patched_client_and_server_in_one_process(rpc: Rpc) -> None:
    told = patched(
        rpc,
        """
transport = rpc.transport()
server = rpc.server(Service("own"), transport=transport, executor="eventlet")
client = rpc.client(transport)
pool = eventlet.GreenPool(20)
echoes = list(pool.imap(lambda n: client.call({}, "echo", value=n), range(100)))
server.stop()
server.wait()
transport.cleanup()
answer(echoes)
""",
    )
    assert told == list(range(100))


#: How many messages a driver still has to do with.
_AMQP_LEFT = """
outbox = transport._driver._bus("sending").outbox
left = len(outbox._calls) + len(outbox._sent)
"""
_ZMQ_LEFT = """
sending = transport._driver._client
left = len(sending._sending) + len(sending._out)
"""


def test_torn_away_greenlets_leave_nothing_behind(bus: Bus, rpc: Rpc) -> None:
    service = Service()
    rpc.server(service)
    told = patched(
        rpc,
        """
transport = rpc.transport()
client = rpc.client(transport)
client.call({}, "name")
calls = [eventlet.spawn(client.call, {}, "wait", value=n) for n in range(5)]
def timed():
    with eventlet.Timeout(0.5, False):
        client.call({}, "wait", value="timed")
        return "answered"
    return "torn away"
timed = timed()
for call in calls:
    call.kill()
eventlet.sleep(0.1)
"""
        + (_ZMQ_LEFT if bus.kind == matchmakers.KIND else _AMQP_LEFT)
        + """
answer({"timed": timed, "left": left, "next": client.call({}, "echo", value="next")})
""",
    )
    service.gate.set()
    assert told == {"timed": "torn away", "left": 0, "next": "next"}


@contextlib.contextmanager
def patched_caller(rpc: Rpc, failure: str) -> Iterator[Callable[[], Any]]:
    """A patched process that makes a call, one that fails, and goes on when it can.

    :param failure: the exception (`hybrid_messaging.drivers.errors`) of the second
    :returns: what reads its next answer: "worker", "lost", "recovered"
    """
    program = f"""
client = rpc.client()
answer(client.call({{}}, "name"))
try:
    client.call({{}}, "sleep", seconds=60)
except errors.{failure}:
    answer("lost")
while raises(oslo_messaging.MessagingException, client.call, {{}}, "name"):
    time.sleep(0.1)
answer("recovered")
"""
    caller = subprocess.Popen(
        [sys.executable, "-c", PATCHED + program],
        cwd=ROOT,
        env={**os.environ, "WORKER_URL": rpc.url, "TOPIC": rpc.topic},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert caller.stdout is not None
        output = caller.stdout
        yield lambda: json.loads(output.readline())
    finally:
        caller.kill()
        caller.communicate()


@pytest.mark.routed
def test_patched_processes_recover(own_bus: Router, own_rpc: Rpc) -> None:
    with Worker(own_rpc.url, own_rpc.topic, eventlet=True) as worker:
        with patched_caller(own_rpc, "BusLost") as answer:
            assert answer() == "worker"
            worker.until("begins")
            own_bus.kill()
            assert answer() == "lost"
            own_bus.start()
            assert answer() == "recovered"
        assert own_rpc.client().call({}, "name") == "worker"


def test_patched_callers_notice_a_lost_server(rpc: Rpc) -> None:
    with patched_caller(rpc, "ServerLost") as answer:
        with Worker(rpc.url, rpc.topic, eventlet=True) as worker:
            assert answer() == "worker"
            worker.until("begins")
            worker.kill()
            assert answer() == "lost"
        with Worker(rpc.url, rpc.topic, eventlet=True):
            assert answer() == "recovered"


@pytest.mark.parametrize("eventlet", [False, True], ids=["native", "eventlet"])
def test_processes_of_both_kinds_end_in_order(rpc: Rpc, eventlet: bool) -> None:
    with Worker(rpc.url, rpc.topic, eventlet=eventlet) as worker:
        assert rpc.client().call({}, "name") == "worker"
        assert worker.stop() == 0
