# SPDX-License-Identifier: Apache-2.0
"""What services expect of a driver when nothing goes wrong."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import oslo_messaging
import pytest
from oslo_messaging import Target
from oslo_messaging.rpc.client import RemoteError
from tests.functional.conftest import EVERY_WAY, Bus
from tests.functional.rpc import Rpc, configuration
from tests.functional.service import Service, Spaced, Trouble
from tests.functional.waiting import Stopwatch, until

from hybrid_messaging.drivers import errors

BUSES = EVERY_WAY


def test_call_returns_what_the_server_says(rpc: Rpc) -> None:
    rpc.server()
    value = {
        "text": "größer ⚙ 'quoted'\n",
        "list": [1, 2.5, None, True],
        "deep": {"a": []},
    }
    assert rpc.client().call({}, "echo", value=value) == value


@pytest.mark.parametrize("value", [None, "", 0, False, [], {}])
def test_call_returns_empty_values(rpc: Rpc, value: Any) -> None:
    rpc.server()
    assert rpc.client().call({}, "echo", value=value) == value


def test_context_arrives(rpc: Rpc) -> None:
    rpc.server()
    context = {"user": "näme", "roles": ["reader"], "request_id": "req-1"}
    assert rpc.client().call(context, "context") == context


def test_calls_from_many_threads_get_their_own_replies(rpc: Rpc) -> None:
    rpc.server()
    client = rpc.client()
    client.call({}, "name")
    with ThreadPoolExecutor(16) as pool:
        numbers = list(range(400))
        replies = pool.map(lambda n: client.call({}, "echo", value=n), numbers)
        assert list(replies) == numbers


def test_casts_arrive_in_order(rpc: Rpc) -> None:
    service = Service()
    rpc.server(service, workers=1)
    client = rpc.client()
    for number in range(100):
        client.cast({}, "echo", value=number)
    until(lambda: len(service.seen) == 100, "all casts have arrived")
    assert service.seen == list(range(100))


def test_fanout_reaches_every_server(rpc: Rpc) -> None:
    services = [Service(), Service(), Service()]
    for number, service in enumerate(services):
        rpc.server(service, name=f"server-{number}")
    rpc.client(fanout=True).cast({}, "echo", value="all")
    until(lambda: all(each.seen for each in services), "every server has it")
    rpc.client(fanout=True).cast({}, "echo", value="again")
    until(lambda: all(len(each.seen) > 1 for each in services), "every server has both")
    assert all(each.seen == ["all", "again"] for each in services)


def test_fanout_reaches_servers_of_one_name(rpc: Rpc) -> None:
    """As a service has them that listens twice in one process."""
    transport = rpc.transport()
    services = [Service(), Service()]
    for service in services:
        rpc.server(service, transport=transport)
    rpc.client(fanout=True).cast({}, "echo", value="all")
    until(lambda: [each.seen for each in services] == [["all"], ["all"]], "both")


@pytest.mark.parametrize("size", [10, 4_000_000])
def test_a_fanout_outlasts_the_transport_that_sent_it(rpc: Rpc, size: int) -> None:
    services = [Service("one"), Service("two")]
    for service in services:
        rpc.server(service)
    for _ in range(3):
        transport = rpc.transport()
        rpc.client(transport, fanout=True).cast({}, "size", value="x" * size)
        transport.cleanup()
    for service in services:
        until(lambda: service.seen == [size] * 3, "it has all")  # noqa: B023


def test_fanout_to_nobody_is_no_error(rpc: Rpc) -> None:
    with Stopwatch() as watch:
        rpc.client(fanout=True).cast({}, "echo", value="hello?")
    assert watch.seconds < 40


def test_named_server_gets_what_is_directed_to_it(rpc: Rpc) -> None:
    rpc.server(name="one")
    rpc.server(name="two")
    for name in ("one", "two"):
        client = rpc.client(server=name)
        assert {client.call({}, "name") for _ in range(10)} == {name}


@pytest.mark.parametrize(
    "name", ["cinder@lvm.backend-1", "host.example.org", "a b", "münchen", "x" * 200]
)
def test_servers_and_topics_may_have_any_name(rpc: Rpc, name: str) -> None:
    service = Service()
    topic = f"{rpc.topic}.{name}"
    rpc.server(service, name=name, topic=topic)
    rpc.client(topic=topic, server=name).call({}, "echo", value=1)
    rpc.client(topic=topic).call({}, "echo", value=2)
    rpc.client(topic=topic, fanout=True).cast({}, "echo", value=3)
    until(lambda: service.seen == [1, 2, 3], "all three have arrived")


def test_servers_of_a_topic_share_the_work(rpc: Rpc) -> None:
    rpc.server(name="one")
    rpc.server(name="two")
    client = rpc.client()
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: client.call({}, "name"), range(60)))
    assert set(names) == {"one", "two"}


def test_exchanges_are_apart(rpc: Rpc) -> None:
    rpc.server(name="one", exchange="first")
    rpc.server(name="two", exchange="second")
    for name, exchange in (("one", "first"), ("two", "second")):
        client = rpc.client(exchange=exchange)
        assert {client.call({}, "name") for _ in range(5)} == {name}


def test_exchange_defaults_to_control_exchange(rpc: Rpc) -> None:
    conf = configuration()
    conf.set_override("control_exchange", "controlled")
    rpc.server(transport=rpc.transport(conf=conf))
    assert rpc.client(exchange="controlled").call({}, "name") == "one"


@pytest.mark.parametrize("names", [("first", "second"), ("a", "a%2Fb")])
def test_virtual_hosts_are_apart(bus: Bus, rpc: Rpc, names: tuple[str, str]) -> None:
    first, second = (rpc.transport(bus.url(vhost=name)) for name in names)
    rpc.server(name="one", transport=first)
    rpc.server(name="two", transport=second)
    for name, transport in (("one", first), ("two", second)):
        client = rpc.client(transport)
        assert {client.call({}, "name") for _ in range(5)} == {name}


def test_namespaces_and_versions_choose_the_endpoint(rpc: Rpc) -> None:
    rpc.server(Service(), Spaced())
    client = rpc.client()
    assert client.call({}, "name") == "one"
    assert client.prepare(version="1.2").call({}, "name") == "one"
    assert client.prepare(namespace="space", version="2.0").call({}, "name") == "spaced"
    for wrong in ({"version": "1.9"}, {"version": "7.0"}, {"namespace": "none"}):
        with pytest.raises((RemoteError, oslo_messaging.UnsupportedVersion)):
            client.prepare(**wrong).call({}, "name")


def test_allowed_remote_exception_is_raised_as_itself(rpc: Rpc) -> None:
    rpc.server()
    with pytest.raises(Trouble, match="what happened") as caught:
        rpc.client().call({}, "fail", value="what happened")
    assert "in fail" in str(caught.value), "the server's traceback"


def test_other_remote_exception_is_a_remote_error(rpc: Rpc) -> None:
    rpc.server()
    client = rpc.client(rpc.transport(allowed_remote_exmods=[]))
    with pytest.raises(RemoteError) as caught:
        client.call({}, "fail", value="what happened")
    assert caught.value.exc_type == "Trouble"
    assert caught.value.value == "what happened"


def test_unusual_exceptions_and_replies_fail_the_call(rpc: Rpc) -> None:
    rpc.server()
    client = rpc.client()
    with pytest.raises((ValueError, RemoteError), match=r"Cannot convert|Unpicklable"):
        client.call({}, "fail_unusually")
    with pytest.raises(ValueError, match="Circular"):
        client.call({}, "odd")
    with pytest.raises(RemoteError):
        client.call({}, "no_such_method")
    assert client.call({}, "name") == "one"


def test_expected_exceptions_pass(rpc: Rpc) -> None:
    class Expecting:
        @oslo_messaging.expected_exceptions(Trouble)
        def fail(self, ctxt: dict[str, Any]) -> None:
            raise Trouble("expected")

    rpc.server(Expecting())
    with pytest.raises(Trouble, match="expected"):
        rpc.client().call({}, "fail")


def test_server_that_lives_outlasts_the_monitor(rpc: Rpc) -> None:
    rpc.server()
    client = rpc.client(call_monitor_timeout=5)
    assert client.call({}, "sleep", seconds=6, value="done") == "done"


def test_call_times_out(rpc: Rpc) -> None:
    service = Service()
    rpc.server(service)
    with Stopwatch() as watch, pytest.raises(oslo_messaging.MessagingTimeout):
        rpc.client(timeout=1).call({}, "wait")
    service.gate.set()
    assert 1 <= watch.seconds < 40


def test_late_reply_is_dropped(rpc: Rpc) -> None:
    service = Service()
    rpc.server(service)
    with pytest.raises(oslo_messaging.MessagingTimeout):
        rpc.client(timeout=0.5).call({}, "wait", value="late")
    service.gate.set()
    assert rpc.client().call({}, "echo", value="next") == "next"


def test_transport_options_are_accepted(rpc: Rpc) -> None:
    rpc.server()
    options = oslo_messaging.TransportOptions(at_least_once=True)
    client = rpc.client(transport_options=options)
    assert client.call({}, "name") == "one"
    client.cast({}, "echo", value=1)


@pytest.mark.parametrize("method", ["call", "cast"])
def test_undeliverable_is_what_it_is_called_elsewhere(rpc: Rpc, method: str) -> None:
    options = oslo_messaging.TransportOptions(at_least_once=True)
    transport = rpc.transport(restart_timeout=0.5)
    client = rpc.client(transport, transport_options=options)
    with pytest.raises(oslo_messaging.MessageUndeliverable, match=rpc.topic):
        getattr(client, method)({}, "name")


@pytest.mark.parametrize("retry", [None, -1, 0, 3])
def test_retry_does_no_harm_where_nothing_fails(rpc: Rpc, retry: int | None) -> None:
    service = Service()
    rpc.server(service)
    client = rpc.client(retry=retry)
    assert client.call({}, "echo", value=1) == 1
    client.cast({}, "echo", value=2)
    until(lambda: service.seen == [1, 2], "both have arrived once")


def test_large_messages_pass(rpc: Rpc) -> None:
    rpc.server()
    client = rpc.client()
    text = "0123456789abcdef" * (10 * 1024 * 1024 // 16)
    assert client.call({}, "echo", value=text) == text
    assert client.call({}, "size", value=text) == len(text)


def test_a_server_stops_inside_its_endpoint_and_starts_again(rpc: Rpc) -> None:
    class Ending(Service):
        server: Any

        def end(self, ctxt: Any) -> str:
            self.server.stop()
            return "stopped"

    service = Ending()
    service.server = server = rpc.server(service)
    client = rpc.client()
    for _ in range(2):
        assert client.call({}, "end") == "stopped"
        server.wait()
        server.start()
        assert client.call({}, "name") == "one"


def test_endpoints_that_raise_what_is_no_exception_wear_out_no_server(
    rpc: Rpc,
) -> None:
    """More of them than the server has credit, and threads."""

    class Torn(BaseException):
        """As GreenletExit and eventlet's Timeout are."""

    class Leaving(Service):
        def leave(self, ctxt: Any) -> None:
            self.seen.append("left")
            raise Torn

    service = Leaving()
    rpc.server(service, transport=rpc.transport(rpc_server_credit=20), workers=4)
    client = rpc.client()
    for _ in range(60):
        client.cast({}, "leave")
    until(lambda: len(service.seen) == 60, "all are executed")
    assert client.call({}, "name") == "one"
    with pytest.raises(oslo_messaging.MessagingTimeout):
        rpc.client(timeout=1).call({}, "leave")
    assert client.call({}, "name") == "one"


