# SPDX-License-Identifier: Apache-2.0
"""How clients of `zmq` find servers, and what becomes of them without Redis."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import oslo_messaging
import pytest
from oslo_messaging import MessagingTimeout
from tests.functional.certificates import Authority
from tests.functional.matchmakers import Redis, Sentinel
from tests.functional.routers import HOST, free_port
from tests.functional.rpc import Rpc, configuration
from tests.functional.service import Service
from tests.functional.waiting import Stopwatch, until
from tests.functional.worker import Worker

from hybrid_messaging.drivers import errors, logs
from hybrid_messaging.drivers.zmq import directory, matchmaker

MakeRedis = Callable[..., Redis]


@pytest.fixture
def make_redis(tmp_path: Path) -> Iterator[MakeRedis]:
    made: list[Redis] = []

    def make(*settings: str, kind: type[Redis] = Redis, port: int = 0) -> Redis:
        directory = tmp_path / f"redis-{len(made)}"
        directory.mkdir()
        made.append(kind(directory, *settings, port=port))
        return made[-1].start()

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def redis(make_redis: MakeRedis) -> Redis:
    return make_redis()


@pytest.fixture
def rpc(redis: Redis) -> Iterator[Rpc]:
    with Rpc(redis.url()) as talk:
        yield talk


def servers(redis: Redis, topic: str) -> list[str]:
    """What Redis holds of the servers of a topic."""
    with redis.client() as client:
        found = client.zrange(f"hybrid-messaging:zmq:servers:/openstack/{topic}", 0, -1)
    return list(found)


def key_of(topic: str, kind: str = "servers") -> str:
    """The key in Redis of something that belongs to a topic."""
    return f"hybrid-messaging:zmq:{kind}:/openstack/{topic}"


def answers(client: Any) -> bool:
    try:
        client.call({}, "name")
    except oslo_messaging.MessagingException:
        return False
    return True


# -- what Redis holds ----------------------------------------------------


def test_servers_that_stop_leave_nothing_behind(redis: Redis, rpc: Rpc) -> None:
    server = rpc.server()
    assert len(servers(redis, rpc.topic)) == 1
    server.stop()
    assert servers(redis, rpc.topic) == []
    with redis.client() as client:
        assert all(client.ttl(key) > 0 for key in client.keys(f"*{rpc.topic}"))


def test_servers_that_die_are_forgotten(redis: Redis, rpc: Rpc) -> None:
    url = redis.url(zmq_target_expire=3, zmq_target_update=1)
    with Worker(url, rpc.topic) as dying:
        dying.kill()
    assert len(servers(redis, rpc.topic)) == 1
    topic = matchmaker.topic(None, "openstack", rpc.topic)
    reader: Any = rpc.transport()._driver
    maker = reader._open_matchmaker()
    until(lambda: not maker.read([topic])[topic].records, "its time is up")
    maker.close()


def test_servers_that_live_are_remembered(redis: Redis, rpc: Rpc) -> None:
    rpc.server(transport=rpc.transport(zmq_target_expire=3, zmq_target_update=1))
    with redis.client() as client:
        key = f"hybrid-messaging:zmq:servers:/openstack/{rpc.topic}"
        ((_, first),) = client.zrange(key, 0, -1, withscores=True)
        until(
            lambda: client.zrange(key, 0, -1, withscores=True)[0][1] > first + 3,
            "it has been renewed for longer than it was written for",
        )
    assert rpc.client().call({}, "name") == "one"


def test_calls_ask_nothing_of_redis(redis: Redis, rpc: Rpc) -> None:
    rpc.server()
    client = rpc.client()
    client.call({}, "name")
    with redis.client() as own, Stopwatch() as watch:
        before = own.info("stats")["total_commands_processed"]
        for number in range(500):
            assert client.call({}, "echo", value=number) == number
        after = own.info("stats")["total_commands_processed"]
    # a few a second, however many calls there are
    assert after - before < 50 + 20 * watch.seconds


# -- Redis is away -------------------------------------------------------


def test_known_servers_are_called_without_redis(redis: Redis, rpc: Rpc) -> None:
    service = Service()
    rpc.server(service)
    client = rpc.client()
    assert client.call({}, "name") == "one"
    redis.kill()
    for number in range(20):
        assert client.call({}, "echo", value=number) == number
    client.cast({}, "echo", value="cast")
    rpc.client(fanout=True).cast({}, "echo", value="fanout")
    until(lambda: service.seen[-2:] == ["cast", "fanout"], "both have arrived")


def test_silent_redis_delays_no_call_to_known_servers(redis: Redis, rpc: Rpc) -> None:
    rpc.server()
    client = rpc.client()
    assert client.call({}, "name") == "one"
    redis.pause()
    with Stopwatch() as watch:
        for number in range(200):
            assert client.call({}, "echo", value=number) == number
    redis.resume()
    assert watch.seconds < 40


def test_unknown_servers_are_not_found_without_redis(redis: Redis, rpc: Rpc) -> None:
    redis.stop()
    with Stopwatch() as watch, pytest.raises(MessagingTimeout) as caught:
        rpc.client(timeout=1).call({}, "name")
    assert isinstance(caught.value, errors.BusUnavailable)
    assert str(redis.port) in str(caught.value)
    assert 1 <= watch.seconds < 40
    with Stopwatch() as watch, pytest.raises(errors.BusUnavailable):
        rpc.client(retry=0).call({}, "name")
    assert watch.seconds < 40


@pytest.mark.parametrize("method", ["call", "cast"])
def test_servers_and_clients_wait_for_redis(
    redis: Redis, rpc: Rpc, method: str
) -> None:
    redis.stop()
    service = Service()
    rpc.server(service)
    redis.start()
    until(lambda: servers(redis, rpc.topic), "the server is known")
    getattr(rpc.client(), method)({}, "echo", value=1)
    until(lambda: service.seen == [1], "it has arrived")


def test_redis_that_has_forgotten_is_told_again(redis: Redis, rpc: Rpc) -> None:
    rpc.server()
    assert rpc.client().call({}, "name") == "one"
    with redis.client() as client:
        client.flushall()
    until(lambda: servers(redis, rpc.topic), "the server is known again")
    redis.kill()
    redis.start()
    until(lambda: servers(redis, rpc.topic), "the server is known again")
    assert rpc.client(rpc.transport()).call({}, "name") == "one"


def test_fanouts_reach_servers_that_redis_has_forgotten(redis: Redis, rpc: Rpc) -> None:
    service = Service()
    rpc.server(service)
    fanout = rpc.client(rpc.transport(), fanout=True)
    fanout.cast({}, "echo", value=1)
    until(lambda: service.seen == [1], "it has arrived")
    with redis.client() as client:
        client.flushall()
    fanout.cast({}, "echo", value=2)
    until(lambda: service.seen == [1, 2], "it has arrived")


def test_a_server_registers_anew_where_another_redis_may_be(
    redis: Redis, rpc: Rpc
) -> None:
    """A replica that takes over has the epoch, and may lack the last registrations."""
    rpc.server(transport=rpc.transport(zmq_target_update=3600, zmq_target_expire=7200))
    with redis.client() as client:
        client.delete(key_of(rpc.topic))
        client.client_kill_filter(_type="normal", skipme=True)
    until(lambda: servers(redis, rpc.topic), "the server is known again", 60)


def test_a_server_that_redis_forgets_is_called_while_it_is_connected(
    redis: Redis, rpc: Rpc
) -> None:
    """It may be the only one that cannot reach Redis."""
    service = Service()
    server = rpc.server(
        service, transport=rpc.transport(zmq_target_update=3600, zmq_target_expire=7200)
    )
    transport = rpc.transport(restart_timeout=0)
    client = rpc.client(transport)
    assert client.call({}, "name") == "one"
    with redis.client() as direct:
        direct.delete(key_of(rpc.topic))
        direct.set(key_of(rpc.topic, "version"), "changed")
    until(
        lambda: rpc_listing(client, rpc.topic).version == "changed",
        "the client has seen that",
        60,
    )
    assert not rpc_listing(client, rpc.topic).records
    assert client.call({}, "name") == "one"
    rpc.client(transport, fanout=True).cast({}, "echo", value=1)
    until(lambda: service.seen == [1], "the fanout has arrived")
    server.stop()
    with pytest.raises(errors.TargetUnreachable):
        client.call({}, "name")


# -- Redis takes no writes ---------------------------------------------------


def no_writes(redis: Redis, how: str) -> None:
    with redis.client() as client:
        if how == "full":
            client.config_set("maxmemory", 1)
        else:
            client.config_set("min-replicas-to-write", 1)


def writes(redis: Redis) -> None:
    with redis.client() as client:
        client.config_set("maxmemory", 0)
        client.config_set("min-replicas-to-write", 0)


@pytest.mark.parametrize("how", ["full", "without replicas"])
def test_new_clients_find_servers_where_nobody_can_write(
    redis: Redis, rpc: Rpc, how: str
) -> None:
    rpc.server()
    no_writes(redis, how)
    assert rpc.client(retry=0).call({}, "name") == "one"


def test_clients_need_no_right_to_write(redis: Redis, rpc: Rpc) -> None:
    rpc.server()
    with redis.client() as client:
        client.execute_command(
            "ACL SETUSER reader on >secret ~hybrid-messaging:* +@read +@connection"
            " +time"
        )
    reader = rpc.transport(redis.url(username="reader", password="secret"))
    assert rpc.client(reader, retry=0).call({}, "name") == "one"


def test_servers_stay_known_to_a_redis_that_is_full(
    redis: Redis, rpc: Rpc, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes no renewals; that is told once, and once that it does again."""
    caplog.set_level(logging.INFO)
    rpc.server(transport=rpc.transport(zmq_target_expire=3, zmq_target_update=1))
    no_writes(redis, "full")
    with redis.client() as client:
        key = f"hybrid-messaging:zmq:servers:/openstack/{rpc.topic}"
        ((_, due),) = client.zrange(key, 0, -1, withscores=True)
        until(lambda: client.time()[0] > due + 2, "it is overdue")
        assert servers(redis, rpc.topic)
        assert rpc.client(rpc.transport(), retry=0).call({}, "name") == "one"
        writes(redis)
        until(
            lambda: client.zrange(key, 0, -1, withscores=True)[0][1] > due,
            "it has been renewed",
        )
    until(lambda: "accepts registrations again" in told(caplog), "that is told")
    assert told(caplog).count("accepts no registrations") == 1
    assert told(caplog).count("accepts registrations again") == 1


