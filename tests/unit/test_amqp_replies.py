# SPDX-License-Identifier: Apache-2.0
"""What a caller makes of a call that is settled, and whose reply is not there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from oslo_messaging import MessagingTimeout, Target

from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.amqp import waiting as waiting_module
from hybrid_messaging.drivers.amqp.outbox import Outbox
from hybrid_messaging.drivers.amqp.outgoing import (
    SETTLES_WITH_REPLY,
    Message,
    Outgoing,
    State,
)
from hybrid_messaging.drivers.amqp.route import Route
from hybrid_messaging.drivers.amqp.waiting import GRACE, HEARING, HELD_UP, Waiting
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import ACCEPTED

MARK = codec.mark([SETTLES_WITH_REPLY])


class Scene:
    """Calls to one target; time passes only while somebody waits.

    :param does: called with how often somebody has waited: what happens meanwhile.
        It returns by how many seconds the thread gets up late.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, does: Callable[[int], float | None]
    ) -> None:
        self.now = time.monotonic()
        self.waits = 0
        #: what has arrived by then has not been read
        self.unread_until = -math.inf
        self._does = does
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(waiting_module, "time", clock)
        nothing: Any = None
        self.outbox = Outbox("bus", SimpleNamespace(restart_timeout=60), nothing)
        line: Any = SimpleNamespace(routing=True, flush=lambda: None)
        self.outbox._line = line
        self.replies: Any = SimpleNamespace(address="replies", continued=0.0)
        self.outbox._replies = self.replies
        self.route = Route(self.outbox, "key", "key")
        self.calls: list[Outgoing] = []

    def sent(self) -> Outgoing:
        """A call that the bus has."""
        id = str(len(self.calls))
        outgoing = Outgoing(
            Message(
                "key",
                Target(topic="topic"),
                "RPC call",
                "{}",
                id=id,
                is_call=True,
                marked=True,
            )
        )
        outgoing.route = self.route
        outgoing.since = self.now
        outgoing.state = State.SENT
        delivery: Any = object()
        outgoing.delivery = delivery
        self.outbox._sent[delivery] = outgoing
        self.outbox._calls[id] = outgoing
        self.calls.append(outgoing)
        return outgoing

    def queued(self) -> Outgoing:
        """A call that waits for credit."""
        call = self.sent()
        call.state = State.QUEUED
        return call

    def settle(self, call: Outgoing) -> None:
        assert call.delivery is not None
        self.outbox.on_outcome(call.delivery, ACCEPTED)

    def reply(self, call: Outgoing, marks: bytes = MARK) -> None:
        self.outbox.take_reply(
            codec.encode("body", correlation_id=call.message.id, marks=marks)
        )

    def replied(self, marks: bytes = MARK) -> None:
        """A call that is answered before it is settled, as it should be."""
        call = self.sent()
        self.reply(call, marks)
        self.settle(call)
        assert (call.state, call.reply) == (State.DONE, "body")

    def settles_first(self) -> Outgoing:
        call = self.sent()
        self.settle(call)
        return call

    def wait(self, call: Outgoing, timeout: float = 60) -> Any:
        """Wait for a call that has been sent."""

        def read(waits: Callable[[], bool], until: float) -> bool:
            late = self._does(self.waits)
            self.waits += 1
            if waits():
                self.now = until + (late or 0)
            return True

        turns: Any = SimpleNamespace(begin=lambda: None, end=lambda: None)
        waiting = Waiting(
            lambda: None,
            CombiningLock(lambda: None),
            self.outbox,
            turns,
            read,
            lambda moment: moment < self.unread_until,
        )
        waiting._submit = lambda outgoing: None  # type: ignore[method-assign]
        return waiting.send(call, timeout)


def nothing(_: int) -> None:
    pass


def test_the_promise_of_the_replies_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, nothing)
    assert scene.settles_first().state is State.SENT, "nothing is known yet"
    scene.replied()
    assert scene.settles_first().state is State.REPLIED
    # a server of the retired driver listens as well
    scene.replied(b"")
    assert scene.settles_first().state is State.SENT
    scene.replied()
    assert scene.settles_first().state is State.SENT


def test_a_lost_reply_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, nothing)
    scene.replied()
    call = scene.settles_first()
    began = scene.now
    with pytest.raises(errors.ServerLost, match="executed, but its reply is lost"):
        scene.wait(call)
    assert GRACE <= scene.now - began < GRACE + HELD_UP
    assert not scene.outbox._calls


def test_a_call_is_settled_while_its_caller_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch, lambda wait: scene.settle(call) if wait == 0 else None)
    scene.replied()
    call = scene.sent()
    began = scene.now
    with pytest.raises(errors.ServerLost):
        scene.wait(call)
    assert scene.now - began < GRACE + HELD_UP


