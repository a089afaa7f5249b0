# SPDX-License-Identifier: Apache-2.0
"""How `zmq` sends a fanout to all, and what it says of those that miss it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pytest

from hybrid_messaging.drivers import errors, logs
from hybrid_messaging.drivers.waiter import Waiter
from hybrid_messaging.drivers.zmq import peer as peers
from hybrid_messaging.drivers.zmq import sending, wire
from hybrid_messaging.drivers.zmq.directory import Listing
from hybrid_messaging.drivers.zmq.matchmaker import Reading, Record
from hybrid_messaging.drivers.zmq.message import Fanout, Message, State
from hybrid_messaging.drivers.zmq.peer import Candidate, Link, Peer
from hybrid_messaging.drivers.zmq.routes import Route


def listener(number: int) -> Candidate:
    endpoint = f"tcp://127.0.0.1:{number}"
    return Candidate(Record(f"s{number}", endpoint, "p"), b"a", Peer(endpoint, ""))


class Carrier:
    """A client whose connections come up one by one, and whose listeners answer."""

    def __init__(self, route: Route, ups: int) -> None:
        self.routes = self
        self.directory = self
        self.failure = None
        self.blind = False
        self.asked = 0
        self.closed = False
        self.missed = sending.Missed()
        self.connected_at = 0.0
        self.sent: list[Candidate] = []
        self._route = route
        self._ups = ups

    def known(self, topic: str) -> Listing | None:
        return self._route.listing

    def ask(self, topic: str, waiter: Waiter) -> None:
        self.asked += 1
        reading = Reading("1", (), "epoch")
        self._route.listing = Listing(reading, time.monotonic(), None)
        waiter.wake()

    def refresh(self, route: Route, now: float) -> None:
        pass

    def connect(self, found: Iterable[Peer]) -> None:
        """Time passes, and some are up."""
        time.sleep(0.01)
        for peer in list(found)[: self._ups]:
            peer.connected()
            self.connected_at = time.monotonic()

    def transmit(
        self, message: Message, candidates: list[Candidate], more: bool = False
    ) -> None:
        assert isinstance(message, Fanout)
        message.more = more
        for candidate in candidates:
            self.sent.append(candidate)
            message.came_back(1, candidate, busy=candidate.full)
        message.left()

    def sleep(self, message: Message, until: float) -> None:
        raise AssertionError("nobody keeps it waiting")

    def pause(self, message: Message, until: float) -> None:
        message.waiter.wait(until - time.monotonic())

    def hear(self, message: Message, moment: float) -> None:
        pass

    def give_up(self, message: Message, error: Exception) -> None:
        raise AssertionError("it is not given up")

    withdraw = give_up


def fan_out(listeners: list[Candidate], ups: int, timeout: float) -> Any:
    route = Route("topic", None)
    route.candidates = listeners
    carrier: Any = Carrier(route, ups)
    message = Fanout(wire.FANOUT, "RPC fanout", "topic", b"{}", timeout)
    sending.FanningOut(carrier, message, route).run()
    assert message.state is State.DONE
    return carrier, message


def test_a_fanout_reaches_all_however_slowly_they_are_connected() -> None:
    listeners = [listener(number) for number in range(50)]
    carrier, message = fan_out(listeners, 1, 60)
    assert message.error is None
    assert sorted(carrier.sent, key=listeners.index) == listeners


def test_a_fanout_does_not_wait_for_a_matchmaker_that_is_silent() -> None:
    route = Route("topic", None)
    route.candidates = [listener(1)]
    route.candidates[0].peer.connected()
    carrier: Any = Carrier(route, 1)
    carrier.ask("topic", Waiter())
    carrier.blind = True
    message = Fanout(wire.FANOUT, "RPC fanout", "topic", b"{}", 60)
    sending.FanningOut(carrier, message, route).run()
    assert carrier.sent == route.candidates
    assert carrier.asked == 1, "nothing more than before"


def test_a_fanout_that_one_refuses_fails_when_the_others_have_it() -> None:
    message = Fanout(wire.FANOUT, "RPC fanout", "topic", b"{}", 60)
    message.held = dict(enumerate(listener(number) for number in range(2)))
    message.left()
    del message.held[0]
    message.was_refused(errors.MessageRefused("too large"))
    message.more = False
    assert message.state is State.SENT
    del message.held[1]
    message.was_taken(b"")
    assert message.state is State.DONE
    assert isinstance(message.error, errors.MessageRefused)


def test_a_fanout_whose_time_is_up_says_how_many_it_has_not_reached() -> None:
    carrier, message = fan_out([listener(number) for number in range(100)], 1, 0.3)
    left = 100 - len(carrier.sent)
    assert 0 < left < 100
    assert isinstance(message.error, errors.DeliveryError)
    assert f"{left} of 100 listeners could not be reached" in str(message.error)


@pytest.mark.parametrize("before", [False, True])
def test_who_does_not_answer_is_missed_and_the_first_time_told(
    before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "STANDSTILL", 0.2)
    listeners = [listener(number) for number in range(3)]
    for each in listeners[:2]:
        each.peer.connected()
    silent = listeners[2].peer
    silent.link = Link.CONNECTING
    if before:
        silent.missed_since = time.monotonic() - 60
    else:
        monkeypatch.setattr(Carrier, "connect", lambda carrier, found: begin(silent))
    carrier, message = fan_out(listeners, 0, 60)
    assert carrier.sent == listeners[:2]
    if before:
        assert message.error is None
    else:
        assert "1 of 3 listeners could not be reached" in str(message.error)


def begin(peer: Peer) -> None:
    if peer.missed_since is None:
        peer.missed_since = time.monotonic()


def test_those_that_miss_fanouts_are_named_once_in_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    missed = sending.Missed()
    listeners = [listener(number) for number in range(12)]
    missed.note("topic", [])
    missed.note("topic", listeners[:1])
    for _ in range(3):
        missed.note("topic", listeners)
    logs.flush()
    (first,) = caplog.messages
    assert "s0 at tcp://127.0.0.1:0 (topic) 1 times" in first
    monkeypatch.setattr(missed._tally, "_quiet_until", 0.0)
    missed.note("topic", listeners[:1])
    logs.flush()
    assert "(topic) 4 times" in caplog.messages[-1]
    assert "and 2 others" in caplog.messages[-1]
    assert len(caplog.messages) == 2
