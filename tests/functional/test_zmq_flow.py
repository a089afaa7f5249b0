# SPDX-License-Identifier: Apache-2.0
"""What `zmq` does with messages that a server has no room for, or nobody wants.

All of it straight, and through a proxy.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import oslo_messaging
import pytest
from oslo_messaging import MessagingTimeout, RemoteError
from oslo_messaging.exceptions import InvalidTarget
from tests.functional import matchmakers, zmq_proxies
from tests.functional.rpc import Rpc, end
from tests.functional.service import Service
from tests.functional.waiting import Stopwatch, until
from tests.functional.worker import Worker

from hybrid_messaging.drivers import errors, logs
from hybrid_messaging.drivers.zmq import sending

BUSES = (matchmakers.KIND, zmq_proxies.KIND)
MEGABYTE = 1024 * 1024
#: Seconds that nothing here takes unless it is wrong.
LONG = 60


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(30) as threads:
        yield threads


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds no room asks again when told, and never by itself."""
    monkeypatch.setattr(sending, "BUSY_PAUSE", 10 * LONG)


def waiting(server: oslo_messaging.RPCServer) -> int:
    """How many requests wait for the threads of a server."""
    inbox: Any = server.listener._inbox
    return len(inbox.server_side.backlog.of(inbox))


# -- given-up calls -----------------------------------------------------------