def test_servers_register_once_redis_can_be_written(redis: Redis, rpc: Rpc) -> None:
    no_writes(redis, "without replicas")
    rpc.server()
    assert servers(redis, rpc.topic) == []
    writes(redis)
    assert rpc.client().call({}, "name") == "one"


# -- Redis says odd things ------------------------------------------------------


def test_what_is_no_server_is_passed_over(
    redis: Redis, rpc: Rpc, caplog: pytest.LogCaptureFixture
) -> None:
    rpc.server()
    good = json.loads(servers(redis, rpc.topic)[0])
    server, endpoint, process, _ = good
    damaged = [
        b"\xff\xfe",
        b"[" * 100_000,
        *(
            json.dumps(each).encode()
            for each in (
                None,
                {},
                [server],
                [server, endpoint, process, "", ""],
                [server, endpoint, process, 1],
                [server, endpoint, process, "short"],
                [server, endpoint, f"{process}/", ""],
                [server, endpoint, "p" * 70_000, ""],
                [server, endpoint, "\ud800", ""],
                [server, endpoint, process, "\ud800" * 40],
                ["\ud800", endpoint, process, ""],
                ["x" * 70_000, endpoint, process, ""],
                dict.fromkeys(good[:3], ""),
                [server, "tcp://host", process, ""],
                [server, f"{endpoint}/path", process, ""],
                [server, "tcp://\ud800:1", process, ""],
                [server, f"tcp://{'h' * 300}:1", process, ""],
                [server, "tcp://[::1:1", process, ""],
            )
        ),
    ]
    key = key_of(rpc.topic)
    with redis.client() as admin:
        admin.zadd(key, dict.fromkeys(damaged, 2**40))
        client = rpc.client()
        fanout = rpc.client(fanout=True)
        for number in range(3):
            assert client.call({}, "name") == "one"
            fanout.cast({}, "echo", value=1)
            # more of it is not told of again
            admin.zadd(key, {f"junk {number}": 2**40})
    (line,) = (each for each in told(caplog).splitlines() if "not servers" in each)
    assert f"{len(damaged)} members" in line
    assert len(line) < 500