def test_a_reply_that_is_late_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, lambda wait: scene.reply(call))
    scene.replied()
    call = scene.settles_first()
    assert scene.wait(call) == "body"


def test_a_reply_may_be_behind_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def parts_come(wait: int) -> None:
        if wait < 20:
            scene.replies.continued = scene.now + GRACE / 2
        elif wait == 20:
            scene.reply(call)

    scene = Scene(monkeypatch, parts_come)
    scene.replied()
    call = scene.settles_first()
    assert scene.wait(call) == "body"


def test_a_process_that_was_stopped_reads_before_it_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(wait: int) -> float | None:
        if scene.now > began + 30:
            scene.reply(call)
        return 30.0

    scene = Scene(monkeypatch, stopped)
    scene.replied()
    call = scene.settles_first()
    began = scene.now
    assert scene.wait(call) == "body"


@pytest.mark.parametrize("settled", [True, False])
def test_a_reply_that_has_arrived_and_is_not_read_yet_counts(
    monkeypatch: pytest.MonkeyPatch, settled: bool
) -> None:
    """The thread gets up in time, and the one that reads a moment later."""

    def gets_up(wait: int) -> None:
        scene.unread_until = scene.now + 3600
        if wait == 5:
            scene.reply(call)

    scene = Scene(monkeypatch, gets_up)
    scene.replied()
    call = scene.settles_first() if settled else scene.sent()
    assert scene.wait(call, timeout=GRACE / 2) == "body"


def test_a_reader_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(wait: int) -> None:
        scene.unread_until = scene.now + 3600

    scene = Scene(monkeypatch, hangs)
    scene.replied()
    call = scene.settles_first()
    began = scene.now
    with pytest.raises(MessagingTimeout, match="no reply"):
        scene.wait(call, GRACE / 2)
    assert HEARING <= scene.now - began < GRACE + HEARING


def test_no_call_waits_for_longer_than_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch, nothing)
    scene.replied()
    call = scene.settles_first()
    with pytest.raises(MessagingTimeout, match="no reply") as caught:
        scene.wait(call, GRACE / 2)
    assert not isinstance(caught.value, errors.DeliveryError)


def test_a_reply_without_the_promise_that_comes_after_all_is_learnt_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch, nothing)
    scene.replied()
    lost, other = scene.settles_first(), scene.settles_first()
    for call in (lost, other):
        with pytest.raises(errors.ServerLost):
            scene.wait(call)
    scene.reply(lost)
    assert scene.settles_first().state is State.REPLIED
    scene.reply(other, b"")
    assert scene.settles_first().state is State.SENT


def test_the_end_of_the_bus_ends_a_call_whose_reply_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch, nothing)
    scene.replied()
    call = scene.settles_first()
    scene.outbox.lost(Exception("gone"))
    assert isinstance(call.error, errors.BusLost)


# -- what the patience with the next restart begins with -----------------------------


def restarted(scene: Scene) -> float:
    """For how many seconds callers wait when the only server left restarts."""
    link: Any = SimpleNamespace(credit=0, unsettled=0, draining=True)
    link.drained = lambda: None
    scene.route.link, scene.route.attached = link, True
    scene.route.on_flow()
    until = scene.outbox.nobody_listens(scene.queued(), time.monotonic())
    assert until is not None
    return until - time.monotonic()


@pytest.mark.parametrize("answered", [True, False])
def test_a_call_that_came_back_long_ago_shortens_no_wait(
    monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    scene = Scene(monkeypatch, nothing)
    call = scene.sent()
    call.come_back()
    long_ago = scene.now - 600
    call.since = long_ago
    assert scene.outbox.nobody_listens(call, long_ago) == long_ago + 60
    call.state = State.SENT  # again, and another server is there
    if answered:
        scene.reply(call)
        scene.settle(call)
        assert call.state is State.DONE
    assert restarted(scene) > 55


def test_a_reply_shows_that_somebody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody says so when listeners leave."""
    scene = Scene(monkeypatch, nothing)
    call = scene.sent()
    call.come_back()
    assert scene.outbox.nobody_listens(call, scene.now) == scene.now + 60
    call.state = State.SENT
    scene.reply(call)
    later = scene.now + 600
    late = scene.sent()
    late.since = later
    late.come_back()
    assert scene.outbox.nobody_listens(late, later) == later + 60


def test_a_large_fanout_that_nobody_waits_for_is_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch, nothing)
    scene.outbox._routes["key"] = scene.route
    assert not scene.outbox.busy
    link: Any = SimpleNamespace(unsettled=1)
    scene.route.link = link
    assert scene.outbox.busy
    link.unsettled = 0
    assert not scene.outbox.busy
