# SPDX-License-Identifier: Apache-2.0
"""What becomes of a message that has arrived: whoever decides first, decides."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from hybrid_messaging.drivers import errors, logs
from hybrid_messaging.drivers.amqp.duties import Duties
from hybrid_messaging.drivers.amqp.incoming import (
    Desk,
    Inbox,
    Incoming,
    Notification,
    Request,
    Stage,
)
from hybrid_messaging.drivers.amqp.outgoing import SETTLES_WITH_REPLY
from hybrid_messaging.drivers.combining import CombiningLock
from hybrid_messaging.drivers.listeners import NotExecuted
from hybrid_messaging.drivers.seen import Seen
from hybrid_messaging.protocol import codec
from hybrid_messaging.protocol.endpoint import (
    ACCEPTED,
    RECEIVER_LOST,
    REJECTED,
    RELEASED,
    Outcome,
)

BODY = json.dumps({"request": {"method": "do", "args": {}}, "context": {}})
CAST = codec.encode(BODY)
NAMED = codec.encode(BODY, id="fanout")
CALL = codec.encode(BODY, id="call", reply_to="caller", ttl=60)
MARKED = codec.encode(
    BODY, id="call", reply_to="caller", marks=codec.mark([SETTLES_WITH_REPLY])
)


class Delivery:
    """An unsettled delivery."""

    context: Any = None


class Source:
    """A link, as an inbox knows it."""

    def __init__(self, routing: bool = True) -> None:
        self.line = SimpleNamespace(routing=routing, up=True)
        self.address = "address"
        self.fanouts = False
        self.outcomes: list[Outcome] = []
        self.free_credit = 0
        self._settled: set[Any] = set()

    def settle(self, delivery: Any, outcome: Outcome) -> None:
        if delivery is not None and delivery not in self._settled:
            self._settled.add(delivery)
            self.outcomes.append(outcome)

    def free(self) -> None:
        self.free_credit += 1


class Outbox:
    """Takes replies, or refuses them."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.errors: list[Exception] = []

    def reply_route(self, address: str) -> str:
        return address

    def submit(self, outgoing: Any) -> None:
        if self.errors:
            outgoing.finish(self.errors.pop(0))
        else:
            self.sent.append(json.loads(outgoing.message.body))
            outgoing.finish()


class Scene:
    """An inbox, the link that messages come on, and what the service is given."""

    def __init__(self, kind: type[Incoming] = Request, routing: bool = True) -> None:
        lock = CombiningLock(lambda: None)
        self.duties = Duties(lock, lambda _: None)
        self.outbox = Outbox()
        subscriptions: Any = SimpleNamespace(
            add=lambda _: None, remove=lambda _: None, stop=lambda _: None
        )
        options = SimpleNamespace(
            default_reply_timeout=30,
            default_send_timeout=60,
            default_reply_retry=0,
            pre_settled={"rpc-reply"},
            link_retry_delay=10,
        )
        waiting: Any = SimpleNamespace(send=None)
        outbox: Any = self.outbox
        self.desk = Desk(options, lock, self.duties, outbox, waiting, subscriptions)
        self.source: Any = Source(routing)
        self.given: list[Any] = []
        seen = Seen(10, 60)
        self.inbox = Inbox(self.desk, kind, lambda _: [], 10, self.take, seen)

    def take(self, incoming: Any) -> None:
        self.given.append(incoming)

    def arrive(self, data: bytes, settled: bool = False) -> Any:
        """A message arrives; it is handed over with `duties.catch_up()`."""
        delivery: Any = None if settled else Delivery()
        self.inbox.on_arrived(self.source, delivery, data)
        return delivery.context if delivery is not None else None

    def receive(self, data: bytes, settled: bool = False) -> Any:
        """A message arrives and is handed over."""
        incoming = self.arrive(data, settled)
        self.duties.catch_up()
        return incoming


def begins(scene: Scene, incoming: Any) -> bool:
    try:
        incoming.acknowledge()
    except NotExecuted:
        return False
    return True


def expire(scene: Scene, incoming: Any) -> None:
    incoming._expires = time.monotonic() - 1
    begins(scene, incoming)


#: What may happen to a call that waits: the stage that it leads to, the outcome that
#: the bus is told at once.
EVENTS: dict[Stage, tuple[Callable[[Scene, Any], Any], list[Outcome]]] = {
    Stage.BEGUN: (begins, []),
    Stage.RETURNED: (lambda scene, _: scene.inbox.on_stopped(), [RELEASED]),
    Stage.LOST: (lambda scene, _: scene.inbox.on_detached(scene.source), []),
    Stage.WITHDRAWN: (lambda _, incoming: incoming.on_withdrawn(), []),
    Stage.EXPIRED: (expire, [RELEASED]),
}


