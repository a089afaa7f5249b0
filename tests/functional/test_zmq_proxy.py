# SPDX-License-Identifier: Apache-2.0
"""The proxy of `zmq`: connections, several of them, fanouts, bounds and its status."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
import zmq
from oslo_messaging import Target
from oslo_messaging.exceptions import ConfigurationError
from tests.functional.commands import run
from tests.functional.matchmakers import Redis
from tests.functional.rpc import Rpc
from tests.functional.service import Service
from tests.functional.waiting import Stopwatch, until
from tests.functional.worker import ROOT, Worker
from tests.functional.zmq_proxies import Proxy

from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.presence import Presence
from hybrid_messaging.drivers.zmq import directory, matchmaker, wire
from hybrid_messaging.drivers.zmq import proxy as zmq_proxy

MakeProxy = Callable[..., Proxy]
#: Seconds that a loss may take to become known, on a busy machine.
SOON = 10.0


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def make_proxy(redis: Redis, tmp_path: Path) -> Iterator[MakeProxy]:
    """Starts proxies to which a test may do what it likes; no other test's are left."""
    made: list[Proxy] = []

    def make(**options: object) -> Proxy:
        log = tmp_path / f"proxy-{len(made)}.log"
        made.append(Proxy(redis.url(**options), log))
        return made[-1].start()

    with redis.client() as client:
        client.delete("hybrid-messaging:zmq:servers:proxy")
    yield make
    for each in made:
        each.kill()


@pytest.fixture
def rpc(redis: Redis) -> Iterator[Rpc]:
    """Talks through proxies."""
    with Rpc(redis.url(use_router_proxy=True)) as talk:
        yield talk


def status(
    capsys: pytest.CaptureFixture[str], redis: Redis
) -> tuple[int, list[dict[str, Any]]]:
    """What `zmq-proxy status` shows, and its exit code."""
    result = run(capsys, "zmq-proxy", "status", "--rpc-url", redis.url(), "-f", "json")
    return result.code, result.rows


def connections(transport: oslo_messaging.Transport) -> set[str]:
    """To whom the client of a transport is connected."""
    driver: Any = transport._driver
    return {peer.endpoint for peer in driver._client.routes.peers() if peer.up}


def works(client: oslo_messaging.RPCClient) -> bool:
    try:
        return bool(client.call({}, "name"))
    except oslo_messaging.MessagingException:
        return False


# -- connections, status -------------------------------------------------------


