# SPDX-License-Identifier: Apache-2.0
"""`migrate+…://` between a real RabbitMQ, the embedded router and ZeroMQ."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import oslo_messaging
import pytest
from oslo_config import cfg
from oslo_messaging import MessagingTimeout, Target
from oslo_messaging._drivers import amqpdriver
from pytest import MonkeyPatch
from tests.functional import commands, matchmakers
from tests.functional.deployments import NOWHERE, Deployment, deployed
from tests.functional.fakes import Fake, Proxy
from tests.functional.routers import Router
from tests.functional.rpc import PATIENCE, Rpc, configuration, end, with_options
from tests.functional.service import Service, Trouble
from tests.functional.test_driver_failing import Background
from tests.functional.test_driver_processes import Forking
from tests.functional.waiting import Stopwatch, until
from tests.functional.worker import Worker

from hybrid_messaging import state
from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.migrate import listening
from hybrid_messaging.engines import rabbitmq_management
from hybrid_messaging.urls import parse

#: Services that move, and how often they do so.
SERVICES, MIGRATIONS = 5, int(os.environ.get("HYBRID_TEST_MIGRATIONS", "1"))
#: Seconds that a call may take that waits for nobody, on a busy machine.
AT_ONCE = 30.0


class Sides(NamedTuple):
    """The transport URLs of a service: before, during and after its move."""

    old: str
    both: str
    new: str


def sides(old: str, new: str) -> Sides:
    """The URLs of a move from one bus to another."""
    return Sides(old, with_options(f"migrate+{new}", from_url=old), new)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A private RabbitMQ node, in its state directory."""
    with deployed(tmp_path_factory.mktemp("migrate")) as made:
        made.up(given={"rpc": NOWHERE["rpc"]})
        yield made


@pytest.fixture(scope="module")
def node(deployment: Deployment) -> state.Engine:
    """A private RabbitMQ node."""
    return deployment.engine("rabbitmq")


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router that all tests share."""
    shared = Router("embedded", tmp_path_factory.mktemp("router"))
    shared.start()
    yield shared
    shared.stop()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[matchmakers.Redis]:
    """A matchmaker that all tests share."""
    shared = matchmakers.Redis(tmp_path_factory.mktemp("redis"))
    shared.start()
    yield shared
    shared.stop()


class Careful(amqpdriver.RpcAMQPListener):
    """A listener of plain `rabbit` that takes nothing any more once it is stopped.

    oslo.messaging's own acknowledges requests then that nobody will execute.
    """

    def __call__(self, message: Any) -> None:
        if not self._shutdown.is_set():
            super().__call__(message)


@pytest.fixture(scope="module", autouse=True)
def rabbit_stops_at_once() -> Iterator[None]:
    """Its listeners look every five seconds whether they are to stop."""
    with MonkeyPatch.context() as patch:
        patch.setattr(amqpdriver, "ACK_REQUEUE_EVERY_SECONDS_MAX", 0.1)
        yield


#: Virtual hosts of RabbitMQ: each test has its own.
_vhosts = itertools.count()


@pytest.fixture
def urls(node: state.Engine) -> dict[str, str]:
    """A RabbitMQ of the test's own, and another."""
    number = next(_vhosts)
    return {
        name: rabbitmq_management.add_vhost(node, f"{name}-{number}")
        for name in ("old", "newer")
    }


@pytest.fixture(params=["amqp", "zmq", "rabbit"])
def move(request: pytest.FixtureRequest, urls: dict[str, str]) -> Sides:
    """From RabbitMQ to each kind of bus."""
    if request.param == "rabbit":
        return sides(urls["old"], urls["newer"])
    bus = "router" if request.param == "amqp" else "redis"
    return sides(urls["old"], request.getfixturevalue(bus).url())


@pytest.fixture
def to_router(urls: dict[str, str], router: Router) -> Sides:
    """From RabbitMQ to a router."""
    return sides(urls["old"], router.url())


@pytest.fixture
def rpc() -> Iterator[Rpc]:
    with Rpc("") as talk:
        yield talk


def client(rpc: Rpc, url: str, **more: Any) -> Any:
    transport = rpc.transport(url, allowed_remote_exmods=["tests.functional.service"])
    return rpc.client(transport, **more)