def test_stopped_server_can_start_again(rpc: Rpc) -> None:
    transport = rpc.transport()
    server = oslo_messaging.get_rpc_server(
        transport, Target(topic=rpc.topic, server="one"), [Service()]
    )
    client = rpc.client()
    for _ in range(3):
        server.start()
        assert client.call({}, "name") == "one"
        server.stop()
        server.wait()


def test_server_calls_within_a_call(rpc: Rpc) -> None:
    """A server may be the client of another, over the same transport."""
    transport = rpc.transport()
    other = f"{rpc.topic}-other"

    class Relay:
        def ask(self, ctxt: dict[str, Any]) -> Any:
            return rpc.client(transport, topic=other).call({}, "name")

    rpc.server(Relay(), transport=transport)
    rpc.server(name="second", topic=other, transport=transport)
    client = rpc.client(transport)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.call({}, "ask"), range(40)))
    assert set(answers) == {"second"}


def test_many_transports_of_a_process_are_apart(rpc: Rpc) -> None:
    rpc.server()
    clients = [rpc.client(rpc.transport()) for _ in range(10)]
    assert [client.call({}, "name") for client in clients] == ["one"] * 10


def test_used_again_after_cleanup(rpc: Rpc) -> None:
    rpc.server()
    transport = rpc.transport()
    client = rpc.client(transport)
    assert client.call({}, "name") == "one"
    transport.cleanup()
    transport.cleanup()
    assert client.call({}, "name") == "one"


def test_threads_that_wait_are_freed_by_cleanup(rpc: Rpc) -> None:
    service = Service()
    rpc.server(service)
    transport = rpc.transport()
    client = rpc.client(transport)
    failures: list[BaseException] = []

    def call() -> None:
        try:
            client.call({}, "wait")
        except oslo_messaging.MessagingException as error:
            failures.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: len(service.seen) == 3, "all calls are at work")
    begin = time.monotonic()
    transport.cleanup()
    for thread in threads:
        thread.join(60)
    service.gate.set()
    assert [type(each) for each in failures] == [errors.BusLost] * 3
    assert all("may have acted on it" in str(each) for each in failures)
    assert time.monotonic() - begin < 40
