# SPDX-License-Identifier: Apache-2.0
"""How requests find their bus, with buses that say what a test wants."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from oslo_messaging import MessageDeliveryFailure, MessagingTimeout, Target
from tests.functional.waiting import until

from hybrid_messaging.drivers import errors, logs
from hybrid_messaging.drivers.migrate import counts, courses, sending
from hybrid_messaging.drivers.migrate.buses import NotTaken, Request
from hybrid_messaging.drivers.migrate.sending import FANOUT_ID, FANOUT_SENT, Sender
from hybrid_messaging.drivers.patience import PACE
from hybrid_messaging.drivers.presence import Presence


class Bus:
    """Says who listens, and writes down what it gets."""

    left_over = None
    driver: Any = None
    notifying: Any = None

    def __init__(self, name: str, presence: Presence = Presence.ABSENT) -> None:
        self.name = name
        self.says = presence
        self.looks = self.hurried = 0
        #: how new the last look has to be, as a monotonic time
        self.since = 0.0
        self.offered: list[Request] = []
        self.insisted: list[Request] = []
        self.insisted_at: list[float] = []
        #: called with each request that is offered
        self.on_offer: Callable[[Request], None] = lambda request: None
        self.failure: Exception | None = None

    def presence(self, target: Target, since: float = 0) -> Presence:
        self.looks += 1
        self.since = since
        return self.says

    def hurry(self) -> None:
        self.hurried += 1

    def offer(self, request: Request) -> str:
        self.offered.append(request)
        self.on_offer(request)
        return self.name

    def insist(self, request: Request) -> str:
        self.insisted.append(request)
        self.insisted_at.append(time.monotonic())
        if self.failure is not None:
            raise self.failure
        return self.name

    def close(self) -> None: ...

    def after_fork(self) -> None: ...


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that real buses need is none here."""
    monkeypatch.setattr(courses, "GRACE", 0.05)
    monkeypatch.setattr(courses, "LOOK", 0.2)


@pytest.fixture
def new() -> Bus:
    return Bus("new")


@pytest.fixture
def old() -> Bus:
    return Bus("old")


def request(
    *, call: bool = True, timeout: float | None = 60, topic: str = "t", **target: Any
) -> Request:
    return Request(
        target=Target(topic=topic, **target),
        context={},
        message={"method": "do"},
        wait_for_reply=call,
        timeout=timeout,
        call_monitor_timeout=None,
        retry=None,
        transport_options=None,
        began=time.monotonic(),
    )


def refuse(request: Request) -> None:
    raise NotTaken


def test_the_new_bus_comes_first(new: Bus, old: Bus) -> None:
    new.says = old.says = Presence.LISTENING
    sender = Sender(new, old, 60)
    assert [sender.send(request()) for _ in range(3)] == ["new"] * 3
    assert old.looks == 0


def test_an_unmoved_target_costs_one_look_at_the_old_bus(new: Bus, old: Bus) -> None:
    old.says = Presence.LISTENING
    sender = Sender(new, old, 60)
    assert [sender.send(request()) for _ in range(3)] == ["old"] * 3
    assert old.looks == 1


def test_servers_of_a_topic_are_targets_of_their_own(new: Bus, old: Bus) -> None:
    new.says = Presence.LISTENING
    sender = Sender(new, old, 60)
    assert sender.send(request()) == "new"
    new.says, old.says = Presence.ABSENT, Presence.LISTENING
    for target in ({"server": "a"}, {"exchange": "x"}):
        assert sender.send(request(**target)) == "old"
    assert new.insisted == old.insisted == []


@pytest.mark.parametrize("back_on", ["new", "old"])
def test_a_server_that_restarts_is_waited_for_on_both(
    new: Bus, old: Bus, back_on: str
) -> None:
    new.says = Presence.LISTENING
    sender = Sender(new, old, 60)
    sender.send(request())
    new.says, old.says = Presence.GONE, Presence.GONE
    with ThreadPoolExecutor(4) as pool:
        held = [pool.submit(sender.send, request(call=call)) for call in (True, False)]
        time.sleep(0.2)
        assert not any(each.done() for each in held)
        {"new": new, "old": old}[back_on].says = Presence.LISTENING
        assert [each.result(30) for each in held] == [back_on] * 2