def test_everyone_talks_with_everyone(rpc: Rpc, move: Sides) -> None:
    """Unmoved, moving and moved services, in both directions."""
    services = {}
    for name, url in move._asdict().items():
        services[name] = Service(name)
        rpc.server(services[name], name=name, transport=rpc.transport(url))
    reachable = {
        "old": {"old", "both"},
        "both": {"old", "both", "new"},
        "new": {"both", "new"},
    }
    clients = {name: client(rpc, getattr(move, name)) for name in reachable}
    for caller, servers in reachable.items():
        for server in servers:
            directed = clients[caller].prepare(server=server)
            assert directed.call({}, "name") == server
            with pytest.raises(Trouble, match="on purpose"):
                directed.call({}, "fail", value="on purpose")
            directed.cast({}, "echo", value=(mark := f"{caller} to {server}"))
            until(lambda: mark in services[server].seen, mark)  # noqa: B023

    # a fanout reaches all, and each executes it once
    for service in services.values():
        service.seen.clear()
    for number in range(20):
        clients["both"].prepare(fanout=True).cast({}, "echo", value=number)
    for name, service in services.items():
        until(lambda: len(service.seen) >= 20, f"{name} has all")  # noqa: B023
    for caller in ("old", "new"):  # overtakes nothing
        clients[caller].prepare(server="both").call({}, "name")
    for service in services.values():
        assert sorted(service.seen) == list(range(20))


@pytest.mark.parametrize("sent", [1, 2])
def test_a_fanout_is_not_kept_for_a_server_that_has_had_it(
    rpc: Rpc, move: Sides, sent: int
) -> None:
    """It restarts as soon as it has executed it, and comes back on both."""
    before, after = Service(), Service()
    server = rpc.server(before, transport=rpc.transport(move.old))
    calling = client(rpc, move.both, fanout=True)
    for number in range(sent):  # the second time, the client knows that nobody is there
        calling.cast({}, "echo", value=number)
    until(lambda: len(before.seen) == sent, "the server has all")
    server.stop()
    rpc.server(after, transport=rpc.transport(move.both))
    calling.cast({}, "echo", value="new")
    until(lambda: "new" in after.seen, "the next fanout comes")
    assert after.seen == ["new"]


# -- restarts --------------------------------------------------------------------


def test_a_server_that_restarts_is_waited_for(rpc: Rpc, move: Sides) -> None:
    """Wherever it comes back, its callers notice nothing."""
    ways = ["new", "both"]
    if not move.new.startswith("rabbit"):  # which may store what is sent meanwhile
        ways.append("old")
    calling = client(rpc, move.both, server="one")
    server = rpc.server(transport=rpc.transport(move.both))
    assert calling.call({}, "name") == "one"
    for way in ways:
        end(server)
        with ThreadPoolExecutor() as pool:
            held = pool.submit(calling.call, {}, "name")
            time.sleep(0.2)  # no server is there for a while
            assert not held.done()
            transport = rpc.transport(getattr(move, way))
            server = rpc.server(Service(way), transport=transport)
            assert held.result(60) == way
            assert calling.call({}, "name") == way


def test_a_server_that_is_killed_leaves_its_callers_to_the_old_one(
    rpc: Rpc, to_router: Sides
) -> None:
    """Of two servers of a topic, one has moved."""
    calling = client(rpc, to_router.both)
    rpc.server(Service("old"), name="old", transport=rpc.transport(to_router.old))
    with Worker(to_router.both, rpc.topic, "moved") as moved:
        until(lambda: calling.call({}, "name") == "moved", "the new bus is used")
        moved.kill()
        with Stopwatch() as watch:
            # the one that has moved may be taken for alive on the old bus meanwhile
            until(lambda: _name(calling) == "old", "the old server has it")
        assert watch.seconds < AT_ONCE


def _name(calling: Any) -> str | None:
    try:
        return str(calling.prepare(timeout=5).call({}, "name"))
    except MessagingTimeout:
        return None