def test_clients_have_one_connection_whatever_they_call(
    redis: Redis,
    rpc: Rpc,
    make_proxy: MakeProxy,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    proxy = make_proxy()
    services = [Service(str(number)) for number in range(4)]
    for service in services:
        rpc.server(service, name=service.name({}))
    client = rpc.client()
    until(
        lambda: {client.call({}, "name") for _ in range(8)} == {"0", "1", "2", "3"},
        "all share the work",
    )
    for service in services:
        client.prepare(server=service.name({})).cast({}, "echo", value="cast")
    rpc.client(fanout=True).cast({}, "echo", value="fanout")
    until(
        lambda: all(each.seen == ["cast", "fanout"] for each in services),
        "each has got everything once",
    )
    assert connections(rpc.default) == {proxy.endpoint}
    with pytest.raises(errors.TargetUnreachable):
        rpc.client(rpc.transport(restart_timeout=0), server="gone").call({}, "name")

    code, (row,) = status(capsys, redis)
    assert code == 0
    assert (row["endpoint"], row["status"]) == (proxy.endpoint, "up")
    assert row["servers"] == 4
    assert row["replies"] >= 8
    assert row["taken"] == 5
    assert row["clients"] >= 2  # the asking command is one
    assert row["waiting"] == row["lost"] == row["undelivered"] == 0
    file = tmp_path / "nova.conf"
    file.write_text(f"[DEFAULT]\ntransport_url = {redis.url()}\n")
    result = run(capsys, "zmq-proxy", "status", "--config-file", file, "-f", "json")
    assert [each["endpoint"] for each in result.rows] == [proxy.endpoint]

    direct = Rpc(redis.url())
    with direct:
        near = direct.client(topic=rpc.topic)
        assert near.call({}, "name") in "0123"
        assert proxy.endpoint not in connections(direct.default)
    proxy.kill()
    code, (row,) = status(capsys, redis)
    assert (code, row["status"], row["replies"]) == (1, "silent", None)


def test_no_proxy_is_told(
    redis: Redis, rpc: Rpc, make_proxy: MakeProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    rpc.server()
    client = rpc.client(rpc.transport(restart_timeout=0.3))
    with Stopwatch() as watch, pytest.raises(errors.BusUnavailable) as caught:
        client.call({}, "name")
    assert "no proxy can be used: none is registered" in str(caught.value)
    assert watch.seconds < SOON
    with pytest.raises(errors.BusUnavailable, match="no proxy"):
        rpc.client(rpc.transport(restart_timeout=0), fanout=True).cast({}, "name")
    assert status(capsys, redis) == (1, [])
    make_proxy()
    until(lambda: works(client), "it is found")


def test_what_cannot_have_a_proxy_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url = f"zmq+static:///?zmq_static_file={tmp_path / 'servers'}"
    result = run(capsys, "zmq-proxy", "--rpc-url", url)
    assert (result.code, "uses a file instead" in result.err) == (1, True)
    result = run(capsys, "zmq-proxy", "--rpc-url", "rabbit://u:secret@localhost")
    assert (result.code, "is not a zmq:// URL" in result.err) == (1, True)
    assert "secret" not in result.err
    refused = pytest.raises(ConfigurationError, match="uses a file instead")
    with Rpc(f"{url}&use_router_proxy=true") as rpc, refused:
        rpc.transport()


# -- several, lost ones ------------------------------------------------------------


def test_another_proxy_takes_over(rpc: Rpc, make_proxy: MakeProxy) -> None:
    service = Service()
    rpc.server(service)
    proxies = [make_proxy(), make_proxy()]
    client = rpc.client()
    until(
        lambda: works(client) and len(connections(rpc.default)) == 2,
        "both are connected",
    )
    with ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(client.call, {}, "wait", value=n) for n in range(20)]
        until(lambda: len(service.seen) == 20, "all are at work")
        with Stopwatch() as watch:
            proxies[0].kill()
            until(lambda: any(call.done() for call in calls), "its calls have failed")
        assert watch.seconds < SOON
        for number in range(20):
            assert client.call({}, "echo", value=f"next {number}") == f"next {number}"
        service.gate.set()
        failures = [call.exception() for call in calls]
    lost = [failure for failure in failures if failure is not None]
    assert lost
    assert len(lost) < 20
    for failure in lost:
        assert isinstance(failure, errors.BusLost)
        assert f"the proxy at {proxies[0].endpoint} is gone" in str(failure)
    assert len(service.seen) == 40
    replacement = make_proxy()
    until(
        lambda: (
            works(client)
            and connections(rpc.default) == {proxies[1].endpoint, replacement.endpoint}
        ),
        "the new one is used",
    )


def test_killed_servers_fail_their_calls(rpc: Rpc, make_proxy: MakeProxy) -> None:
    make_proxy()
    with Worker(rpc.url, rpc.topic) as worker, ThreadPoolExecutor(20) as pool:
        client = rpc.client()
        calls = [pool.submit(client.call, {}, "sleep", seconds=50) for _ in range(20)]
        worker.until("begins")
        worker.kill()
        with Stopwatch() as watch:
            failures = [call.exception(60) for call in calls]
        # those that the server had not seen have waited for another one
        assert watch.seconds < 2 + SOON
    assert all(isinstance(each, errors.DeliveryError) for each in failures)
    lost = [each for each in failures if isinstance(each, errors.ServerLost)]
    assert lost
    assert "may have acted on it" in str(lost[0])
    rpc.server(name="other")
    until(lambda: works(client), "another server is called")


def test_servers_that_are_gone_are_gone_behind_a_proxy(
    redis: Redis, rpc: Rpc, make_proxy: MakeProxy
) -> None:
    """Nobody calls them; Redis would know of the killed one for another minute."""
    make_proxy()
    driver: Any = rpc.default._driver

    def presence(server: str) -> Presence:
        found: Presence = driver.presence(Target(topic=rpc.topic, server=server))
        return found

    def known() -> set[str]:
        listings = driver._directory._listings.values()
        return {record.server for each in listings for record in each.records}

    stopped = rpc.server(name="stopped")
    with Worker(rpc.url, rpc.topic, "killed") as killed:
        for name in ("stopped", "killed"):
            assert rpc.client(server=name).call({}, "name") == name
            assert presence(name) is Presence.LISTENING
        # one after the other: after news of a topic, all of its servers are asked again
        stopped.stop()
        until(lambda: presence("stopped") is Presence.GONE, "it is gone")
        until(lambda: "stopped" not in known(), "Redis says so as well")
        killed.kill()
        until(lambda: presence("killed") is Presence.GONE, "it is gone")

    def epochs() -> set[str]:
        return {each.epoch for each in driver._directory._listings.values()}

    before = epochs()
    with redis.client() as client:
        client.client_kill_filter(_type="normal")
    until(lambda: not epochs() & before, "all is looked up over another connection")
    for name in ("stopped", "killed"):
        assert presence(name) is Presence.GONE
    assert presence("never seen") is Presence.ABSENT


def test_a_silent_proxy_is_noticed(rpc: Rpc, make_proxy: MakeProxy) -> None:
    service = Service()
    rpc.server(service)
    proxy = make_proxy()
    client = rpc.client(rpc.transport(idle_timeout=1, restart_timeout=20))
    assert client.call({}, "name") == "one"
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.call, {}, "wait")
        until(lambda: service.seen, "the call is at work")
        proxy.pause()
        with Stopwatch() as watch:
            assert isinstance(call.exception(60), errors.BusLost)
        assert watch.seconds < 1 + SOON
        service.gate.set()
        make_proxy()
        assert client.call({}, "name") == "one"