def test_a_server_that_refuses_all_is_left_for_the_old_one(new: Bus, old: Bus) -> None:
    """Its bus goes on believing in it."""
    new.says = old.says = Presence.LISTENING
    new.on_offer = refuse
    sender = Sender(new, old, 60)
    assert sender.send(request()) == "old"
    assert new.offered


def test_what_a_server_refuses_needs_a_new_look_at_the_old_bus(
    new: Bus, old: Bus
) -> None:
    """It may have left that as well, and the bus stores what is sent all the same."""
    new.says = old.says = Presence.LISTENING
    new.on_offer = refuse
    sender = Sender(new, old, 60)
    sender.send(request())
    later = request()
    assert sender.send(later) == "old"
    assert old.since >= later.began


def test_what_comes_back_is_sent_again(new: Bus, old: Bus) -> None:
    new.says = Presence.LISTENING

    def third_time_lucky(request: Request) -> None:
        if len(new.offered) < 3:
            raise NotTaken

    new.on_offer = third_time_lucky
    assert Sender(new, old, 60).send(request()) == "new"
    assert old.offered == []


def test_a_target_that_is_gone_fails_its_callers_at_once(new: Bus, old: Bus) -> None:
    new.says = Presence.LISTENING
    sender = Sender(new, old, 0.5)
    sender.send(request())
    new.says = old.says = Presence.GONE
    new.failure = errors.CallUnreachable("nobody")
    for least, most in ((0.5, 20), (0, PACE + 20)):
        began = time.monotonic()
        with pytest.raises(errors.CallUnreachable):
            sender.send(request())
        assert least <= time.monotonic() - began < most
    assert (len(new.insisted), old.offered, old.insisted) == (2, [], [])
    # a service that asks again and again is slowed down
    assert new.insisted_at[1] - new.insisted_at[0] >= PACE * 0.2
    # it is there again
    new.says = Presence.LISTENING
    assert sender.send(request()) == "new"
    new.says = Presence.GONE
    began = time.monotonic()
    with pytest.raises(errors.CallUnreachable):
        sender.send(request())
    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize("restart_timeout", [0, 0.3])
def test_a_target_that_was_never_anywhere_is_left_to_the_old_bus(
    new: Bus, old: Bus, restart_timeout: float
) -> None:
    sender = Sender(new, old, restart_timeout)
    assert sender.send(request(call=False)) == "old"
    # which stores it, or not; from then on without a look
    looks = old.looks
    assert sender.send(request(call=False)) == "old"
    assert (len(old.insisted), len(old.offered), old.looks) == (1, 1, looks)


def test_the_first_look_does_not_depend_on_patience(new: Bus, old: Bus) -> None:
    new.says = Presence.UNKNOWN
    sender = Sender(new, old, 0)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(sender.send, request())
        time.sleep(0.1)
        new.says = Presence.LISTENING
        assert held.result(30) == "new"


def test_a_caller_does_not_wait_longer_than_it_wants(new: Bus, old: Bus) -> None:
    new.says = Presence.LISTENING
    sender = Sender(new, old, 60)
    sender.send(request())
    new.says = Presence.GONE
    for call, kind in ((True, MessagingTimeout), (False, MessageDeliveryFailure)):
        began = time.monotonic()
        with pytest.raises(
            errors.TargetUnreachable, match="neither on new nor"
        ) as info:
            sender.send(request(timeout=0.3, call=call))
        assert isinstance(info.value, kind)
        assert 0.3 <= time.monotonic() - began < 20
    # rabbit:// would take a message without any time for one to be sent again and again
    assert new.insisted == old.insisted == []