@pytest.mark.parametrize(("first", "second"), itertools.permutations(EVENTS, 2))
def test_the_first_event_decides_on_a_call(first: Stage, second: Stage) -> None:
    scene = Scene()
    call = scene.receive(MARKED)
    EVENTS[first][0](scene, call)
    EVENTS[second][0](scene, call)
    assert call.stage is first
    assert scene.source.outcomes == EVENTS[first][1]
    assert scene.source.free_credit == 1
    assert begins(scene, call) == (first is Stage.BEGUN)
    assert scene.inbox.dropped.total() == (first is not Stage.BEGUN)


@pytest.mark.parametrize("stage", [Stage.RETURNED, Stage.LOST, Stage.WITHDRAWN])
def test_what_is_decided_before_the_service_has_it_is_not_handed_over(
    stage: Stage,
) -> None:
    scene = Scene()
    call = scene.arrive(CALL)
    EVENTS[stage][0](scene, call)
    scene.duties.catch_up()
    assert scene.given == []
    assert call.stage is stage


def test_a_cast_is_confirmed_on_arrival_and_holds_its_credit_until_it_begins() -> None:
    scene = Scene()
    cast = scene.receive(CAST)
    assert scene.given == [cast]
    assert scene.source.outcomes == [ACCEPTED]
    assert scene.source.free_credit == 0
    assert scene.inbox.confirmed == 1
    assert begins(scene, cast)
    assert scene.source.free_credit == 1
    assert scene.inbox.confirmed == 0


@pytest.mark.parametrize("stage", [Stage.RETURNED, Stage.LOST])
def test_a_confirmed_cast_is_executed_here_whatever_becomes_of_the_link(
    stage: Stage,
) -> None:
    scene = Scene()
    cast = scene.receive(CAST)
    EVENTS[stage][0](scene, cast)
    assert begins(scene, cast)
    assert scene.source.outcomes == [ACCEPTED]


def test_a_cast_that_expires_is_executed_since_it_was_confirmed() -> None:
    scene = Scene()
    cast = scene.receive(codec.encode(BODY, ttl=0))
    assert begins(scene, cast)


@pytest.mark.parametrize("ttl", [b"\x45", b"\xa1\x03ttl", b"\x41", b"\x55\xff"])
def test_a_lifetime_that_is_none_does_no_harm(ttl: bytes) -> None:
    header = b"\x00\x53\x70\xc0" + bytes((len(ttl) + 3, 3)) + b"\x40\x40" + ttl
    scene = Scene()
    call = scene.receive(header + CALL[CALL.index(b"\x00\x53\x73") :])
    assert begins(scene, call)


def test_a_broker_keeps_a_cast_until_it_begins() -> None:
    scene = Scene(routing=False)
    cast = scene.receive(CAST)
    assert scene.source.outcomes == []
    assert begins(scene, cast)
    assert scene.source.outcomes == [ACCEPTED]


@pytest.mark.parametrize(
    ("routing", "data"), [(False, MARKED), (True, CALL)], ids=["broker", "old peer"]
)
def test_a_call_is_settled_when_it_begins_where_nobody_knows_better(
    routing: bool, data: bytes
) -> None:
    scene = Scene(routing=routing)
    call = scene.receive(data)
    assert scene.source.outcomes == []
    assert begins(scene, call)
    assert scene.source.outcomes == [ACCEPTED]


def test_a_call_settled_on_its_way_was_withdrawn_if_it_was_not_sent_so() -> None:
    scene = Scene()
    scene.receive(MARKED, settled=True)
    assert scene.given == []
    assert scene.inbox.dropped == {Stage.WITHDRAWN: 1}
    assert scene.source.free_credit == 1
    scene.receive(CALL, settled=True)  # as pre_settled = rpc-call has it
    assert begins(scene, scene.given[0])


def test_a_withdrawn_request_leaves_nothing_in_the_queue_of_a_busy_service() -> None:
    scene = Scene()
    call = scene.receive(CALL)
    assert call.message["method"] == "do"
    call.on_withdrawn()
    assert (call.message, call.ctxt) == ({}, {})


def test_acknowledging_twice_changes_nothing() -> None:
    scene = Scene()
    call = scene.receive(CALL)
    assert begins(scene, call)
    assert begins(scene, call)
    assert scene.source.free_credit == 1


# -- services that end ---------------------------------------------------------------


