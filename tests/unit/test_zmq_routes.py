# SPDX-License-Identifier: Apache-2.0
"""Whom clients of `zmq` know, choose, wait for and give up."""

from __future__ import annotations

import time
import types
from collections.abc import Iterable
from typing import Any

import pytest

from hybrid_messaging.drivers.presence import Presence
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.drivers.zmq import peer as peers
from hybrid_messaging.drivers.zmq import routes as zmq_routes
from hybrid_messaging.drivers.zmq.directory import Listing
from hybrid_messaging.drivers.zmq.matchmaker import MatchmakerAway, Reading, Record
from hybrid_messaging.drivers.zmq.peer import Candidate, Link, Peer
from hybrid_messaging.drivers.zmq.routes import Route, Routes

OPTIONS = types.SimpleNamespace(restart_timeout=30, connections_per_topic=20)


def record(name: str, process: str = "p") -> Record:
    return Record(name, f"tcp://127.0.0.1:{5000 + ord(name[0])}", process)


class Known:
    """A directory that says what the test says."""

    proxied = False
    #: a message fails for want of proxies
    lacks_proxies = False

    def away(self, connected: list[bool]) -> bool:
        return self.lacks_proxies

    def __init__(self) -> None:
        self.listings: dict[str, Listing] = {}
        self.failure: MatchmakerAway | None = None
        self.asked: list[str] = []

    def ask(self, topic: str, waiter: Waiter) -> None:
        self.asked.append(topic)

    def says(self, version: str, *records: Record, epoch: str = "one") -> None:
        reading = Reading(version, records, epoch)
        former = self.listings.get("topic")
        self.listings["topic"] = Listing(reading, time.monotonic(), former)

    def known(self, topic: str) -> Listing | None:
        return self.listings.get(topic)


class World:
    """Routes with a directory, and peers that are connected at once."""

    def __init__(self) -> None:
        self.directory: Any = Known()
        self.routes = Routes(OPTIONS, self.directory, self._connect)

    def _connect(self, found: Iterable[Peer]) -> None:
        for each in found:
            each.connected()

    def route(self, server: str | None = None) -> Route:
        route = self.routes.get("topic", server)
        self.routes.refresh(route, time.monotonic())
        return route


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(zmq_routes, "TEND_INTERVAL", 0)
    return World()


def until(world: World, route: Route, now: float) -> float:
    """Until when a cast waits that finds nobody there now."""
    message: Any = types.SimpleNamespace(since=now, is_call=False)
    return world.routes.until(route, message, now)


def test_what_has_not_changed_is_not_made_anew(world: World) -> None:
    world.directory.says("1", record("a"), record("b"))
    route = world.route()
    before = list(route.candidates)
    before[0].nobody()
    world.directory.says("1", record("a"), record("b"))
    assert world.route().candidates == before
    assert not before[0].may_take(time.monotonic())
    world.directory.says("2", record("a"), record("b"), record("c"))
    assert world.route().candidates[:2] == before
    # somebody has come: it may be the one that was not there
    assert before[0].may_take(time.monotonic())
    assert not before[0].listens


def test_a_server_that_is_connected_is_not_forgotten(world: World) -> None:
    world.directory.says("1", record("a"), record("b"), record("c"))
    route = world.route()
    a, _, c = route.candidates
    a.peer.answered = c.peer.answered = True  # they tell when they stop
    world.directory.says("2", record("c"))
    assert world.route().candidates == [c, a]
    # its connection ends, or its process says that it does not listen any more
    a.peer.failed("it is gone")
    assert world.route().candidates == [c]
    world.directory.says("3")
    assert world.route().candidates == [c]
    c.nobody()
    assert world.route().candidates == []


def test_a_server_that_is_known_again_is_the_same(world: World) -> None:
    world.directory.says("1", record("a"))
    (a,) = world.route().candidates
    a.peer.answered = True
    world.directory.says("2")
    assert world.route().candidates == [a]
    world.directory.says("3", record("a"))
    assert world.route().candidates == [a]
    a.peer.failed("it is gone")
    assert world.route().candidates == [a]


def test_a_server_behind_a_proxy_is_forgotten(world: World) -> None:
    """It is the proxy that is connected."""
    world.directory.proxied = True
    world.directory.says("1", record("a"))
    (a,) = world.route().candidates
    a.peer.answered = True
    world.directory.says("2")
    assert not world.route().candidates