def test_calls_that_are_given_up_are_not_executed(
    rpc: Rpc, pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service()
    server = rpc.server(service, workers=1)
    client = rpc.client()
    first = pool.submit(client.call, {}, "wait", value="first")
    until(lambda: service.seen == ["first"], "it is at work")
    calls = [
        pool.submit(client.prepare(timeout=1).call, {}, "echo", value=number)
        for number in range(10)
    ]
    failures = {type(call.exception(LONG)) for call in calls}
    assert failures == {MessagingTimeout}
    until(lambda: waiting(server) == 0, "none of them waits any more", LONG)
    service.gate.set()
    assert first.result(LONG) == "first"
    assert client.call({}, "echo", value="last") == "last"
    assert service.seen == ["first", "last"]
    loud = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert not [each for each in loud if each.name.startswith("oslo_messaging")]


def test_calls_and_their_withdrawals_may_arrive_together(
    rpc: Rpc, pool: ThreadPoolExecutor
) -> None:
    """As when the server's process was kept from running."""
    service = Service()
    server = rpc.server(service)
    client = rpc.client()
    assert client.call({}, "name") == "one"
    inbox: Any = server.listener._inbox
    side = inbox.server_side
    late = client.prepare(timeout=1)
    with side._delivering:
        calls = [pool.submit(late.call, {}, "echo", value=n) for n in range(5)]
        assert {type(call.exception(LONG)) for call in calls} == {MessagingTimeout}
        until(lambda: len(side._arrived) == 10, "all has arrived")
    assert client.call({}, "echo", value="last") == "last"
    assert service.seen == ["last"]
    assert not side._unwanted


# -- a server without room -----------------------------------------------------


def full(
    rpc: Rpc, pool: ThreadPoolExecutor, name: str = "one", **options: Any
) -> tuple[Service, oslo_messaging.RPCServer]:
    """A server of one thread that is at work, and has room for two requests."""
    service = Service(name)
    server = rpc.server(
        service,
        name=name,
        workers=1,
        transport=rpc.transport(rpc_server_credit=2, **options),
    )
    client = rpc.client(server=name)
    client.cast({}, "wait", value=0)
    until(lambda: service.seen == [0], "it is at work")
    client.cast({}, "wait", value=1)
    client.cast({}, "wait", value=2)
    assert waiting(server) == 2
    return service, server


def test_a_cast_that_finds_no_room_in_time_is_not_executed(
    rpc: Rpc, pool: ThreadPoolExecutor
) -> None:
    service, _ = full(rpc, pool)
    late = rpc.client(rpc.transport(default_send_timeout=5))
    # the server may be about to say so once more, and is then told to drop it
    over = "no server had room|no confirmation within"
    with pytest.raises(errors.DeliveryError, match=over) as caught:
        late.cast({}, "echo", value="late")
    assert not isinstance(caught.value, errors.TargetUnreachable)
    service.gate.set()
    assert rpc.client().call({}, "echo", value="last") == "last"
    assert service.seen == [0, 1, 2, "last"]


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("method", ["call", "cast"])
def test_who_finds_no_room_is_told_when_there_is(
    rpc: Rpc, pool: ThreadPoolExecutor, method: str
) -> None:
    service, server = full(rpc, pool)
    send = getattr(rpc.client(timeout=LONG), method)
    sent = [pool.submit(send, {}, "echo", value=f"v{n}") for n in range(20)]
    until(lambda: waiting(server) == 2, "no more than two wait")
    assert not any(each.done() for each in sent)
    service.gate.set()
    for each in sent:
        each.result(LONG)
    until(lambda: len(service.seen) == 23, "all are executed")
    assert len(set(service.seen)) == 23


@pytest.mark.usefixtures("told")
def test_casts_go_to_a_server_that_has_room(rpc: Rpc, pool: ThreadPoolExecutor) -> None:
    stuck, _ = full(rpc, pool, "stuck")
    other = Service("other")
    rpc.server(other, name="other")
    client = rpc.client()
    for value in range(20):
        client.cast({}, "echo", value=value)
    until(lambda: len(other.seen) == 20, "the other one has all")
    assert stuck.seen == [0]


@pytest.mark.usefixtures("told")
def test_bytes_that_wait_are_bounded_as_well(
    rpc: Rpc, pool: ThreadPoolExecutor
) -> None:
    service = Service()
    server = rpc.server(
        service, workers=1, transport=rpc.transport(max_message_size=MEGABYTE)
    )
    client = rpc.client()
    client.cast({}, "wait", value="first")
    until(lambda: service.seen == ["first"], "it is at work")
    text = "x" * (400 * 1024)
    sent = [pool.submit(client.cast, {}, "size", value=text) for _ in range(6)]
    until(lambda: sum(each.done() for each in sent) == 2, "two have found room")
    assert waiting(server) == 2
    service.gate.set()
    for each in sent:
        each.result(LONG)
    until(lambda: len(service.seen) == 7, "all are executed")


def test_a_fanout_passes_over_a_listener_without_room(
    rpc: Rpc,
    pool: ThreadPoolExecutor,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "SETTLING", 2 * LONG)  # if it waits, it does so
    stuck, _ = full(rpc, pool, "stuck")
    other = Service("other")
    rpc.server(other, name="other")
    fanout = rpc.client(fanout=True)
    with Stopwatch() as watch:
        for value in range(3):
            fanout.cast({}, "echo", value=value)
    assert watch.seconds < LONG
    until(lambda: other.seen == [0, 1, 2], "the other one has all")
    stuck.gate.set()
    assert rpc.client(server="stuck").call({}, "echo", value="last") == "last"
    assert stuck.seen == [0, 1, 2, "last"]
    if "use_router_proxy" not in rpc.url:  # whose log is its own
        assert logs.flush(LONG)
        mentioned = [
            each.getMessage()
            for each in caplog.records
            if "missed fanouts" in each.getMessage()
        ]
        assert len(mentioned) == 1
        assert "stuck at tcp://" in mentioned[0]


def test_a_listener_that_hangs_holds_up_one_fanout(
    rpc: Rpc, pool: ThreadPoolExecutor
) -> None:
    other = Service("other")
    rpc.server(other, name="other")
    fanout = rpc.client(rpc.transport(idle_timeout=LONG), fanout=True)
    with Worker(rpc.url, rpc.topic) as worker:
        fanout.cast({}, "echo", value="first")
        worker.until("begins", "first")
        worker.signal(signal.SIGSTOP)
        with Stopwatch() as watch:
            for value in range(15):
                fanout.cast({}, "echo", value=value)
        # two seconds, instead of two for each
        assert watch.seconds < 20
        until(lambda: other.seen == ["first", *range(15)], "the other one has all")
        worker.signal(signal.SIGCONT)
        for value in range(15):
            worker.until("begins", value)


# -- a server that stops ---------------------------------------------------------


def test_calls_that_have_not_begun_go_to_another_server(
    rpc: Rpc, pool: ThreadPoolExecutor
) -> None:
    service = Service("old")
    server = rpc.server(service, name="old", workers=1)
    client = rpc.client(timeout=LONG)
    first = pool.submit(client.call, {}, "wait", value="first")
    until(lambda: service.seen == ["first"], "it is at work")
    calls = [pool.submit(client.call, {}, "echo", value=n) for n in range(5)]
    client.cast({}, "echo", value="cast")
    until(lambda: waiting(server) == 6, "they wait")
    other = Service("new")
    rpc.server(other, name="new")
    ending = threading.Thread(target=end, args=[server])
    ending.start()
    assert [call.result(LONG) for call in calls] == list(range(5))
    assert sorted(other.seen) == list(range(5))
    service.gate.set()
    assert first.result(LONG) == "first"
    ending.join(LONG)
    assert service.seen == ["first", "cast"]


@pytest.mark.usefixtures("told")
def test_casts_that_wait_for_room_leave_a_server_that_stops(
    rpc: Rpc, pool: ThreadPoolExecutor
) -> None:
    service, server = full(rpc, pool, "old")
    cast = pool.submit(rpc.client().cast, {}, "echo", value="moved")
    with pytest.raises(TimeoutError):
        cast.result(0.5)
    other = Service("new")
    rpc.server(other, name="new")
    server.stop()
    cast.result(LONG)
    until(lambda: other.seen == ["moved"], "the other one has it")
    service.gate.set()


# -- sizes, names, times ---------------------------------------------------------


class Library(Service):
    """Answers with as much as is asked for."""

    def fetch(self, ctxt: dict[str, Any], size: int) -> str:
        return "x" * size

    def explode(self, ctxt: dict[str, Any], size: int) -> None:
        raise ValueError("x" * size)


@pytest.mark.parametrize(
    ("method", "arguments", "kind"),
    [
        ("size", {"value": "x" * 2 * MEGABYTE}, errors.MessageRefused),
        ("fetch", {"size": 2 * MEGABYTE}, RemoteError),
        ("explode", {"size": 2 * MEGABYTE}, RemoteError),
    ],
)
def test_a_message_that_is_too_large_fails_alone(
    rpc: Rpc,
    pool: ThreadPoolExecutor,
    method: str,
    arguments: dict[str, Any],
    kind: type[Exception],
) -> None:
    limited = rpc.transport(max_message_size=MEGABYTE)
    library = Library()
    rpc.server(library, transport=limited)
    client = rpc.client(limited)
    other = pool.submit(client.call, {}, "wait", value="other")
    until(lambda: library.seen, "another call is at work")
    with pytest.raises(kind, match=rf"has \d{{7}} bytes.*allows {MEGABYTE}"):
        client.call({}, method, **arguments)
    library.gate.set()
    assert other.result(LONG) == "other"


def test_a_fanout_that_one_listener_refuses_reaches_the_others(rpc: Rpc) -> None:
    small, other = Service("small"), Service("other")
    limited = rpc.transport(max_message_size=MEGABYTE)
    rpc.server(small, name="small", transport=limited)
    rpc.server(other, name="other")
    fanout = rpc.client(fanout=True)
    with pytest.raises(errors.MessageRefused, match=f"allows {MEGABYTE}"):
        fanout.cast({}, "echo", value="x" * 2 * MEGABYTE)
    until(lambda: len(other.seen) == 1, "the other one has it")
    assert small.seen == []


@pytest.mark.parametrize("name", ["n" * 70_000, "\udcff"])
def test_names_that_cannot_be_sent_are_refused(rpc: Rpc, name: str) -> None:
    rpc.server()
    with pytest.raises(errors.MessageRefused):
        rpc.client(server=name).call({}, "name")
    with pytest.raises(errors.MessageRefused):
        rpc.client(topic=name, fanout=True).cast({}, "name")
    with pytest.raises(InvalidTarget):
        rpc.server(name=name)
    assert rpc.client().call({}, "name") == "one"


def test_no_time_is_none(rpc: Rpc) -> None:
    service = Service()
    rpc.server(service)
    client = rpc.client()
    assert client.call({}, "name") == "one"
    with Stopwatch() as watch, pytest.raises(MessagingTimeout):
        client.prepare(timeout=0).call({}, "echo", value="never")
    assert watch.seconds < 40
    patient = client.prepare(call_monitor_timeout=0)
    assert patient.call({}, "sleep", seconds=1, value="slow") == "slow"
    assert service.seen == ["slow"]
    for odd in (-1, float("nan")):
        with pytest.raises(errors.MessageRefused):
            client.prepare(timeout=odd).call({}, "echo", value="never")
    assert client.prepare(timeout=float("inf")).call({}, "name") == "one"


# -- patience --------------------------------------------------------------------


def failure(call: Future[Any]) -> BaseException | None:
    return call.exception(LONG)


def test_callers_of_a_target_share_its_patience(
    rpc: Rpc, pool: ThreadPoolExecutor
) -> None:
    """Who comes later does not wait for longer, and later still not at all."""
    client = rpc.client(rpc.transport(restart_timeout=12), timeout=LONG)
    with Stopwatch() as watch:
        early = pool.submit(client.call, {}, "name")
        with pytest.raises(TimeoutError):
            early.result(11)
        late = pool.submit(client.cast, {}, "name")
        assert isinstance(failure(early), errors.TargetUnreachable)
        assert isinstance(failure(late), errors.TargetUnreachable)
    assert 12 <= watch.seconds < 22
    with Stopwatch() as watch:
        for _ in range(20):
            with pytest.raises(errors.TargetUnreachable, match="nobody listens"):
                client.cast({}, "name")
    assert watch.seconds < 40


def test_a_target_that_comes_back_is_known_without_a_call(rpc: Rpc) -> None:
    transport = rpc.transport(restart_timeout=0.5)
    client = rpc.client(transport)
    with pytest.raises(errors.TargetUnreachable):
        client.call({}, "name")
    server = rpc.server()
    driver: Any = transport._driver
    (route,) = driver._client.routes._routes.values()
    until(lambda: route.listens() and not route.missing, "it is known", LONG)
    assert client.call({}, "name") == "one"
    server.stop()
    until(lambda: route.missing, "its end is known, too", LONG)


def test_a_server_that_has_just_gone_is_waited_for(
    rpc: Rpc, pool: ThreadPoolExecutor
) -> None:
    client = rpc.client(timeout=LONG)
    with Worker(rpc.url, rpc.topic, "first") as first:
        assert client.call({}, "name") == "first"
        first.kill()
    calls = [pool.submit(client.call, {}, "name") for _ in range(10)]
    with pytest.raises(TimeoutError):
        calls[0].result(2)
    with Worker(rpc.url, rpc.topic, "second"):
        assert {call.result(LONG) for call in calls} == {"second"}


def test_who_has_less_time_is_told_that_nobody_listens(rpc: Rpc) -> None:
    with pytest.raises(errors.TargetUnreachable, match="nobody listens"):
        rpc.client(timeout=5).call({}, "name")


def test_a_listener_that_stops_says_so_to_those_who_have_called(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they sent to a process that ends would be lost."""
    if "use_router_proxy" in rpc.url:
        pytest.skip("the proxy is the client")
    server_side = rpc.transport()
    server = rpc.server(transport=server_side)
    transport = rpc.transport()
    assert rpc.client(transport).call({}, "name") == "one"
    directory = server_side._driver._directory
    monkeypatch.setattr(directory, "unregister", lambda entries: None)
    (candidate,) = {
        candidate
        for route in transport._driver._client.routes._routes.values()
        for candidate in route.candidates
    }
    assert not candidate.absent
    server.stop()
    until(lambda: candidate.absent, "it has said so")