def test_proxies_that_are_stopped_finish_what_is_under_way(
    rpc: Rpc, make_proxy: MakeProxy
) -> None:
    """They may be restarted one by one, and no call fails."""
    rpc.server()
    proxies = [make_proxy(), make_proxy()]
    client = rpc.client(rpc.transport(restart_timeout=20))
    ended = threading.Event()

    def call_on() -> int:
        done = 0
        while not ended.is_set():
            assert client.call({}, "echo", value=done) == done
            done += 1
        return done

    with ThreadPoolExecutor(20) as pool:
        calling = [pool.submit(call_on) for _ in range(20)]
        try:
            for proxy in proxies:
                proxy.stop()
                make_proxy()
        finally:
            ended.set()
        assert all(each.result() for each in calling)


def test_known_servers_are_called_without_redis(
    rpc: Rpc, redis: Redis, make_proxy: MakeProxy
) -> None:
    service = Service()
    rpc.server(service)
    make_proxy()
    client = rpc.client()
    assert client.call({}, "name") == "one"
    rpc.client(fanout=True).cast({}, "echo", value="first")
    redis.pause()
    try:
        for number in range(20):
            assert client.call({}, "echo", value=number) == number
    finally:
        redis.resume()


# -- bounds ---------------------------------------------------------------------------


def test_a_stuck_server_holds_up_nobody_else(
    redis: Redis, rpc: Rpc, make_proxy: MakeProxy, capsys: Any
) -> None:
    """Its senders wait, and the proxy keeps no more of theirs than it may."""
    megabyte = 1024 * 1024
    make_proxy(max_message_size=4 * megabyte)
    rpc.server()
    client = rpc.client()
    stuck = rpc.client(topic=f"{rpc.topic}-stuck", timeout=60)
    text = "x" * megabyte
    with (
        Worker(rpc.url, f"{rpc.topic}-stuck") as worker,
        ThreadPoolExecutor(30) as pool,
    ):
        assert stuck.call({}, "size", value=text) == megabyte
        worker.signal(signal.SIGSTOP)
        calls = [pool.submit(stuck.call, {}, "size", value=text) for _ in range(30)]
        until(lambda: status(capsys, redis)[1][0]["busy"], "it takes no more")
        assert status(capsys, redis)[1][0]["waiting"] <= 4
        with Stopwatch() as watch:
            assert client.call({}, "size", value=text) == megabyte
        assert watch.seconds < SOON
        worker.signal(signal.SIGCONT)
        assert [call.result(60) for call in calls] == [megabyte] * 30
        worker.stop()
        assert len(worker.begun()) == 31