def test_a_target_that_is_gone_fails_its_callers_at_once(
    rpc: Rpc, to_router: Sides
) -> None:
    transport = rpc.transport(to_router.both, restart_timeout=1)
    calling = rpc.client(transport)
    server = rpc.server(transport=rpc.transport(to_router.both))
    assert calling.call({}, "name") == "one"
    end(server)
    for _ in range(2):
        with Stopwatch() as watch, pytest.raises(errors.CallUnreachable):
            calling.call({}, "name")
        assert watch.seconds < AT_ONCE
    with pytest.raises(errors.CastUnreachable):
        calling.cast({}, "echo", value=1)


def test_what_is_cast_to_a_server_that_never_moved_is_stored(
    rpc: Rpc, to_router: Sides
) -> None:
    """As without a migration: the server is stopped, and comes back."""
    end(rpc.server(transport=rpc.transport(to_router.old)))
    transport = rpc.transport(to_router.both, restart_timeout=0)
    rpc.client(transport, server="one").cast({}, "echo", value="kept")
    service = Service()
    rpc.server(service, transport=rpc.transport(to_router.old))
    until(lambda: service.seen == ["kept"], "the cast is executed")


def test_a_child_of_a_fork_calls_on(rpc: Rpc, to_router: Sides) -> None:
    """A target that has moved; on `rabbit` the driver of that has its limits."""
    rpc.server(transport=rpc.transport(to_router.both))
    scene = Forking("client", to_router.both, rpc.topic)
    assert scene.process.wait(60) == 0
    until(lambda: len(scene.told) == 2, "both have told")
    assert {told["value"] for told in scene.told} == {"child", "parent"}


# -- a bus is lost ---------------------------------------------------------------


def test_the_new_bus_is_lost(rpc: Rpc, urls: dict[str, str], tmp_path: Path) -> None:
    """Callers go on over the old one, and return with it."""
    router = Router("embedded", tmp_path)
    router.start()
    try:
        both = sides(urls["old"], router.url()).both
        service = Service()
        rpc.server(service, transport=rpc.transport(both))
        calling = client(rpc, both)
        assert calling.call({}, "echo", value=0) == 0
        under_way = Background(calling, "wait")
        until(lambda: None in service.seen, "the call is being executed")
        router.kill()
        # what was under way is not sent again
        assert isinstance(under_way.result(), errors.BusLost)
        service.gate.set()
        with Stopwatch() as watch:
            for number in range(1, 10):
                assert calling.call({}, "echo", value=number) == number
        assert watch.seconds < AT_ONCE
        router.start()
        until(lambda: router.connections() >= 2, "both are back")
        assert client(rpc, router.url()).call({}, "echo", value="new") == "new"
        assert service.seen == [0, None, *range(1, 10), "new"]
    finally:
        router.kill()


def test_the_old_bus_is_lost(
    rpc: Rpc, node: state.Engine, urls: dict[str, str], router: Router
) -> None:
    """What has moved goes on, services start; an unmoved one is waited for."""
    with Fake(Proxy(node.port)) as relay:
        url = urls["old"].replace(f":{node.port}/", f":{relay.port}/")
        both = sides(url, router.url()).both
        rpc.server(transport=rpc.transport(both))
        unmoved = f"{rpc.topic}-unmoved"
        rpc.server(
            Service("unmoved"), topic=unmoved, transport=rpc.transport(urls["old"])
        )
        moved = client(rpc, both)
        calling = client(rpc, both, topic=unmoved, timeout=90)
        assert moved.call({}, "name") == "one"
        assert calling.call({}, "name") == "unmoved"
        relay.behave = socket.socket.close
        relay.hang_up()
        with Stopwatch() as watch:
            assert moved.call({}, "name") == "one"
            with MonkeyPatch.context() as patch:
                patch.setattr(listening, "OPENING", 0.5)
                rpc.server(
                    Service("late"),
                    topic=f"{rpc.topic}-late",
                    transport=rpc.transport(both),
                )
            late = client(rpc, both, topic=f"{rpc.topic}-late")
            assert late.call({}, "name") == "late"
        assert watch.seconds < AT_ONCE
        waiting = Background(calling, "name")
        relay.behave = Proxy(node.port)
        # rabbit:// itself may have lost the reply with its queue
        assert waiting.result(90) == "unmoved" or calling.call({}, "name") == "unmoved"
        # the server that has started meanwhile listens there, too
        directed = client(rpc, urls["old"], topic=f"{rpc.topic}-late", server="one")
        until(lambda: _name(directed) == "late", "it listens on the old bus", 90)