def test_junk_is_looked_at_once(
    redis: Redis, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty thousand pieces of it hide no server, and cost little."""
    rpc.server()
    junk = {f"junk {number}": 2**40 for number in range(20_000)}
    with redis.client() as admin:
        admin.zadd(key_of(rpc.topic), junk)
    looks = 0
    read = matchmaker._record

    def look(topic: str, text: str) -> matchmaker.Record:
        nonlocal looks
        looks += 1
        return read(topic, text)

    monkeypatch.setattr(matchmaker, "_record", look)
    client = rpc.client()
    fanout = rpc.client(fanout=True)
    assert client.call({}, "name") == "one"
    assert 0 < looks <= len(junk) + 1
    once = looks
    for _ in range(5):
        fanout.cast({}, "echo", value=1)  # asks each time
    assert looks == once


def junk_that_is_due_first(redis: Redis, rpc: Rpc, count: int) -> None:
    """Members of a topic's set that are to be kept, but not as long as its servers."""
    with redis.client() as admin:
        due = admin.time()[0] + 10
        for first in range(0, count, 10_000):
            some = range(first, min(count, first + 10_000))
            admin.zadd(key_of(rpc.topic), {f"junk {each}": due for each in some})


def test_junk_that_is_due_first_hides_no_server(redis: Redis, rpc: Rpc) -> None:
    rpc.server()
    junk_that_is_due_first(redis, rpc, 30_000)
    assert rpc.client().call({}, "name") == "one"


def test_a_look_is_bounded_and_the_next_one_goes_on(
    redis: Redis, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members that nobody could read in one go do not hide a server either."""
    monkeypatch.setattr(matchmaker, "PAGE", 100)
    monkeypatch.setattr(matchmaker, "PAGES", 2)
    rpc.server()
    junk_that_is_due_first(redis, rpc, 5000)
    driver: Any = rpc.transport()._driver
    reader = driver._open_matchmaker()
    topic = matchmaker.topic(None, "openstack", rpc.topic)
    asked: list[int] = []
    scan = matchmaker.RedisMatchmaker._scan

    def count(pipe: Any, name: str, cursor: int) -> None:
        asked.append(cursor)
        scan(pipe, name, cursor)

    monkeypatch.setattr(matchmaker.RedisMatchmaker, "_scan", staticmethod(count))

    def look() -> tuple[matchmaker.Record, ...]:
        asked.clear()
        records: tuple[matchmaker.Record, ...] = reader.read([topic])[topic].records
        assert len(asked) <= 2
        return records

    until(look, "the server is found")
    # what has been found stays, wherever the looks that follow are at
    assert all(len(look()) == 1 for _ in range(60))
    with redis.client() as admin:
        admin.zremrangebyrank(key_of(rpc.topic), 0, 4999)
    until(lambda: look() and not reader._crowds, "one look is enough again")
    reader.close()


def test_of_too_many_servers_those_are_used_that_are_due_first(
    redis: Redis, rpc: Rpc, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    monkeypatch.setattr(matchmaker, "MOST_SERVERS", 5)
    rpc.server()
    good = json.loads(servers(redis, rpc.topic)[0])
    with redis.client() as admin:
        forged = [json.dumps([f"s{number}", *good[1:]]) for number in range(20)]
        admin.zadd(key_of(rpc.topic), dict.fromkeys(forged, 2**40))
    client = rpc.client()
    until(lambda: answers(client), "the true one is among them")
    assert len(rpc_listing(client, rpc.topic).records) == 5
    assert told(caplog).count("too many servers") == 1


def test_one_topic_that_is_damaged_harms_no_other(
    redis: Redis, rpc: Rpc, caplog: pytest.LogCaptureFixture
) -> None:
    """One process serves both; the damage ends by itself."""
    broken = f"{rpc.topic}-x"
    with redis.client() as admin:
        for kind in ("servers", "version"):
            admin.lpush(key_of(broken, kind), 1)
    clients = rpc.transport(restart_timeout=0)
    for topic in (rpc.topic, broken):  # are known before there are servers
        with pytest.raises(errors.TargetUnreachable):
            rpc.client(clients, topic=topic).call({}, "name")
    serving = rpc.transport(zmq_target_expire=3, zmq_target_update=1)
    for topic in (broken, rpc.topic):
        rpc.server(topic=topic, transport=serving)
    until(lambda: answers(rpc.client(clients)), "others hear of their servers")
    until(
        lambda: answers(rpc.client(clients, topic=broken)),
        "the damage has been forgotten",
        60,
    )
    for each in ("accepts no registrations", "is away"):
        assert each not in told(caplog)
    # by the process of the server, and by that of the client
    assert told(caplog).count("wrong type") <= 2


def test_clock_of_redis_that_is_set(
    redis: Redis, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By minutes: to Redis, all registrations are out of date then.

    It is our own clock that is set here, which comes to the same.
    """
    behind = 0.0
    monkeypatch.setattr(
        matchmaker,
        "time",
        SimpleNamespace(monotonic=lambda: time.monotonic() - behind),
    )
    service = Service()
    slowly = rpc.transport(zmq_target_expire=1000, zmq_target_update=900)
    rpc.server(service, transport=slowly)
    fanout = rpc.client(rpc.transport(), fanout=True)
    fanout.cast({}, "echo", value=1)
    until(lambda: service.seen == [1], "it has arrived")
    with redis.client() as client:
        # both at once, as when the clock is set
        behind = 1200.0
        client.delete(f"hybrid-messaging:zmq:servers:/openstack/{rpc.topic}")
    fanout.cast({}, "echo", value=2)
    until(lambda: service.seen == [1, 2], "it has arrived")
    until(lambda: servers(redis, rpc.topic), "the server is known again", 60)


# -- what is told while Redis is away ------------------------------------------


def told(caplog: pytest.LogCaptureFixture) -> str:
    assert logs.flush(60)
    return caplog.text


def test_an_outage_is_told_once(
    redis: Redis, rpc: Rpc, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    redis.stop()
    for _ in range(3):
        with pytest.raises(errors.BusUnavailable):
            rpc.client(timeout=1).call({}, "name")
    # also while nobody asks: it takes some rounds to get that wrong
    time.sleep(3 * directory.WATCH_INTERVAL)
    assert told(caplog).count("The matchmaker does not answer") == 1
    assert "is back" not in told(caplog)
    redis.start()
    until(lambda: "is back" in told(caplog), "it is back")
    lines = [each for each in caplog.records if "directory" in each.name]
    assert [each.levelname for each in lines] == ["WARNING", "INFO"]


def test_many_callers_do_not_hammer_a_redis_that_is_away(rpc: Rpc) -> None:
    attempts = []
    with socket.create_server((HOST, 0)) as refusing:

        def refuse() -> None:
            while True:
                try:
                    connection, _ = refusing.accept()
                except OSError:
                    return
                attempts.append(time.monotonic())
                connection.close()

        thread = threading.Thread(target=refuse)
        thread.start()
        url = f"zmq://{HOST}:{refusing.getsockname()[1]}/"
        client = rpc.client(rpc.transport(url), timeout=2)

        def call(_: int) -> None:
            with pytest.raises(errors.BusUnavailable):
                client.call({}, "name")

        with Stopwatch() as watch, ThreadPoolExecutor(20) as pool:
            list(pool.map(call, range(20)))
        refusing.shutdown(socket.SHUT_RDWR)
    thread.join()
    # each attempt is made twice at most
    assert len(attempts) <= 2 + 2 * watch.seconds / directory.RETRY_INTERVAL


@pytest.mark.parametrize("how", ["refuses", "answers with errors"])
def test_callers_do_not_spin_while_redis_is_of_no_use(
    make_redis: MakeRedis, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look-up that has failed wakes them, and they ask again."""
    asked = 0
    ask = directory.Directory.ask

    def count(self: directory.Directory, topic: str, waiter: Any) -> None:
        nonlocal asked
        asked += 1
        ask(self, topic, waiter)

    monkeypatch.setattr(directory.Directory, "ask", count)
    redis = make_redis(*(["requirepass secret"] if how != "refuses" else []))
    if how == "refuses":
        redis.stop()
    with Rpc(redis.url()) as rpc:
        client = rpc.client(timeout=3)
        with Stopwatch() as watch, pytest.raises(errors.BusUnavailable):
            client.call({}, "name")
        # some four times an interval at most; without a pause, they would be thousands
        assert asked <= 2 + 4 * watch.seconds / directory.RETRY_INTERVAL


def test_ends_that_come_after_the_transport_wait_for_nobody(
    redis: Redis, rpc: Rpc
) -> None:
    transport = rpc.transport()
    running = [rpc.server(transport=transport, topic=f"{rpc.topic}-{n}") for n in "abc"]
    transport.cleanup()
    until(
        lambda: not any(servers(redis, f"{rpc.topic}-{n}") for n in "abc"),
        "they have gone in order",
    )
    redis.pause()
    with Stopwatch() as watch:
        for server in running:
            server.stop()
    redis.resume()
    assert watch.seconds < 2 * directory.PATIENCE


def test_closing_waits_for_no_redis(redis: Redis, rpc: Rpc) -> None:
    transport = rpc.transport()
    rpc.server(transport=transport)
    redis.pause()
    with Stopwatch() as watch:
        transport.cleanup()
    redis.resume()
    assert watch.seconds < directory.PATIENCE


# -- changes ---------------------------------------------------------------


def test_new_servers_join_in(rpc: Rpc) -> None:
    rpc.server(name="one")
    client = rpc.client()
    assert client.call({}, "name") == "one"
    rpc.server(name="two")
    until(lambda: client.call({}, "name") == "two", "the new one is called, too")


def test_server_that_comes_back_on_another_port_is_found(rpc: Rpc) -> None:
    with Worker(rpc.url, rpc.topic, "first") as first:
        client = rpc.client(rpc.transport(restart_timeout=90), timeout=90)
        assert client.call({}, "name") == "first"
        first.kill()
    with Worker(rpc.url, rpc.topic, "second"), Stopwatch() as watch:
        assert client.call({}, "name") == "second"
    assert watch.seconds < 40


def test_another_process_on_the_port_of_a_dead_one(redis: Redis, rpc: Rpc) -> None:
    """What Redis still says of the dead one is not taken for the living one."""
    port = free_port()
    url = redis.url(rpc_zmq_min_port=port, rpc_zmq_max_port=port)
    client = rpc.client()
    with Worker(url, rpc.topic, "first") as first:
        assert client.call({}, "name") == "first"
        first.kill()
    with Worker(url, rpc.topic, "second"):
        assert len(servers(redis, rpc.topic)) == 2
        assert [client.call({}, "name") for _ in range(10)] == ["second"] * 10
        hasty = rpc.client(rpc.transport(restart_timeout=1), server="first")
        with pytest.raises(errors.TargetUnreachable):
            hasty.call({}, "name")


def test_clients_that_were_idle_for_long_hear_of_new_servers(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has watched the topic for them meanwhile."""
    monkeypatch.setattr(directory, "WATCHED", 0.5)
    rpc.server(name="one")
    client = rpc.client()
    assert client.call({}, "name") == "one"
    until(lambda: rpc_listing(client, rpc.topic) is None, "it is watched no more")
    monkeypatch.undo()
    rpc.server(name="two")
    assert rpc_listing(client, rpc.topic) is None
    until(lambda: client.call({}, "name") == "two", "the new one is called, too")


def test_server_that_was_stopped_for_long_is_found_again(
    redis: Redis, rpc: Rpc
) -> None:
    """By a client that knows the topic: its registration was over meanwhile."""
    url = redis.url(zmq_target_expire=3, zmq_target_update=1, idle_timeout=2)
    rpc.server(Service("stays"), name="stays", transport=rpc.transport(url))
    client = rpc.client(rpc.transport(url), timeout=60)
    with Worker(url, rpc.topic, "sleeps") as worker:
        until(lambda: len(servers(redis, rpc.topic)) == 2, "both are known")
        until(lambda: client.call({}, "name") == "sleeps", "both are called")
        worker.signal(signal.SIGSTOP)
        until(lambda: len(servers(redis, rpc.topic)) == 1, "it is forgotten", 60)
        listing = lambda: rpc_listing(client, rpc.topic)  # noqa: E731
        until(lambda: len(listing().records) == 1, "the client has heard of that", 60)
        worker.signal(signal.SIGCONT)
        until(lambda: client.call({}, "name") == "sleeps", "it is called again", 60)


def rpc_listing(client: Any, topic: str) -> Any:
    """What the process of a client knows of a topic."""
    known = client.transport._driver._directory.known
    return known(matchmaker.topic(None, "openstack", topic))


# -- how servers are reached -------------------------------------------------


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Addresses by names; a name without any is one that nobody answers for."""
    known: dict[str, list[str]] = {}
    resolve = socket.getaddrinfo

    def look_up(host: str, port: Any, *arguments: Any, **how: Any) -> Any:
        if host not in known:
            return resolve(host, port, *arguments, **how)
        if not known[host]:
            time.sleep(100)
        return [each for ip in known[host] for each in resolve(ip, port, **how)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


def test_names_that_take_long_keep_no_calls_waiting(
    rpc: Rpc, tmp_path: Path, hosts: dict[str, list[str]]
) -> None:
    hosts.update(dead1=[], dead2=[], dead3=[])
    file = tmp_path / "servers"
    file.write_text(
        f"openstack {rpc.topic} one {HOST}:{free_port()}\n"
        + "".join(f"openstack {rpc.topic} {name} {name}:1\n" for name in hosts)
    )
    url = f"zmq+static:///?zmq_static_file={file}"
    rpc.server(transport=rpc.transport(url))
    client = rpc.client(rpc.transport(url))
    with Stopwatch() as watch:
        for _ in range(20):
            assert client.call({}, "name") == "one"
    assert watch.seconds < 60


def test_all_addresses_of_a_name_are_tried(
    redis: Redis, rpc: Rpc, hosts: dict[str, list[str]]
) -> None:
    """Its first one is of a kind that the server does not listen on."""
    hosts["host.test"] = ["::1", "127.0.0.9", HOST]
    rpc.server(transport=rpc.transport(redis.url(rpc_zmq_host="host.test")))
    assert rpc.client().call({}, "name") == "one"


def test_another_name_for_the_port_of_a_dead_one(redis: Redis, rpc: Rpc) -> None:
    """The connection that the dead one's name leads to is not in the way."""
    port = free_port()
    range_ = {"rpc_zmq_min_port": port, "rpc_zmq_max_port": port}
    client = rpc.client()
    with Worker(
        redis.url(rpc_zmq_host="localhost", **range_), rpc.topic, "first"
    ) as first:
        assert client.call({}, "name") == "first"
        first.kill()
    driver: Any = rpc.default._driver
    transport = rpc.transport(redis.url(rpc_zmq_host=HOST, **range_))
    rpc.server(topic=f"{rpc.topic}-other", transport=transport)
    peers = driver._client.routes.peers
    until(lambda: [each.up for each in peers()] == [True], "the old name leads there")
    rpc.server(Service("second"), transport=transport)
    assert len(servers(redis, rpc.topic)) == 2
    assert [client.call({}, "name") for _ in range(10)] == ["second"] * 10


def test_silent_server_is_given_up(redis: Redis, rpc: Rpc) -> None:
    """Its host has vanished: nothing closes its connection."""
    with Worker(rpc.url, rpc.topic) as worker:
        client = rpc.client(rpc.transport(idle_timeout=2))
        assert client.call({}, "name") == "worker"
        worker.signal(signal.SIGSTOP)
        with Stopwatch() as watch, pytest.raises(errors.ServerLost):
            client.call({}, "name")
        assert watch.seconds < 40


# -- how Redis is reached ----------------------------------------------------


def test_password(make_redis: MakeRedis) -> None:
    redis = make_redis("requirepass s3/cr:et@")
    with Rpc(redis.url(username="", password="s3/cr:et@")) as rpc:
        rpc.server()
        assert rpc.client().call({}, "name") == "one"
        wrong = rpc.transport(redis.url(username="", password="wr0ng"))
        with pytest.raises(errors.BusUnavailable) as caught:
            rpc.client(wrong, retry=0).call({}, "name")
    assert "password" in str(caught.value)
    assert "wr0ng" not in str(caught.value)


def test_user_of_an_access_control_list(make_redis: MakeRedis) -> None:
    """The rights that the documentation names suffice."""
    redis = make_redis(
        "user default off",
        "user messaging on >secret ~hybrid-messaging:* +@sortedset +@string"
        " +@keyspace +@connection +time -@dangerous",
    )
    with Rpc(redis.url(username="messaging", password="secret")) as rpc:
        server = rpc.server()
        assert rpc.client().call({}, "name") == "one"
        server.stop()
        with pytest.raises(errors.TargetUnreachable):
            rpc.client(rpc.transport(restart_timeout=0)).call({}, "name")


def test_tls(make_redis: MakeRedis, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("redis", "localhost")
    plain, port = free_port(), free_port()
    make_redis(
        f"tls-port {port}",
        f"tls-cert-file {own.certificate}",
        f"tls-key-file {own.key}",
        f"tls-ca-cert-file {authority.certificate}",
        "tls-auth-clients no",
        port=plain,
    )
    url = f"zmq://localhost:{port}/?rpc_zmq_bind_address={HOST}"

    def transport(rpc: Rpc, ca: Path) -> oslo_messaging.Transport:
        conf = configuration()
        made = rpc.transport(url, conf=conf)
        conf.set_override("ssl_ca_file", str(ca), "matchmaker_redis")
        return made

    with Rpc(url) as rpc:
        rpc.server(transport=transport(rpc, authority.certificate))
        client = rpc.client(transport(rpc, authority.certificate))
        assert client.call({}, "name") == "one"
        stranger = tmp_path / "stranger"
        stranger.mkdir()
        distrusting = transport(rpc, Authority(stranger).certificate)
        with pytest.raises(errors.BusUnavailable, match="certificate"):
            rpc.client(distrusting, retry=0).call({}, "name")


def test_sentinels_name_the_master(make_redis: MakeRedis) -> None:
    first = make_redis()
    second = make_redis(
        f"replicaof {HOST} {first.port}", "replica-serve-stale-data yes"
    )
    sentinel = make_redis(*watching(first), kind=Sentinel)
    await_replica(second, sentinel)
    with Rpc(sentinel.url()) as rpc:
        service = Service()
        rpc.server(service)
        client = rpc.client()
        assert client.call({}, "name") == "one"
        first.kill()
        assert client.call({}, "name") == "one"
        until(lambda: second_is_master(second), "the Sentinel has failed over", 120)
        rpc.server(topic=f"{rpc.topic}-new")
        until(lambda: servers(second, f"{rpc.topic}-new"), "the new master is told", 60)
        late = rpc.client(rpc.transport(), topic=f"{rpc.topic}-new")
        until(lambda: answers(late), "new clients find new servers")


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """The port of a server that accepts connections and answers nothing."""
    with socket.create_server((HOST, 0)) as listening:
        yield listening.getsockname()[1]


def test_servers_leave_a_master_that_hangs_when_sentinels_name_another(
    make_redis: MakeRedis,
) -> None:
    """However long an answer may take, and though a Sentinel hangs, too."""
    first = make_redis()
    second = make_redis(f"replicaof {HOST} {first.port}")
    sentinel = make_redis(*watching(first), kind=Sentinel)
    await_replica(second, sentinel)
    hosts = f"{HOST}:{sentinel.port}"
    with (
        silent_server() as port,
        Rpc(
            sentinel.url(zmq_target_update=3600, zmq_target_expire=7200).replace(
                hosts, f"{HOST}:{port},{hosts}"
            )
        ) as rpc,
    ):
        conf = configuration()
        transport = rpc.transport(conf=conf)
        conf.set_override("socket_timeout", 240_000, "matchmaker_redis")
        rpc.server(transport=transport)
        with second.client() as client:
            key = key_of(rpc.topic)
            until(lambda: client.exists(key), "the replica has the server")
            ((_, first_due),) = client.zrange(key, 0, -1, withscores=True)
            first.pause()
            until(lambda: second_is_master(second), "the Sentinel has failed over", 120)
            until(
                lambda: client.zrange(key, 0, -1, withscores=True)[0][1] > first_due,
                "the server has registered with the new master",
                60,
            )


def watching(master: Redis) -> list[str]:
    """How a Sentinel is told of a master."""
    group = "oslo-messaging-zeromq"
    return [
        f"sentinel monitor {group} {HOST} {master.port} 1",
        f"sentinel down-after-milliseconds {group} 1000",
    ]


def await_replica(replica: Redis, sentinel: Redis) -> None:
    """Wait until a replica follows its master, and the Sentinel knows of that."""
    with replica.client() as client:
        until(
            lambda: client.info("replication")["master_link_status"] == "up",
            "the replica follows the master",
        )
    with sentinel.client() as client:
        until(
            lambda: client.sentinel_master("oslo-messaging-zeromq")["num-slaves"],
            "the Sentinel knows the replica",
            60,
        )


def second_is_master(redis: Redis) -> bool:
    with redis.client() as client:
        return bool(client.info("replication")["role"] == "master")


def test_static_file(rpc: Rpc, tmp_path: Path) -> None:
    file = tmp_path / "servers"
    ports = free_port(), free_port()
    file.write_text(
        "# exchange topic server address\n"
        f"openstack {rpc.topic} one {HOST}:{ports[0]}\n"
        f"openstack {rpc.topic} two {HOST}:{ports[1]}\n"
    )
    url = f"zmq+static:///?zmq_static_file={file}"
    for name in ("one", "two"):
        rpc.server(Service(name), name=name, transport=rpc.transport(url))
    transport = rpc.transport(url)
    for name in ("one", "two"):
        assert rpc.client(transport, server=name).call({}, "name") == name
    client = rpc.client(transport)
    until(lambda: client.call({}, "name") == "one", "one is called")
    until(lambda: client.call({}, "name") == "two", "two is called")
    with pytest.raises(oslo_messaging.exceptions.ConfigurationError, match="three"):
        rpc.server(name="three", transport=rpc.transport(url))


def test_addresses_of_ip_version_6(redis: Redis, rpc: Rpc) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    url = redis.url().replace(f"bind_address={HOST}", "bind_address=%3A%3A1")
    rpc.server(transport=rpc.transport(url))
    assert "[::1]" in servers(redis, rpc.topic)[0]
    assert rpc.client().call({}, "name") == "one"