def test_those_without_room_come_last_and_once(world: World) -> None:
    world.directory.says("1", record("a"), record("b"))
    route, now = world.route(), time.monotonic()
    full, other = route.candidates
    full.answered(full=True)
    assert {route.choose((), now) for _ in range(4)} == {other}
    other.answered(full=True)
    assert route.choose([other], now) is full
    assert route.choose([full, other], now) is None
    full.answered()
    assert route.choose([full, other], now) is full


def test_the_first_who_finds_nobody_sets_the_time_for_all(world: World) -> None:
    world.directory.says("1")
    route = world.route()
    assert until(world, route, 100.0) == 130
    assert until(world, route, 120.0) == 130
    world.routes.found(route)
    assert until(world, route, 140.0) == 170


def test_absence_is_noted_while_nobody_calls(world: World) -> None:
    world.directory.says("1", record("a"))
    route = world.route()
    world.routes.tend()
    assert route.listens()
    assert not route.missing
    world.directory.says("2")
    assert world.routes.tend()
    assert route.missing
    world.directory.says("3", record("a", "again"))
    assert world.routes.tend()
    assert route.listens()
    assert not route.missing
    assert not world.routes.tend()


def test_missing_targets_are_watched_up_to_a_bound(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zmq_routes, "WATCHED", 2)
    for name in ("x", "y", "z"):
        reading = Reading("", (), "epoch")
        world.directory.listings[name] = Listing(reading, 0, None)
        route = world.routes.get(name, None)
        world.routes.refresh(route, time.monotonic())
        world.routes.missing(route, 0)
        world.directory.listings[name].used = 0
    world.routes.tend()
    watched = {name for name, each in world.directory.listings.items() if each.used}
    assert watched == {"y", "z"}


def test_a_matchmaker_that_was_away_is_given_time_and_no_more(world: World) -> None:
    """Servers register again, and who was gone before has not just gone."""
    world.directory.says("1")
    route = world.route()
    world.routes.missing(route, 0.0)
    world.directory.failure = MatchmakerAway("away")
    world.routes.tend()
    assert until(world, route, 100.0) == 30
    world.directory.failure = None
    world.routes.tend()
    now = time.monotonic()
    assert now + 1 < until(world, route, now) <= now + zmq_routes.REGISTERING
    later = now + zmq_routes.REGISTERING
    assert until(world, route, later) <= later


def test_who_is_gone_stays_gone_behind_a_new_connection(world: World) -> None:
    """The matchmaker may be another one, which does not know all yet."""
    world.directory.says("1", record("a"))
    world.route("a")
    world.directory.says("2")
    assert presence(world, "a") is Presence.GONE
    world.directory.says("3", epoch="two")
    assert presence(world, "a") is Presence.GONE
    now = time.monotonic()
    for server in ("a", "never seen"):
        route = world.route(server)
        assert now + 1 < until(world, route, now) or server == "a"
        assert until(world, route, now + 40) <= now + 40


def test_without_patience_nobody_is_given_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OPTIONS, "restart_timeout", 0)
    impatient = World()
    impatient.directory.says("1")
    impatient.route()
    impatient.directory.says("1", epoch="two")
    now = time.monotonic()
    assert until(impatient, impatient.route(), now) <= time.monotonic()


def test_a_listing_that_was_dropped_is_asked_for_again(world: World) -> None:
    """What was known is used meanwhile."""
    world.directory.says("1", record("a"))
    before = list(world.route().candidates)
    del world.directory.listings["topic"]
    assert world.route().candidates == before
    assert world.route().candidates == before
    assert world.directory.asked == ["topic"]


def test_a_peer_whose_listeners_are_all_absent_is_outdated(world: World) -> None:
    world.directory.says("1", record("a"))
    (candidate,) = world.route().candidates
    assert not world.routes.is_outdated(candidate.peer)
    candidate.nobody()
    assert world.routes.is_outdated(candidate.peer)


def test_what_nobody_uses_is_forgotten(world: World) -> None:
    world.directory.says("1", record("a"))
    route = world.route()
    assert world.routes.sweep(route.used - 1) == []
    assert world.routes.sweep(route.used + 1) == [route.candidates[0].peer]
    assert world.routes.peers() == []
    assert world.route() is not route


# -- fanouts -----------------------------------------------------------------


def candidate(link: Link, **what: Any) -> Candidate:
    found = Candidate(record("a"), b"a", Peer("tcp://127.0.0.1:1", ""))
    found.peer.link = link
    for name, value in what.items():
        setattr(found.peer, name, value)
    return found