# -- all services, there and back --------------------------------------------------


class Ledger:
    """What was sent, and what was executed."""

    def __init__(self) -> None:
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._since = time.monotonic()
        #: what became of each message, for people
        self._told: dict[int, list[str]] = collections.defaultdict(list)
        #: which processes were killed, and when
        self.killed: list[str] = []
        #: how often each message was begun
        self.begun: collections.Counter[int] = collections.Counter()
        #: of calls and casts that have succeeded
        self.done: set[int] = set()
        #: the casts among them, by target
        self.casts: dict[str, set[int]] = collections.defaultdict(set)
        #: why others have not, by target
        self.failed: dict[str, list[Exception]] = collections.defaultdict(list)

    def send(self, client: Any, kind: str) -> None:
        with self._lock:
            id = next(self._ids)
        self._tell(id, f"a {kind} to {client.target.topic} begins")
        try:
            if kind == "fanout":
                client.prepare(fanout=True).cast({}, "echo", value=id)
            else:
                getattr(client, kind)({}, "echo", value=id)
        except Exception as error:
            # rabbit:// fails where the last who listens has just left
            if not (kind == "fanout" and "404" in str(error)):
                self.failed[client.target.topic].append(error)
            self._tell(id, f"it fails: {error}")
        else:
            self._tell(id, "it is done")
            if kind != "fanout":  # who is not there misses it
                with self._lock:
                    self.done.add(id)
                    if kind == "cast":
                        self.casts[client.target.topic].add(id)

    def begin(self, id: int, server: str) -> None:
        """Note that a server executes a message."""
        self._tell(id, f"{server} executes it")
        with self._lock:
            self.begun[id] += 1

    def _tell(self, id: int, what: str) -> None:
        self._told[id].append(self._now(what))

    def _now(self, what: str) -> str:
        return f"{time.monotonic() - self._since:.3f} s: {what}"

    def kill(self, process: Worker) -> None:
        """End a process, and note what it has begun."""
        self.killed.append(self._now(f"process {process.process.pid}"))
        process.kill()
        for id in process.begun():
            self.begin(id, f"process {process.process.pid}, some time before,")

    def twice(self) -> dict[int, list[str]]:
        """What became of messages that were begun more than once."""
        return {id: self._told[id] for id, times in self.begun.items() if times > 1}

    def lost(self) -> dict[int, list[str]]:
        """What became of calls and casts that have succeeded, and nobody has begun."""
        return {id: self._told[id] for id in self.done - self.begun.keys()}


class Noting:
    """A dispatcher that notes what a member's server begins, and from which bus.

    :param server: of which member, on which buses
    """

    def __init__(self, dispatcher: Any, ledger: Ledger, server: str) -> None:
        self._dispatcher, self._ledger, self._server = dispatcher, ledger, server

    def dispatch(self, incoming: Any) -> None:
        _, _, kind = type(incoming).__module__.partition("drivers.")
        id = incoming.message["args"]["value"]
        self._ledger.begin(id, f"{self._server}, from {kind},")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dispatcher, name)