def test_a_request_that_the_service_does_not_take_goes_back() -> None:
    scene = Scene()

    def ended(incoming: Any) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    scene.inbox._hand_over = ended
    call, cast = scene.receive(CALL), scene.receive(CAST)
    assert (call.stage, cast.stage) == (Stage.RETURNED, Stage.RETURNED)
    assert scene.source.outcomes == [RELEASED, RELEASED]
    assert scene.source.free_credit == 2


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_confirmed_messages_that_are_never_executed_are_reported_once(
    lost: int, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene()
    for _ in range(lost):
        scene.receive(CAST)
    scene.inbox.cleanup()
    assert logs.flush(60)
    found = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert [each.getMessage().split()[0] for each in found] == [str(lost)] * bool(lost)


# -- replies ---------------------------------------------------------------------------


def test_a_call_is_settled_when_its_reply_has_left() -> None:
    scene = Scene()
    call = scene.receive(MARKED)
    assert begins(scene, call)
    assert scene.source.outcomes == []
    call.reply("done")
    assert scene.outbox.sent == [{"response": "done"}]
    assert scene.source.outcomes == [ACCEPTED]


def test_a_reply_that_cannot_be_sent_fails_its_call() -> None:
    scene = Scene()
    call = scene.receive(MARKED)
    scene.outbox.errors = [errors.BusUnavailable("gone")]
    call.reply("done")
    assert scene.source.outcomes == [RECEIVER_LOST]


def test_a_reply_that_is_refused_is_replaced_by_the_reason() -> None:
    scene = Scene()
    call = scene.receive(MARKED)
    scene.outbox.errors = [errors.MessageRefused("It has 9 bytes, the limit is 8.")]
    call.reply("x" * 9)
    (sent,) = scene.outbox.sent
    assert "the limit is 8" in sent["failure"]
    assert scene.source.outcomes == [ACCEPTED]


def test_a_reply_whose_replacement_is_refused_fails_its_call() -> None:
    scene = Scene()
    call = scene.receive(MARKED)
    scene.outbox.errors = [errors.MessageRefused("no"), errors.MessageRefused("no")]
    call.reply("done")
    assert scene.source.outcomes == [RECEIVER_LOST]


def test_replies_do_not_follow_to_another_connection() -> None:
    scene = Scene()
    call, cast = scene.receive(MARKED), scene.receive(CAST)
    scene.source.line.up = False
    call.reply("done")
    cast.reply("casts have none")
    assert scene.outbox.sent == []


# -- notifications -------------------------------------------------------------------


@pytest.mark.parametrize("stage", [Stage.RETURNED, Stage.LOST, Stage.WITHDRAWN])
def test_a_notification_that_the_listener_has_is_worked_on(stage: Stage) -> None:
    scene = Scene(Notification)
    notification = scene.receive(CAST)
    EVENTS[stage][0](scene, notification)
    assert scene.source.outcomes == []
    notification.acknowledge()
    assert scene.source.outcomes == [ACCEPTED]
    assert scene.source.free_credit == 1


def test_a_requeued_notification_goes_back() -> None:
    scene = Scene(Notification, routing=False)
    scene.receive(CAST).requeue()
    assert scene.source.outcomes == [RELEASED]
    assert scene.source.free_credit == 1


@pytest.mark.parametrize("settled", [True, False])
def test_a_fanout_that_a_mesh_brings_twice_is_executed_once(settled: bool) -> None:
    scene = Scene()
    scene.source.fanouts = True
    scene.receive(NAMED, settled)
    # over the next connection as well
    scene.source, former = Source(), scene.source
    scene.source.fanouts = True
    scene.receive(NAMED, settled)
    assert len(scene.given) == 1
    assert scene.inbox.dropped == {Stage.DUPLICATE: 1}
    assert scene.inbox.confirmed == 1
    # its sender learns nothing of that, and its credit comes back
    assert scene.source.outcomes == former.outcomes == ([] if settled else [ACCEPTED])
    assert scene.source.free_credit == 1


def test_every_listener_executes_a_fanout() -> None:
    for _ in range(2):
        scene = Scene()
        scene.source.fanouts = True
        scene.receive(NAMED)
        assert len(scene.given) == 1


def test_a_fanout_is_not_remembered_before_it_is_understood() -> None:
    scene = Scene()
    scene.source.fanouts = True
    scene.receive(codec.encode("nonsense", id="fanout"))
    scene.receive(NAMED)
    assert len(scene.given) == 1


@pytest.mark.parametrize(
    ("fanouts", "routing", "message"),
    [
        pytest.param(False, True, NAMED, id="no fanout"),
        pytest.param(True, False, NAMED, id="a broker that brings it back"),
        pytest.param(True, True, CAST, id="no id, as of the retired driver"),
    ],
)
def test_what_may_come_twice(fanouts: bool, routing: bool, message: bytes) -> None:
    scene = Scene(routing=routing)
    scene.source.fanouts = fanouts
    scene.receive(message)
    scene.receive(message)
    assert len(scene.given) == 2


@pytest.mark.parametrize("kind", [Request, Notification])
def test_nonsense_is_refused(kind: type[Incoming]) -> None:
    scene = Scene(kind)
    scene.receive(b"nonsense")
    assert [outcome.state for outcome in scene.source.outcomes] == [REJECTED.state]
    assert scene.source.free_credit == 1
    assert scene.given == []
