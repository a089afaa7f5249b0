# SPDX-License-Identifier: Apache-2.0
"""Services on oslo.messaging 14.9.0, with the retired amqp1 driver, on a bus with ours.

The old release runs in an environment of its own, which is built once.
"""

from __future__ import annotations

import itertools
import sys
import uuid
from collections.abc import Callable, Iterator

import pytest
from tests.functional.routers import Router
from tests.functional.rpc import with_options
from tests.functional.waiting import until
from tests.interop import others
from tests.interop.amqp1_peer import PATIENCE, Failed, Peer

#: Both ways; the names are keys of `Pair`.
BOTH_WAYS = [("old", "new"), ("new", "old")]

Pair = dict[str, Peer]


@pytest.fixture(scope="session")
def pythons() -> dict[str, str]:
    """The interpreters of both environments."""
    try:
        return {"old": others.amqp1_python(), "new": sys.executable}
    except others.NotHere as lack:
        pytest.skip(str(lack))


@pytest.fixture(scope="module", params=["dynamic", "legacy"])
def url(request: pytest.FixtureRequest, bus: Router) -> str:
    """The bus with each form of addresses; on a router, dynamic means routable."""
    # a virtual host, for it is a part of every address
    return with_options(bus.url(vhost="interop"), addressing_mode=request.param)


@pytest.fixture(scope="module")
def pair(pythons: dict[str, str], url: str) -> Iterator[Pair]:
    """A process with the old driver and one with ours, which soon gives servers up."""
    impatient = with_options(url, restart_timeout=2)
    with Peer(pythons["old"], url) as old, Peer(pythons["new"], impatient) as new:
        yield {"old": old, "new": new}


@pytest.fixture
def topic() -> str:
    """No other test uses it."""
    return f"topic-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def serve(bus: Router, topic: str) -> Callable[..., str]:
    """Starts servers, and waits until the router knows all their addresses."""
    served: list[str] = []
    names = (f"server-{number}" for number in itertools.count(1))

    def start(peer: Peer) -> str:
        name = next(names)
        peer.serve(topic, name)
        served.append(name)

        def subscribed() -> bool:
            subscribers = {
                address: row["subscriberCount"]
                for address, row in bus.addresses(topic).items()
            }
            # one for each server, and two that they share
            return (
                len(subscribers) == len(served) + 2
                and sorted(subscribers.values())
                == [1] * len(served) + [len(served)] * 2
            )

        until(subscribed, f"{name} has its addresses", PATIENCE)
        return name

    return start


Serve = Callable[[Peer], str]
both_ways = pytest.mark.parametrize(
    "client, server", BOTH_WAYS, ids=lambda side: str(side)
)


def test_the_releases_are_those_of_the_title(pair: Pair) -> None:
    assert pair["old"].release == "14.9.0"
    assert int(pair["new"].release.partition(".")[0]) >= 16


@both_ways
def test_call(pair: Pair, client: str, server: str, topic: str, serve: Serve) -> None:
    name = serve(pair[server])
    value = {"text": "naïve 漢字 \U0001f600", "list": [1, 2.5, None, True], "": {}}
    answer = pair[client].call(topic, "echo", value)
    assert answer["value"] == value
    assert answer["server"] == name
    assert answer["context"]["user"] == "ünal"


@both_ways
def test_large_call(
    pair: Pair, client: str, server: str, topic: str, serve: Serve
) -> None:
    """A message of many frames, and its reply."""
    serve(pair[server])
    value = "x" * 1_000_000
    assert pair[client].call(topic, "echo", value)["value"] == value


@both_ways
def test_call_to_one_server_of_several(
    pair: Pair, client: str, server: str, topic: str, serve: Serve
) -> None:
    names = [serve(pair[server]), serve(pair[client]), serve(pair[server])]
    for name in [*names, *reversed(names)]:
        answer = pair[client].call(topic, "echo", 1, server=name)
        assert answer["server"] == name


def test_an_old_client_has_many_targets(pair: Pair, topic: str, serve: Serve) -> None:
    """It opens an AMQP session for each of them, on one connection."""
    for name in [serve(pair["new"]) for _ in range(20)]:
        answer = pair["old"].call(topic, "echo", 1, server=name)
        assert answer["server"] == name


@both_ways
def test_cast(pair: Pair, client: str, server: str, topic: str, serve: Serve) -> None:
    name = serve(pair[server])
    for number in range(5):
        pair[client].cast(topic, "echo", f"any {topic} {number}")
        pair[client].cast(topic, "echo", f"one {topic} {number}", server=name)
    got = [pair[server].asked(topic) for _ in range(10)]
    assert {request.server for request in got} == {name}
    assert sorted(request.value for request in got) == sorted(
        f"{which} {topic} {number}" for which in ("any", "one") for number in range(5)
    )