class Member:
    """A service: it serves, and sends to the others without a pause."""

    def __init__(self, name: str, topics: list[str], ledger: Ledger) -> None:
        self.topic = name
        self._others = [topic for topic in topics if topic != name]
        self._ledger = ledger
        self._random = random.Random(name)
        self._ending = threading.Event()

    def serve(self, url: str) -> None:
        self._transport = oslo_messaging.get_rpc_transport(configuration(), url)
        self._server = oslo_messaging.get_rpc_server(
            self._transport,
            Target(topic=self.topic, server="one"),
            [],
            executor="threading",
        )
        self._server.dispatcher = Noting(
            self._server.dispatcher,
            self._ledger,
            f"{self.topic} on {url.partition(':')[0]}",
        )
        self._server.start()
        if url.startswith("rabbit"):
            self._server.listener._poll_style_listener.__class__ = Careful

    def begin(self) -> None:
        """Send to the others; their queues have to be there."""
        self._ending.clear()
        self._threads = [threading.Thread(target=self._send) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        clients = [
            oslo_messaging.get_rpc_client(
                self._transport, Target(topic=topic), timeout=PATIENCE
            )
            for topic in self._others
        ]
        while not self._ending.wait(0.01):
            kind = self._random.choice(["call", "call", "cast", "fanout"])
            self._ledger.send(self._random.choice(clients), kind)

    def fall_silent(self) -> None:
        """Send nothing more."""
        self._ending.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)

    def stop(self) -> None:
        end(self._server)
        self._transport.cleanup()

    def restart(self, url: str) -> None:
        self.fall_silent()
        self.stop()
        time.sleep(self._random.uniform(0, 0.3))
        self.serve(url)
        self.begin()


@pytest.mark.timeout(240 + 60 * MIGRATIONS)
def test_services_move_and_move_back_under_load(rpc: Rpc, to_router: Sides) -> None:
    """Nothing is lost, and nothing is executed twice; one is killed on the way."""
    ledger = Ledger()
    topics = [f"{rpc.topic}-{number}" for number in range(SERVICES)]
    members = [Member(topic, topics, ledger) for topic in topics[1:]]
    victim = topics[0]
    with ThreadPoolExecutor(SERVICES) as pool:
        list(pool.map(lambda each: each.serve(to_router.old), members))
        process = Worker(to_router.both, victim)
        list(pool.map(Member.begin, members))
        try:
            for way in ("both", "new", "both", "old") * MIGRATIONS:
                url = getattr(to_router, way)
                for pair in zip(members[::2], members[1::2], strict=True):
                    list(pool.map(lambda each: each.restart(url), pair))  # noqa: B023
                if way == "new":  # nobody is left that could use the old bus alone
                    ledger.kill(process)
                    process = Worker(to_router.both, victim)
        finally:
            list(pool.map(Member.fall_silent, members))
            list(pool.map(Member.stop, members))
            ledger.kill(process)
    spared = ledger.casts[victim]
    # what it had when it was killed has failed
    assert len(ledger.failed.pop(victim, [])) < 2 * SERVICES * 3 * MIGRATIONS
    assert dict(ledger.failed) == {}
    assert len(ledger.done) > 10 * SERVICES
    assert ledger.twice() == {}
    # a server acknowledges a cast, and then begins it: unless it is killed
    lost = {id: told for id, told in ledger.lost().items() if id not in spared}
    assert lost == {}, ledger.killed


# -- by the commands ---------------------------------------------------------------

#: Services whose names the commands know.
NAMES = ("cinder", "heat", "manila")


class Cloud:
    """Three services with configuration files, which call each other all the time."""

    def __init__(self, place: Path, url: str) -> None:
        self.place = place
        self._members: dict[str, Member] = {}
        self.ledger = Ledger()
        for name in NAMES:
            (place / name).mkdir()
            text = f"[DEFAULT]\ntransport_url = {url}\n"
            (place / name / f"{name}.conf").write_text(text)
        topics = [f"{place.parent.name}-{name}" for name in NAMES]
        for name, topic in zip(NAMES, topics, strict=True):
            self._members[name] = Member(topic, topics, self.ledger)
            self._members[name].serve(self.url(name))
        for member in self._members.values():
            member.begin()

    def url(self, name: str) -> str:
        """What the file of a service says."""
        conf = cfg.ConfigOpts()
        conf.register_opt(cfg.StrOpt("transport_url"))
        conf([], default_config_files=[str(self.place / name / f"{name}.conf")])
        return str(conf.transport_url)

    def restart(self, *names: str) -> None:
        for name in names:
            self._members[name].restart(self.url(name))

    def end(self) -> None:
        for act in (Member.fall_silent, Member.stop):
            with ThreadPoolExecutor(len(NAMES)) as pool:
                list(pool.map(act, self._members.values()))