def test_the_log_says_which_way_a_target_takes(
    new: Bus,
    old: Bus,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each way is news once a minute at most, and the last one is in the end."""
    sender = Sender(new, old, 60)

    def go(name: str) -> None:
        moved = name == "new"
        new.says = Presence.LISTENING if moved else Presence.GONE
        old.says = Presence.LISTENING
        for _ in range(2):
            assert sender.send(request(server="s")) == name

    with caplog.at_level("INFO"):
        for name in ("old", "new") * 3:
            go(name)
        monkeypatch.setattr(sending, "QUIET", 0)
        go("old")
        assert logs.flush(60)
    ways = ["old", "new", "old"]
    assert caplog.messages == [f"RPC to topic t, server s goes over {w}" for w in ways]


def test_the_log_says_from_time_to_time_what_goes_over_the_old_bus(
    new: Bus,
    old: Bus,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sender = Sender(new, old, 60)
    with caplog.at_level("INFO"):
        new.says = Presence.LISTENING
        for _ in range(3):
            sender.send(request())
        new.says, old.says = Presence.ABSENT, Presence.LISTENING
        for topic in ("b", "a", "b"):
            sender.send(request(topic=topic))

        def fail(request: Request) -> None:
            raise ValueError("what a server has raised")

        old.on_offer = fail
        with pytest.raises(ValueError, match="server"):
            sender.send(request(topic="b"))
        old.on_offer = refuse
        with pytest.raises(errors.TargetUnreachable):
            sender.send(request(topic="b", timeout=0.1))
        old.on_offer = lambda request: None
        monkeypatch.setattr(counts, "INTERVAL", 0)
        caplog.clear()
        sender.send(request(topic="b"))
        # nothing has gone over the old bus since
        new.says = Presence.LISTENING
        sender.send(request())
        assert logs.flush(60)
    (line,) = [text for text in caplog.messages if "requests" in text]
    assert line.endswith("s: 3 requests over new, 5 over old (b 4, a 1)")


def test_buses_are_to_hurry_while_a_request_is_held(new: Bus, old: Bus) -> None:
    old.says = Presence.LISTENING
    sender = Sender(new, old, 60)
    sender.send(request())
    assert new.hurried == old.hurried == 0
    old.on_offer = refuse
    with pytest.raises(errors.TargetUnreachable):
        sender.send(request(timeout=0.1))
    assert new.hurried > 0
    assert old.hurried > 0


def test_the_time_for_which_a_request_was_held_is_part_of_its_timeout() -> None:
    class Driver:
        def send(self, *words: Any, **named: Any) -> None:
            self.named = named

    driver = Driver()
    held = request(timeout=60)._replace(began=time.monotonic() - 20)
    held.send(driver, retry=3)
    assert 0 < driver.named["timeout"] <= 40
    assert driver.named["retry"] == 3
    held._replace(timeout=None).send(driver, retry=None)
    assert driver.named["timeout"] is None


@pytest.mark.parametrize("refusing", ["new", "old"])
@pytest.mark.parametrize("call", [True, False])
def test_patience_with_a_bus_that_believes_in_a_server_which_refuses_ends(
    new: Bus, old: Bus, refusing: str, call: bool
) -> None:
    bus = {"new": new, "old": old}[refusing]
    bus.says = Presence.LISTENING
    bus.on_offer = refuse
    sender = Sender(new, old, 0.3)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(sender.send, request(call=call, timeout=None))
        try:
            assert held.result(30) == refusing
        finally:
            sender.close()
    assert len(bus.insisted) == 1


def test_an_unmoved_target_that_has_left_the_old_bus_is_held(
    new: Bus, old: Bus
) -> None:
    old.says = Presence.LISTENING
    sender = Sender(new, old, 60)
    assert sender.send(request()) == "old"
    old.says = Presence.ABSENT
    old.on_offer = refuse
    looks = new.looks
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(sender.send, request())
        until(lambda: new.looks > looks + 5, "it is held")
        assert len(old.offered) == 2
        new.says = Presence.LISTENING
        assert held.result(30) == "new"


def test_what_was_held_counts_as_found_once_it_is_taken(new: Bus, old: Bus) -> None:
    new.says = Presence.LISTENING
    new.on_offer = refuse
    sender = Sender(new, old, 60)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(sender.send, request())
        until(lambda: len(new.offered) > 3, "it is offered again and again")
        (course,) = sender._courses.values()
        assert course.held
        assert sender._patience._missing

        def lose(request: Request) -> None:
            raise errors.BusLost("it was taken")

        new.on_offer = lose
        with pytest.raises(errors.BusLost):
            held.result(30)
    assert not course.held
    assert not sender._patience._missing


def test_what_is_held_is_not_sent_after_closing(new: Bus, old: Bus) -> None:
    sender = Sender(new, old, 60)

    def close(request: Request) -> None:
        sender.close()
        new.says = Presence.LISTENING
        raise NotTaken

    old.says = Presence.LISTENING
    old.on_offer = close
    with pytest.raises(errors.BusUnavailable, match="topic t: the transport is"):
        sender.send(request())
    with pytest.raises(errors.BusUnavailable, match="topic t: the transport is"):
        sender.send(request())
    assert new.offered == new.insisted == []


def test_closing_ends_what_is_held(new: Bus, old: Bus) -> None:
    new.says = Presence.LISTENING
    sender = Sender(new, old, 60)
    sender.send(request())
    new.says = Presence.GONE
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(sender.send, request())
        time.sleep(0.05)
        sender.close()
        with pytest.raises(errors.BusUnavailable, match="topic t: the transport is"):
            held.result(30)


def test_an_error_of_the_new_bus_is_not_mended_on_the_old_one(
    new: Bus, old: Bus
) -> None:
    """The request may have been executed."""
    new.says = old.says = Presence.LISTENING

    def lose(request: Request) -> None:
        raise errors.BusLost("lost")

    new.on_offer = lose
    with pytest.raises(errors.BusLost):
        Sender(new, old, 60).send(request())
    assert old.offered == []


def test_targets_are_forgotten(
    new: Bus, old: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "MOST", 5)
    new.says = Presence.LISTENING
    sender = Sender(new, old, 60)
    for number in range(20):
        sender.send(request(topic=f"topic-{number}"))
    assert len(sender._courses) == 5


def test_a_fanout_goes_to_both_buses_with_one_id(new: Bus, old: Bus) -> None:
    fanout = request(call=False, fanout=True)
    began = time.time()
    Sender(new, old, 60).fan_out(fanout)
    first, second = new.offered[0].message, old.insisted[0].message
    assert new.insisted == old.offered == []
    assert first == {"method": "do", FANOUT_ID: first[FANOUT_ID]}
    # a server may have executed the first one, and have restarted
    assert began <= second[FANOUT_SENT] <= time.time()
    assert second == {**first, FANOUT_SENT: second[FANOUT_SENT]}
    # the rabbit driver adds keys, which are not for the other bus, nor the caller's
    assert first is not second
    assert fanout.message == {"method": "do"}


@pytest.mark.parametrize("lost", ["new", "old"])
def test_a_fanout_reaches_one_bus_if_the_other_is_away(
    new: Bus, old: Bus, lost: str
) -> None:
    {"new": new, "old": old}[lost].failure = MessageDeliveryFailure("away")
    new.on_offer = refuse
    with pytest.raises(MessageDeliveryFailure, match="away"):
        Sender(new, old, 60).fan_out(request(call=False, fanout=True))
    assert len(new.insisted) == len(old.insisted) == 1


def test_a_fanout_that_only_some_have_is_not_sent_again(new: Bus, old: Bus) -> None:
    """Those on the new bus alone do not know its id."""

    def miss(request: Request) -> None:
        raise errors.FanoutIncomplete("one of two")

    new.on_offer = miss
    with pytest.raises(errors.FanoutIncomplete):
        Sender(new, old, 60).fan_out(request(call=False, fanout=True))
    assert (len(new.offered), len(new.insisted), len(old.insisted)) == (1, 0, 1)
    assert FANOUT_SENT in old.insisted[0].message


def test_a_fanout_waits_for_the_new_bus_after_the_old_one_has_it(
    new: Bus, old: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    new.on_offer = refuse
    order: list[tuple[str, bool]] = []
    for bus in (new, old):
        monkeypatch.setattr(
            bus,
            "insist",
            lambda request, name=bus.name: order.append(
                (name, FANOUT_SENT in request.message)
            ),
        )
    Sender(new, old, 60).fan_out(request(call=False, fanout=True))
    assert order == [("old", False), ("new", True)]


def test_a_child_of_a_fork_takes_no_lock_of_its_parent(new: Bus, old: Bus) -> None:
    new.says = Presence.LISTENING
    sender = Sender(new, old, 60)
    held = threading.Event()
    done = threading.Event()

    def hold() -> None:
        with sender._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    held.wait(60)
    sender.renew()
    assert sender.send(request()) == "new"
    done.set()
    thread.join(60)
