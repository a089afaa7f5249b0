# SPDX-License-Identifier: Apache-2.0
"""Fail fast, fail clean: what callers see when servers or the bus are gone."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import oslo_messaging
import pytest
from oslo_messaging import MessageDeliveryFailure, MessagingTimeout
from tests.functional.conftest import ALL_BUSES
from tests.functional.routers import Router
from tests.functional.rpc import Rpc, end
from tests.functional.service import Service
from tests.functional.waiting import Stopwatch, until
from tests.functional.worker import Worker

from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.patience import PACE

BUSES = ALL_BUSES
#: Seconds that a failure may take to become known, on a busy machine; what is wrong
#: takes longer.
AT_ONCE = 20.0
#: The same for a death: it is known before any silence is too long, that of a router's
#: peers (16 s) and of our own (10 s).
DEATH_KNOWN = 8.0


@pytest.fixture
def worker(rpc: Rpc) -> Iterator[Worker]:
    """A server process on the shared bus."""
    with Worker(rpc.url, rpc.topic) as process:
        yield process


class Background:
    """A call in a thread of its own."""

    def __init__(self, client: Any, method: str, **arguments: Any) -> None:
        self.outcome: Any = None
        self.ended_at = 0.0

        def work() -> None:
            try:
                self.outcome = client.call({}, method, **arguments)
            except Exception as error:
                self.outcome = error
            self.ended_at = time.monotonic()

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def result(self, timeout: float = 60) -> Any:
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the call is still waiting"
        return self.outcome


def assert_clean(error: Any, kind: type[Exception], *words: str) -> None:
    """A failure that says what happened, as what services catch."""
    assert isinstance(error, kind), repr(error)
    assert isinstance(error, (MessagingTimeout, MessageDeliveryFailure))
    for word in words:
        assert word in str(error)


# -- nobody there --------------------------------------------------------


def test_nobody_is_waited_for_once_and_then_fails_at_once(rpc: Rpc) -> None:
    """Patience belongs to the target, not to each call."""
    transport = rpc.transport(restart_timeout=8)
    client = rpc.client(transport, timeout=60)
    with Stopwatch() as watch, pytest.raises(MessagingTimeout) as caught:
        client.call({}, "name")
    assert_clean(
        caught.value, errors.TargetUnreachable, "RPC call", rpc.topic, "nobody listens"
    )
    assert 8 <= watch.seconds < 8 + AT_ONCE
    # if each waited, these would take 48 s
    methods = ["call", "cast", "cast", "cast", "cast", "call"]
    with Stopwatch() as watch:
        for method in methods:
            with pytest.raises(errors.TargetUnreachable):
                getattr(client, method)({}, "echo", value=1)
    assert watch.seconds < 2 * PACE + 2 * AT_ONCE
    # another target is waited for all the same
    with Stopwatch() as watch, pytest.raises(errors.TargetUnreachable):
        rpc.client(transport, topic=f"{rpc.topic}-other").call({}, "name")
    assert watch.seconds >= 4


def test_callers_share_the_time_that_a_target_is_waited_for(rpc: Rpc) -> None:
    client = rpc.client(rpc.transport(restart_timeout=7), timeout=60)
    first = Background(client, "name")
    time.sleep(6)
    late = Background(client, "name")
    for call in (first, late):
        assert_clean(call.result(), errors.TargetUnreachable)
    # one that waited for all of the time would end 6 s later
    assert abs(late.ended_at - first.ended_at) < 5


def test_a_request_that_informs_many_dead_servers_waits_once(rpc: Rpc) -> None:
    """Nobody has asked for them before, and each is a target of its own."""
    transport = rpc.transport(restart_timeout=3)
    with Stopwatch() as watch:
        for number in range(20):
            with pytest.raises(errors.CastUnreachable):
                rpc.client(transport, topic=f"{rpc.topic}-{number}").cast({}, "name")
    assert 3 <= watch.seconds < 40


def test_a_target_that_was_gone_is_waited_for_again_once_it_was_there(
    rpc: Rpc,
) -> None:
    """The driver learns by itself that somebody listens."""
    client = rpc.client(rpc.transport(restart_timeout=2), timeout=60)
    with pytest.raises(errors.TargetUnreachable):
        client.call({}, "name")
    with Worker(rpc.url, rpc.topic, "first") as first:
        until(lambda: not fails_with(client, errors.TargetUnreachable), "it is known")
        assert client.call({}, "name") == "first"
        first.kill()

    def waits_again() -> bool:
        """Not before the loss is known: a call may still be on its way to it."""
        with Stopwatch() as watch, pytest.raises(errors.DeliveryError) as caught:
            client.call({}, "name")
        return watch.seconds > 1 and isinstance(caught.value, errors.TargetUnreachable)

    assert waits_again() or waits_again()


@pytest.mark.parametrize("target", [{}, {"server": "gone"}])
@pytest.mark.parametrize("method", ["call", "cast"])
def test_without_grace_nobody_there_fails_at_once(
    rpc: Rpc, target: dict[str, str], method: str
) -> None:
    client = rpc.client(rpc.transport(restart_timeout=0), timeout=60, **target)
    for _ in range(3):
        with Stopwatch() as watch, pytest.raises(errors.TargetUnreachable) as caught:
            getattr(client, method)({}, "echo", value=1)
        assert_clean(caught.value, errors.TargetUnreachable, f"RPC {method}")
        assert watch.seconds < PACE + AT_ONCE


def test_other_servers_of_the_topic_do_not_stand_in(rpc: Rpc) -> None:
    rpc.server(name="one")
    client = rpc.client(rpc.transport(restart_timeout=0), server="two")
    with pytest.raises(errors.TargetUnreachable):
        client.call({}, "name")


@pytest.mark.parametrize("method", ["call", "cast"])
def test_server_that_starts_within_the_grace_is_waited_for(
    rpc: Rpc, method: str
) -> None:
    service = Service()
    client = rpc.client()
    starting = threading.Timer(1, rpc.server, [service])
    starting.start()
    with Stopwatch() as watch:
        getattr(client, method)({}, "echo", value=1)
    starting.join()
    until(lambda: service.seen, "it has arrived")
    assert service.seen == [1]
    assert watch.seconds < 1 + AT_ONCE


def test_server_that_restarts_is_waited_for(rpc: Rpc) -> None:
    """A known target whose server goes and comes back costs no call."""
    client = rpc.client()
    with Worker(rpc.url, rpc.topic, "first") as first:
        assert client.call({}, "name") == "first"
        assert first.stop() == 0
    call = Background(client, "name")
    with Worker(rpc.url, rpc.topic, "second"):
        assert call.result() == "second"


def test_timeout_shorter_than_the_grace_holds(rpc: Rpc) -> None:
    client = rpc.client(rpc.transport(restart_timeout=90), timeout=5)
    with Stopwatch() as watch, pytest.raises(MessagingTimeout) as caught:
        client.call({}, "name")
    assert_clean(caught.value, errors.TargetUnreachable, "nobody listens there")
    assert watch.seconds < 5 + AT_ONCE


def test_sender_that_fails_leaves_nothing_behind(rpc: Rpc) -> None:
    """What has failed is not sent when a server turns up after all."""
    client = rpc.client(rpc.transport(restart_timeout=0))
    for value in range(3):
        with pytest.raises(errors.TargetUnreachable):
            client.cast({}, "echo", value=value)
    service = Service()
    rpc.server(service)
    # without grace, a call may be faster than the news of the server
    until(lambda: not fails_with(client, errors.TargetUnreachable), "it is known")
    assert client.call({}, "echo", value="live") == "live"
    assert service.seen == ["live"]


def test_many_callers_of_nobody_fail_together(rpc: Rpc) -> None:
    client = rpc.client(rpc.transport(restart_timeout=3))
    with Stopwatch() as watch, ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(client.call, {}, "name") for _ in range(20)]
        failures = [call.exception() for call in calls]
    assert {type(failure) for failure in failures} == {errors.CallUnreachable}
    # if one waited after the other, it would take a minute
    assert watch.seconds < 3 + AT_ONCE


# -- servers that die ----------------------------------------------------


def test_killed_server_fails_its_call_at_once(rpc: Rpc, worker: Worker) -> None:
    call = Background(rpc.client(), "sleep", seconds=50)
    worker.until("begins")
    killed_at = time.monotonic()
    worker.kill()
    assert_clean(call.result(), errors.ServerLost, "may have acted on it", rpc.topic)
    assert call.ended_at - killed_at < DEATH_KNOWN


def test_many_calls_of_a_killed_server_fail_at_once(rpc: Rpc, worker: Worker) -> None:
    client = rpc.client()
    client.call({}, "name")
    calls = [Background(client, "sleep", seconds=50) for _ in range(50)]
    worker.until("begins")
    killed_at = time.monotonic()
    worker.kill()
    for call in calls:
        # those that the server had not yet received may be told so, too
        assert_clean(call.result(), errors.DeliveryError)
    assert max(call.ended_at for call in calls) - killed_at < 2 + DEATH_KNOWN
    assert sum(isinstance(call.outcome, errors.ServerLost) for call in calls) >= 40


def test_call_of_a_killed_server_is_not_done_by_another(
    rpc: Rpc, worker: Worker
) -> None:
    client = rpc.client()
    call = Background(client, "sleep", seconds=50, value="once")
    worker.until("begins")
    service = Service("other")
    rpc.server(service, name="other")
    worker.kill()
    assert_clean(call.result(), errors.ServerLost)
    assert client.call({}, "name") == "other"
    assert service.seen == []


def test_next_call_after_a_death_goes_elsewhere(rpc: Rpc, worker: Worker) -> None:
    client = rpc.client()
    assert client.call({}, "name") == "worker"
    worker.kill()
    rpc.server(name="other")
    with Stopwatch() as watch:
        assert client.call({}, "name") == "other"
    assert watch.seconds < DEATH_KNOWN


def test_silent_server_fails_a_monitored_call(rpc: Rpc, worker: Worker) -> None:
    client = rpc.client(call_monitor_timeout=2)
    assert client.call({}, "name") == "worker"
    call = Background(client, "sleep", seconds=50)
    worker.until("begins")
    worker.signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    error = call.result()
    assert isinstance(error, MessagingTimeout)
    assert "no sign of life" in str(error)
    assert call.ended_at - stopped_at < 2 + AT_ONCE


@pytest.mark.routed
def test_silent_server_is_given_up_by_the_bus(make_router: Any) -> None:
    """Its host has vanished: nothing closes its connection."""
    from tests.functional.routers import Settings

    router = make_router(Settings(idle_timeout=2))
    with Rpc(router.url()) as rpc, Worker(rpc.url, rpc.topic) as worker:
        call = Background(rpc.client(), "sleep", seconds=50)
        worker.until("begins")
        worker.signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        assert_clean(call.result(), errors.ServerLost)
        assert call.ended_at - stopped_at < 4 + AT_ONCE


# -- servers that end in order --------------------------------------------


def test_stopping_server_answers_what_it_works_on(rpc: Rpc, worker: Worker) -> None:
    client = rpc.client()
    calls = [Background(client, "sleep", seconds=1, value=n) for n in range(10)]
    until(
        lambda: [worker.until("begins", n) for n in range(10)],
        "all are being worked on",
    )
    assert worker.stop() == 0
    assert [call.result() for call in calls] == list(range(10))


def test_stopping_server_gets_no_new_calls(rpc: Rpc) -> None:
    service = Service("old")
    old = rpc.server(service, name="old")
    client = rpc.client()
    working = Background(client, "wait", value="done")
    until(lambda: service.seen, "the call is at work")
    ending = threading.Thread(target=end, args=[old])
    ending.start()
    with pytest.raises(errors.TargetUnreachable):
        rpc.client(rpc.transport(restart_timeout=0.2)).call({}, "name")
    rpc.server(name="new")
    assert {client.call({}, "name") for _ in range(20)} == {"new"}
    service.gate.set()
    assert working.result() == "done"
    ending.join()
    assert service.seen == ["done"]


def test_no_call_is_lost_while_servers_take_turns(rpc: Rpc) -> None:
    """A rolling restart: every call is answered, each by one server."""
    rpc.server(name="first")
    client = rpc.client()
    ended = threading.Event()

    def call_on() -> int:
        done = 0
        while not ended.is_set():
            client.call({}, "echo", value=done)
            done += 1
        return done

    with ThreadPoolExecutor(4) as pool:
        counts = [pool.submit(call_on) for _ in range(4)]
        for round_ in range(5):
            server = rpc.server(name=f"server-{round_}")
            time.sleep(0.1)
            server.stop()
        ended.set()
        assert all(count.result() > 0 for count in counts)


# -- the bus dies ----------------------------------------------------------


@pytest.mark.routed
def test_killed_bus_fails_its_calls_at_once(own_bus: Router, own_rpc: Rpc) -> None:
    with Worker(own_bus.url(), own_rpc.topic) as worker:
        call = Background(own_rpc.client(), "sleep", seconds=3, value="once")
        worker.until("begins")
        killed_at = time.monotonic()
        own_bus.kill()
        assert_clean(call.result(), errors.BusLost, "may have acted on it")
        assert call.ended_at - killed_at < DEATH_KNOWN
        own_bus.start()
        assert own_rpc.client().call({}, "name") == "worker"
        worker.stop()
        assert worker.begun() == ["once"]


@pytest.mark.routed
def test_a_bus_that_ends_in_order_is_no_lost_server(
    own_bus: Router, own_rpc: Rpc
) -> None:
    """Its server lives on: an instance must not end in ERROR for that."""
    with Worker(own_bus.url(), own_rpc.topic) as worker:
        client = own_rpc.client()
        assert client.call({}, "name") == "worker"
        calls = [Background(client, "sleep", seconds=5, value=n) for n in range(5)]
        worker.until("begins", 4)
        own_bus.stop()
        for number, call in enumerate(calls):
            if call.result() != number:  # a router may let it be answered first
                assert_clean(call.result(), errors.BusLost, "the router at amqp://")


@pytest.mark.routed
def test_messages_wait_for_a_bus_that_restarts(own_bus: Router, own_rpc: Rpc) -> None:
    service = Service()
    own_rpc.server(service)
    client = own_rpc.client()
    assert client.call({}, "name") == "one"
    own_bus.stop()
    call = Background(client, "echo", value="patient")
    time.sleep(0.5)
    own_bus.start()
    assert call.result() == "patient"
    assert service.seen == ["patient"]


@pytest.mark.routed
def test_without_retry_a_bus_that_is_away_fails_at_once(
    own_bus: Router, own_rpc: Rpc
) -> None:
    own_rpc.server()
    client = own_rpc.client(retry=0)
    assert client.call({}, "name") == "one"
    own_bus.stop()
    until(lambda: fails_with(client, errors.BusUnavailable), "the loss is known")
    for _ in range(3):
        with Stopwatch() as watch:
            assert fails_with(client, errors.BusUnavailable)
        assert watch.seconds < AT_ONCE


@pytest.mark.routed
def test_a_bus_that_is_away_fails_calls_when_their_time_is_up(
    own_bus: Router, own_rpc: Rpc
) -> None:
    own_bus.stop()
    with Stopwatch() as watch, pytest.raises(MessagingTimeout) as caught:
        own_rpc.client(timeout=5).call({}, "name")
    assert_clean(
        caught.value, errors.BusUnavailable, "connection refused", str(own_bus.port)
    )
    assert watch.seconds < 5 + AT_ONCE


@pytest.mark.routed
def test_silent_bus_is_noticed(own_bus: Router) -> None:
    """Its host has vanished: nothing closes the connection."""
    with Rpc(own_bus.url(idle_timeout=2)) as rpc:
        service = Service()
        rpc.server(service)
        client = rpc.client()
        assert client.call({}, "name") == "one"
        call = Background(client, "wait")
        until(lambda: service.seen, "the call is at work")
        own_bus.pause()
        paused_at = time.monotonic()
        assert_clean(call.result(), errors.BusLost)
        assert call.ended_at - paused_at < 3 + AT_ONCE
        own_bus.resume()
        service.gate.set()
        assert client.call({}, "name") == "one"


@pytest.mark.routed
def test_silent_bus_with_full_buffers_is_noticed(own_bus: Router) -> None:
    """Bytes that the network does not take must not hide that nobody is there."""
    with Rpc(own_bus.url(idle_timeout=2)) as rpc:
        rpc.server()
        client = rpc.client()
        # there is a link for large messages after this
        assert client.call({}, "size", value="x" * 100_000) == 100_000
        own_bus.pause()
        paused_at = time.monotonic()
        call = Background(client, "size", value="x" * 20_000_000)
        assert_clean(call.result(), errors.DeliveryError)
        assert call.ended_at - paused_at < 5 + AT_ONCE
        own_bus.resume()
        assert client.call({}, "name") == "one"


# -- many at a time ----------------------------------------------------------


def test_more_calls_at_work_than_link_credit(rpc: Rpc) -> None:
    """Credit that is used up is no sign that nobody is there."""
    service = Service()
    rpc.server(service, workers=400, transport=rpc.transport(rpc_server_credit=1000))
    client = rpc.client(rpc.transport(restart_timeout=0.5))
    calls = [Background(client, "wait", value=number) for number in range(300)]
    until(lambda: len(service.seen) >= 250, "as many are at work as credit allows")
    time.sleep(1)
    service.gate.set()
    assert [call.result() for call in calls] == list(range(300))


def fails_with(client: oslo_messaging.RPCClient, kind: type[Exception]) -> bool:
    try:
        client.call({}, "name")
    except oslo_messaging.MessagingException as error:
        return isinstance(error, kind)
    return False