@pytest.mark.timeout(240)
def test_services_move_by_commands(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    deployment: Deployment,
    to_router: Sides,
) -> None:
    """Onto both, onto the new bus, and back, with calls under way all the time."""
    secret = parse(to_router.old).hosts[0].password
    monkeypatch.setenv("HYBRID_RPC_URL", to_router.new)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    etc = tmp_path / "etc"
    etc.mkdir()
    cloud = Cloud(etc, to_router.old)

    def migrate(*words: str) -> commands.Result:
        found = commands.run(capsys, "migrate", *words, "--discover", etc)
        assert secret
        assert secret not in found.out + found.err
        return found

    def status() -> tuple[int, dict[str, list[int]]]:
        """Servers of each service on the old bus, on both and on the new one."""
        found = migrate(
            *("status", "--interval", "0", "-f", "json"),
            *("--old-state-dir", str(deployment.dir)),
        )
        rows = found.rows
        assert bool(found.code) is any(row["kind"] == "missing" for row in rows)
        servers = {
            row["name"].rpartition("-")[2]: [
                len(row[where]) for where in ("old", "both", "new")
            ]
            for row in rows
            if row["kind"] == "topic"
        }
        return found.code, servers

    def await_status(code: int, **servers: list[int]) -> None:
        """RabbitMQ's management is some seconds behind."""
        until(lambda: status() == (code, servers), f"{code}: {servers}")

    def actions() -> set[str]:
        return {row["action"] for row in migrate("plan", "-f", "json").rows}

    old, both, new = [1, 0, 0], [0, 1, 0], [0, 0, 1]
    try:
        assert actions() == {"start"}
        assert migrate("start", "--dry-run").code == 0
        assert migrate("finish").code != 0
        assert cloud.url("heat") == to_router.old
        assert migrate("start").code == 0
        assert actions() == {"finish"}
        cloud.restart("cinder", "heat")
        await_status(1, cinder=both, heat=both, manila=old)
        cloud.restart("manila")
        await_status(0, cinder=both, heat=both, manila=both)

        assert migrate("finish").code == 0
        assert actions() == {"none"}
        cloud.restart("cinder")
        await_status(0, cinder=new, heat=both, manila=both)
        assert migrate("undo").code != 0
        assert migrate("start").code == 0
        cloud.restart("cinder")
        assert migrate("undo").code == 0
        cloud.restart("heat", "cinder", "manila")
        await_status(1, cinder=old, heat=old, manila=old)
        assert cloud.url("heat") == to_router.old
    finally:
        cloud.end()
    assert dict(cloud.ledger.failed) == {}
    assert len(cloud.ledger.done) > 100
    assert cloud.ledger.twice() == {}
    assert cloud.ledger.lost() == {}


# -- notifications -----------------------------------------------------------------