def test_senders_of_casts_wait_for_a_slow_server(
    rpc: Rpc, make_proxy: MakeProxy
) -> None:
    make_proxy()
    service = Service()
    rpc.server(service, workers=1, transport=rpc.transport(rpc_server_credit=2))
    client = rpc.client()
    sent: list[int] = []

    def cast() -> None:
        for number in range(10):
            client.cast({}, "wait", value=number)
            sent.append(number)

    thread = threading.Thread(target=cast)
    thread.start()
    until(lambda: len(sent) == 3, "one is at work and two wait")
    assert service.seen == [0]
    service.gate.set()
    thread.join(30)
    until(lambda: service.seen == list(range(10)), "all have arrived, in order")


def test_strangers_change_nothing(
    redis: Redis, rpc: Rpc, make_proxy: MakeProxy, capsys: Any
) -> None:
    endpoint = make_proxy().endpoint
    service = Service()
    rpc.server(service)
    client = rpc.client()
    assert client.call({}, "name") == "one"
    host, port = endpoint.removeprefix("tcp://").split(":")
    for _ in range(30):
        with socket.create_connection((host, int(port)), 10) as stranger:
            stranger.sendall(random.randbytes(2000))
    topic = matchmaker.topic(None, "openstack", rpc.topic)
    addresses = [
        b"",
        b"nobody",
        b"\xff\xfe/a/b/c/d",
        b"a/b/c/d/e",
        b"a/*/b/c/d/e",
        f"a/*/{topic}/one".encode(),
        f"none/{topic}/one".encode(),
        b"/" * 1000,
    ]
    context: zmq.Context[Any] = zmq.Context()
    with context, context.socket(zmq.DEALER) as stranger:
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(endpoint)
        answered = set()
        for number, address in enumerate(addresses):
            stranger.send(random.randbytes(200))
            stranger.send_multipart([b"two", b"frames"])
            stranger.send(wire.request(wire.CALL, number, address, b"{}"))
        while len(answered) < len(addresses):
            assert stranger.poll(20_000), answered
            answer = wire.read_answer(stranger.recv())
            assert answer.kind == wire.NOBODY
            answered.add(answer.id)
    assert client.call({}, "echo", value="still there") == "still there"
    assert service.seen == ["still there"]
    assert status(capsys, redis)[1][0]["waiting"] == 0