def test_fanouts_wait_for_whom_they_may_reach() -> None:
    now = time.monotonic()
    long_ago = now - 10 * peers.SETTLING
    ready = candidate(Link.UP)
    new = candidate(Link.DOWN)
    begun = candidate(Link.CONNECTING, missed_since=now)
    dead = candidate(Link.DOWN, tried=now, missed_since=now)
    silent = candidate(Link.CONNECTING, missed_since=long_ago)
    gone = candidate(Link.DOWN, tried=long_ago, missed_since=long_ago)
    everybody = [ready, new, begun, dead, silent, gone]
    found = peers.sort(everybody, now - 1, long_ago, now)
    assert found == ([ready], [new, begun], [silent])
    # as long as others are being connected, the rest may only be late
    found = peers.sort(everybody, now - 1, now, now)
    assert found == ([ready], [new, begun, silent, gone], [])


def test_who_has_more_to_answer_gets_less(world: World) -> None:
    world.directory.says("1", record("a"), record("b"), record("c"))
    route = world.route()
    for candidate in route.candidates:
        candidate.peer.connected()
    hangs = route.candidates[0]
    chosen: list[Candidate] = []
    for id in range(60):
        candidate = route.choose((), time.monotonic())
        assert candidate is not None
        chosen.append(candidate)
        candidate.peer.ids.add(id)
        if candidate is not hangs:  # which is slow as well: one at a time
            candidate.peer.ids = set(list(candidate.peer.ids)[-1:])
    assert chosen.count(hangs) < 4
    for candidate in route.candidates:
        candidate.peer.ids.clear()
    now = time.monotonic()
    assert len({route.choose((), now) for _ in range(3)}) == 3  # in turn


def test_of_many_dead_servers_only_the_first_is_waited_for(world: World) -> None:
    world.directory.says("1", record("a"))
    now = time.monotonic()
    assert until(world, world.route("dead"), now) > now + 20
    later = now + 3600  # the topic has been known all the time
    assert until(world, world.route("dead too"), later) < later


def presence(world: World, server: str | None = None) -> Presence:
    route = world.routes.get("topic", server)
    return world.routes.presence(route, time.monotonic())


def test_presence_is_unknown_before_the_matchmaker_has_answered(world: World) -> None:
    assert presence(world) is Presence.UNKNOWN
    assert world.directory.asked == ["topic"]
    world.directory.says("1")
    assert presence(world) is Presence.ABSENT


def test_presence_of_those_who_come_and_go(world: World) -> None:
    world.directory.says("1", record("a"))
    assert presence(world) is Presence.LISTENING
    assert presence(world, "a") is Presence.LISTENING
    assert presence(world, "b") is Presence.ABSENT
    world.directory.says("2")
    assert presence(world) is Presence.GONE
    assert presence(world, "a") is Presence.GONE
    assert presence(world, "b") is Presence.ABSENT


def test_presence_of_one_whose_process_knows_of_no_such_listener(
    world: World,
) -> None:
    world.directory.says("1", record("a"))
    route = world.route()
    route.candidates[0].nobody()
    assert presence(world) is Presence.GONE
    # it has registered again
    world.directory.says("2", record("a"), record("b"))
    assert presence(world, "a") is Presence.LISTENING
    assert presence(world) is Presence.LISTENING


def test_presence_without_proxies_is_unknown(world: World) -> None:
    world.directory.says("1", record("a"))
    world.route()
    world.directory.says("2")
    world.directory.lacks_proxies = True
    assert presence(world) is Presence.UNKNOWN


def test_presence_while_a_connection_is_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.routes, "_connect", lambda claimed: None)
    world.directory.says("1", record("a"))
    assert presence(world) is Presence.UNKNOWN
    world.route().candidates[0].peer.failed("nobody is there")
    assert presence(world) is Presence.GONE


def test_two_that_look_at_once_connect_to_no_more_than_is_wanted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected: list[Peer] = []
    # as when others have the client's lock: what it is to do is done later
    monkeypatch.setattr(world.routes, "_connect", connected.extend)
    monkeypatch.setattr(OPTIONS, "connections_per_topic", 2)
    world.directory.says("1", *map(record, "abcdefgh"))
    route = world.route()
    world.routes.widen(route, time.monotonic())
    assert len(connected) == 2
    assert world.routes.claim(connected, time.monotonic()) == []


def test_a_process_with_many_listeners_is_connected_to_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected: list[Peer] = []
    monkeypatch.setattr(world.routes, "_connect", connected.extend)
    names = ("one", "two", "three")
    listeners = (Record(name, "tcp://127.0.0.1:5001", "p") for name in names)
    world.directory.says("1", *listeners)
    [peer] = {each.peer for each in world.route().candidates}
    assert connected == [peer]