class Store:
    """A consumer, and how often it has stored each notification."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self.stored: collections.Counter[int] = collections.Counter()

    def info(self, ctxt: Any, publisher: str, event: str, id: int, meta: Any) -> None:
        self.stored[id] += 1

    def read(self, url: str) -> None:
        self._transport = notification_transport(url)
        self._listener = oslo_messaging.get_notification_listener(
            self._transport, [Target(topic=self._topic)], [self], executor="threading"
        )
        self._listener.start()

    def stop(self) -> None:
        end(self._listener)
        self._transport.cleanup()


class Publisher:
    """Publishes notifications without a pause, and notes those that a bus has taken."""

    def __init__(self, topic: str, ids: Iterator[int]) -> None:
        self._topic, self._ids = topic, ids
        self.sent: list[int] = []

    def begin(self, url: str) -> None:
        self._transport = notification_transport(url)
        self._notifier = oslo_messaging.Notifier(
            self._transport, "test", driver="messagingv2", topics=[self._topic], retry=0
        )
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._publish)
        self._thread.start()

    def _publish(self) -> None:
        while not self._ending.wait(0.005):
            id = next(self._ids)
            self._notifier.info({}, "moved", id)
            self.sent.append(id)

    def go_on(self) -> None:
        """See that it publishes."""
        seen = len(self.sent)
        until(lambda: len(self.sent) > seen + 5, "notifications are published")

    def stop(self) -> None:
        self._ending.set()
        self._thread.join(PATIENCE)
        self._transport.cleanup()


def notification_transport(url: str) -> Any:
    return oslo_messaging.get_notification_transport(configuration(), url)


def test_notifications_move_by_commands(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    deployment: Deployment,
    urls: dict[str, str],
) -> None:
    """Consumers first, then publishers; each notification is stored once."""
    topic = f"{tmp_path.name}-notifications"
    monkeypatch.setenv("HYBRID_NOTIFY_URL", urls["newer"])
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    section = f"[oslo_messaging_notifications]\ntransport_url = {urls['old']}\n"
    files = {name: tmp_path / f"{name}.conf" for name in ("cinder", "ceilometer")}
    for path in files.values():
        path.write_text(section)

    def url(name: str) -> str:
        conf = cfg.ConfigOpts()
        option = cfg.StrOpt("transport_url")
        conf.register_opt(option, group="oslo_messaging_notifications")
        conf([], default_config_files=[str(files[name])])
        return str(conf.oslo_messaging_notifications.transport_url)

    def migrate(*words: object, name: str | None = None) -> commands.Result:
        named = files.values() if name is None else [files[name]]
        return commands.run(capsys, "migrate", *words, "--notifications", *named)

    def status() -> tuple[int, list[str]]:
        found = migrate(
            *("status", "--interval", "0", "-f", "json"),
            *("--old-state-dir", str(deployment.dir)),
        )
        return found.code, [row["name"] for row in found.rows if row["messages"]]

    store, ids = Store(topic), itertools.count()
    publishers = [Publisher(topic, ids), Publisher(topic, ids)]
    with contextlib.ExitStack() as stack:
        store.read(url("ceilometer"))
        for each in publishers:
            each.begin(url("cinder"))
            stack.callback(lambda each: each.stop(), each)
        rows = migrate("plan", "-f", "json").rows
        assert [row["service"] for row in rows] == ["ceilometer", "cinder"]
        # an unmoved publisher goes on, and the queue fills while the consumer is away
        assert migrate("start", name="ceilometer").code == 0
        store.stop()
        until(lambda: status() == (1, [f"{topic}.info"]), "notifications wait")
        store.read(url("ceilometer"))
        assert migrate("start", name="cinder").code == 0
        for each in publishers:
            each.stop()
            each.begin(url("cinder"))
            each.go_on()
        # what came meanwhile has been read, and nothing comes any more
        until(lambda: status() == (0, []), "the old queue is empty")
        assert migrate("finish").code == 0
        assert url("cinder") == url("ceilometer") == urls["newer"]
        store.stop()
        store.read(url("ceilometer"))
        for each in publishers:
            each.go_on()
    sent = {id for each in publishers for id in each.sent}
    try:
        until(lambda: store.stored.keys() >= sent, "all are stored")
    finally:
        store.stop()
    assert {id: times for id, times in store.stored.items() if times > 1} == {}


def test_status_asks_both_kinds_of_direct_buses(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    rpc: Rpc,
    redis: matchmakers.Redis,
    router: Router,
) -> None:
    """From a router to ZeroMQ, which says nothing of its clients."""
    move = sides(router.url(), redis.url())
    monkeypatch.setenv("HYBRID_RPC_URL", move.new)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "heat.conf"
    path.write_text(f"[DEFAULT]\ntransport_url = {move.both}\n")
    rpc.server(name="one", transport=rpc.transport(move.both))
    rpc.server(name="two", transport=rpc.transport(move.old))
    found = commands.run(
        capsys, "migrate", "status", "--interval", "0", "-f", "json", path
    )
    rows = found.rows
    (topic,) = (row for row in rows if row["name"] == rpc.topic)
    assert (topic["old"], topic["both"], topic["new"]) == (["two"], ["one"], [])
    assert any(row["kind"] == "unknown" and "zmq" in row["name"] for row in rows)
    assert found.code == 1
    # a bus that is away is no answer
    path.write_text("[DEFAULT]\ntransport_url = amqp://127.0.0.1:1/\n")
    found = commands.run(capsys, "migrate", "status", "--interval", "0", path)
    assert found.code == 2
    assert "127.0.0.1:1" in found.err