@pytest.mark.parametrize("client", ["old", "new"])
def test_fanout_to_both(pair: Pair, client: str, topic: str, serve: Serve) -> None:
    names = {side: [serve(pair[side]), serve(pair[side])] for side in pair}
    pair[client].cast(topic, "echo", topic, fanout=True)
    for side, peer in pair.items():
        got = [peer.asked(topic) for _ in names[side]]
        assert sorted(request.server for request in got) == names[side]
        assert {request.value for request in got} == {topic}


def test_old_and_new_servers_share_the_work(
    pair: Pair, topic: str, serve: Serve
) -> None:
    names = {serve(pair["old"]), serve(pair["new"])}
    for client in pair.values():
        served = {client.call(topic, "echo", n)["server"] for n in range(20)}
        assert served == names


@both_ways
def test_remote_exceptions(
    pair: Pair, client: str, server: str, topic: str, serve: Serve
) -> None:
    serve(pair[server])
    with pytest.raises(Failed) as known:
        pair[client].call(topic, "fail", "ungültig")
    assert "ValueError" in known.value.kinds
    assert "ungültig" in known.value.text
    with pytest.raises(Failed) as unknown:
        pair[client].call(topic, "fail_unusually", "odd")
    assert {"RemoteError", "Trouble"} <= set(unknown.value.kinds)
    assert "odd" in unknown.value.text
    # and it goes on working
    assert pair[client].call(topic, "echo", 1)["value"] == 1


@both_ways
def test_heartbeats_keep_a_long_call_alive(
    pair: Pair, client: str, server: str, topic: str, serve: Serve
) -> None:
    serve(pair[server])
    assert pair[client].call(topic, "work", 8.0, monitor=5.0) == 8.0


@both_ways
def test_missing_heartbeats_end_a_call(
    pythons: dict[str, str], url: str, pair: Pair, client: str, server: str,
    topic: str, serve: Serve,
) -> None:  # fmt: skip
    with Peer(pythons[server], url) as mortal:
        serve(mortal)
        call = pair[client].begin_call(topic, "work", PATIENCE, monitor=2.0)
        mortal.asked(topic)
        mortal.pause()
        with pytest.raises(Failed) as failed:
            call()
    assert "MessagingTimeout" in failed.value.kinds
    assert failed.value.seconds < PATIENCE / 2


def test_only_the_new_client_knows_that_nobody_listens(
    pair: Pair, topic: str, serve: Serve
) -> None:
    """An old server on the topic does not stand in for another one."""
    serve(pair["old"])
    for more in ({}, {"monitor": 3}):
        with pytest.raises(Failed) as known:
            pair["new"].call(topic, "echo", 1, server="nobody", timeout=2, **more)
        assert "TargetUnreachable" in known.value.kinds
    with pytest.raises(Failed) as known:
        pair["new"].cast(topic, "echo", 1, server="nobody")
    assert "TargetUnreachable" in known.value.kinds
    with pytest.raises(Failed) as gone:
        pair["new"].call(topic, "echo", 1, server="nobody")
    assert "TargetUnreachable" in gone.value.kinds
    assert gone.value.seconds < PATIENCE / 4
    with pytest.raises(Failed) as slow:
        pair["old"].call(topic, "echo", 1, server="nobody", timeout=4)
    assert slow.value.kinds[0] == "MessagingTimeout"
    assert slow.value.seconds >= 4


@both_ways
def test_a_server_killed_in_mid_call_costs_the_timeout(
    pythons: dict[str, str], url: str, pair: Pair, client: str, server: str,
    topic: str, serve: Serve,
) -> None:  # fmt: skip
    """The old rule: a request is settled when it is taken, not with its reply."""
    with Peer(pythons[server], url) as mortal:
        serve(mortal)
        call = pair[client].begin_call(topic, "work", PATIENCE, timeout=5)
        mortal.asked(topic)
        # the request is settled by another thread; this comes after it on the wire
        pair[client].call(topic, "echo", 1)
        mortal.kill()
        with pytest.raises(Failed) as failed:
            call()
    assert failed.value.kinds[0] == "MessagingTimeout"
    assert failed.value.seconds >= 5


def test_between_new_ones_it_does_not(
    pythons: dict[str, str], url: str, pair: Pair, topic: str, serve: Serve
) -> None:
    """What the test above sees is for the sake of the old side alone."""
    with Peer(pythons["new"], url) as mortal:
        serve(mortal)
        call = pair["new"].begin_call(topic, "work", PATIENCE)
        mortal.asked(topic)
        mortal.kill()
        with pytest.raises(Failed) as failed:
            call()
    assert "ServerLost" in failed.value.kinds, str(failed.value)
    # far from the timeout, on a machine that has a lot else to do as well
    assert failed.value.seconds < PATIENCE / 2