def test_targets_that_nobody_serves_are_not_watched_without_bound(
    redis: Redis, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reaches a proxy without keys may ask for what he likes."""
    monkeypatch.setattr(directory, "MOST_IN_VAIN", 5)
    driver: Any = rpc.transport(redis.url())._driver
    proxy = driver.proxy()
    endpoint = proxy.start()
    context: zmq.Context[Any] = zmq.Context()
    try:
        with context, context.socket(zmq.DEALER) as stranger:
            stranger.setsockopt(zmq.LINGER, 0)
            stranger.connect(endpoint)
            for number in range(100):
                topic = matchmaker.topic(None, "openstack", f"made-up-{number}")
                address = f"none/{topic}/one".encode()
                stranger.send(wire.request(wire.CALL, number, address, b"{}"))
            for _ in range(100):
                assert stranger.poll(20_000)
                assert wire.read_answer(stranger.recv()).kind == wire.NOBODY
        until(lambda: len(proxy.directory._listings) <= 5, "few are watched")
        assert proxy.client.routes._routes == {}
    finally:
        proxy.stop()


def test_a_flood_of_made_up_targets_has_no_effect(
    redis: Redis, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others go on calling, also whom they have not called before; nothing is kept."""
    monkeypatch.setattr(directory, "IN_VAIN", 0.1)
    monkeypatch.setattr(zmq_proxy, "_SEARCHED", 50)
    driver: Any = rpc.transport(redis.url())._driver
    proxy = driver.proxy()
    endpoint = proxy.start()
    most = 0
    look_up = proxy.directory._matchmaker.read

    def read(topics: list[str]) -> Any:
        nonlocal most
        most = max(most, len(topics))
        return look_up(topics)

    monkeypatch.setattr(proxy.directory._matchmaker, "read", read)
    rpc.server()
    client = rpc.client(timeout=60)
    context: zmq.Context[Any] = zmq.Context()
    try:
        assert client.call({}, "name") == "one"
        with context, context.socket(zmq.DEALER) as stranger:
            stranger.setsockopt(zmq.LINGER, 0)
            stranger.setsockopt(zmq.SNDHWM, 0)
            stranger.connect(endpoint)
            for number in range(5000):
                # also some that nobody waits for any more, and some that are fanouts
                address = f"none//openstack/made-up-{number}/one"
                if number % 2:
                    address = f"{proxy._server.process}/*//openstack/made-up-{number}/x"
                ttl = number % 3 * 1000
                stranger.send(
                    wire.request(wire.CALL, number, address.encode(), b"{}", ttl)
                )
            assert client.call({}, "name") == "one"
            rpc.server(topic=f"{rpc.topic}-new")
            new = rpc.client(topic=f"{rpc.topic}-new", timeout=60)
            assert new.call({}, "name") == "one"
            stranger.send(wire.request(wire.CALL, 5000, b"nobody"))
            answers = [wire.read_answer(stranger.recv())]
            while answers[-1].id != 5000:
                assert stranger.poll(60_000)
                answers.append(wire.read_answer(stranger.recv()))
        kinds = {answer.kind for answer in answers}
        # a fanout that nobody listens to is taken
        assert kinds <= {wire.NOBODY, wire.TAKEN, wire.BUSY, wire.ROOM}
        assert wire.BUSY in kinds
        assert most < 500
        watched = proxy.directory._listings
        until(
            lambda: not any("made-up" in topic for topic in list(watched)),
            "only what has had servers is watched",
            60,
        )
        routes = proxy.client.routes
        assert not any("made-up" in topic for topic, _ in routes._routes)
        assert not routes._patience._missing
        assert not proxy._passing
    finally:
        proxy.stop()


def test_what_is_no_proxy_is_told(redis: Redis, capsys: Any) -> None:
    """Somebody has registered as one, and answers as he likes."""
    answers = [
        {"response": None},
        {"response": {"version": "\x1b[2J", "started": "yesterday"}},
        {"response": {"started": 1e300}},
        {"failure": json.dumps({"class": "E", "message": "\x1b[2J" * 1000})},
    ]
    key = "hybrid-messaging:zmq:servers:proxy"
    context: zmq.Context[Any] = zmq.Context()
    with context, context.socket(zmq.ROUTER) as rogue, redis.client() as admin:
        rogue.setsockopt(zmq.LINGER, 0)
        port = rogue.bind_to_random_port("tcp://127.0.0.1")
        record = json.dumps(["rogue\x1b[2J", f"tcp://127.0.0.1:{port}", "p", ""])
        admin.delete(key)
        admin.zadd(key, {record: 2**40})

        def tell(answer: Any) -> None:
            assert rogue.poll(60_000)
            routing_id, frame = rogue.recv_multipart()
            id, body = wire.read_request(frame).id, json.dumps(answer).encode()
            rogue.send_multipart([routing_id, wire.answer(wire.REPLY, id, body)])

        with ThreadPoolExecutor(1) as pool:
            for answer in answers:
                telling = pool.submit(tell, answer)
                code, (row,) = status(capsys, redis)
                telling.result(60)
                assert (code, row["status"], row["version"]) == (1, "silent", None)
                assert row["proxy"] == "rogue\\x1b[2J"
        admin.delete(key)


# -- what it costs -----------------------------------------------------------


def test_connections_to_many_are_the_proxys() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", ROOT / "tools" / "zmq_footprint.py"),
            *("--proxy", "--peers", "3", "--json"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = [(row["process"], row["connections"]) for row in json.loads(done.stdout)]
    proxy = ("its proxy", 4)
    assert found == [("client", 1), proxy, ("server", 1), proxy]
