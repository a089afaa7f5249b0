# SPDX-License-Identifier: Apache-2.0
"""One side of a transport moves from bus to bus, whatever happens meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.functional.waiting import until

from hybrid_messaging.drivers.amqp import mailbox as mailbox_module
from hybrid_messaging.drivers.amqp import uplink
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.drivers.amqp.mailbox import Mailbox
from hybrid_messaging.drivers.amqp.uplink import Uplink

FAR = 60.0
HOSTS = [Host("one", 1, None, None), Host("two", 2, None, None)]


class Bus:
    """A bus that is connected to whatever host it is to be connected to."""

    def __init__(self, move: uplink.Move) -> None:
        self._move: Any = move
        self.stays = True
        self.busy = False
        self.calls: list[str] = []

    def moves(self) -> None:
        """It should be connected to another host."""
        self._move(self, HOSTS)

    def connect_to(self, hosts: list[Host]) -> bool:
        assert hosts == HOSTS
        return True

    def stays_at(self, hosts: list[Host]) -> bool:
        return self.stays

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: self.calls.append(name)


class Inbox:
    """One that receives as soon as it is opened."""

    attached = True

    def __init__(self, bus: Any) -> None:
        self.bus = bus
        self.done = False
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def retire(self) -> None:
        self.calls.append("retire")

    def cleanup(self) -> None:
        self.calls.append("cleanup")


class Scene:
    """A side with all the buses that it has had."""

    def __init__(self) -> None:
        self.buses: list[Bus] = []
        self.inboxes: list[Any] = []
        self.uplink = Uplink(self._make_bus)

    def _make_bus(self, move: uplink.Move) -> Any:
        self.buses.append(Bus(move))
        return self.buses[-1]

    def open(self, bus: Any) -> Any:
        self.inboxes.append(Inbox(bus))
        return self.inboxes[-1]

    @property
    def used(self) -> Any:
        """The bus in use."""
        return self.uplink.bus

    def closed(self, bus: Bus) -> bool:
        return "close" in bus.calls


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    for name in ("JOINING", "OVERLAP", "LOOK"):
        monkeypatch.setattr(uplink, name, 0.001)
    monkeypatch.setattr(mailbox_module, "Inbox", Inbox)
    return Scene()


def test_what_is_used_no_longer_is_closed_when_it_is_done(scene: Scene) -> None:
    first = scene.used
    first.busy = True
    first.moves()
    until(lambda: "retire" in first.calls, "it moves", FAR)
    assert scene.used is scene.buses[1]
    assert scene.used.calls == ["take_over"]
    assert not scene.closed(first)
    first.busy = False
    until(lambda: scene.closed(first), "the first bus is closed", FAR)


def test_a_long_call_on_a_bus_that_is_left_holds_up_no_other_move(scene: Scene) -> None:
    first = scene.used
    first.busy = True
    first.moves()
    until(lambda: "retire" in first.calls, "it moves", FAR)
    second = scene.used
    second.moves()
    until(lambda: scene.closed(second), "it moves once more", FAR)
    assert scene.used is scene.buses[2]
    assert not scene.closed(first)
    scene.uplink.close()
    until(lambda: scene.closed(first) and scene.closed(scene.used), "the end", FAR)


def test_a_host_that_is_about_to_end_is_not_moved_to(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scene.used
    with monkeypatch.context() as patched:
        patched.setattr(Bus, "stays_at", lambda *_: False)
        first.moves()
        until(lambda: scene.closed(scene.buses[-1]), "the attempt ends", FAR)
    assert scene.used is first
    until(lambda: first.moves() or scene.used is not first, "the next one", FAR)


def test_one_host_is_tried_at_a_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    connects = threading.Event()
    monkeypatch.setattr(Bus, "connect_to", lambda *_: connects.wait(FAR))
    first = scene.used
    for _ in range(3):
        first.moves()
    assert len(scene.buses) == 2
    connects.set()
    until(lambda: scene.closed(first), "it moves", FAR)
    assert len(scene.buses) == 2


def test_a_child_gives_up_each_bus_of_its_parent(scene: Scene) -> None:
    first = scene.used
    first.busy = True
    first.moves()
    until(lambda: "retire" in first.calls, "it moves", FAR)
    scene.uplink.after_fork()
    assert all("after_fork" in bus.calls for bus in scene.buses)
    first.busy = False
    until(lambda: scene.closed(first), "the first bus is closed", FAR)


def test_a_process_that_may_have_no_more_threads_stays_where_it_is(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    first = scene.used
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        first.moves()
    assert scene.used is first
    first.moves()
    until(lambda: scene.closed(first), "it moves later", FAR)


def test_listeners_come_along(scene: Scene) -> None:
    first = scene.used
    mailbox = scene.uplink.listen(scene.open)
    mailbox.start()
    first.moves()
    until(lambda: "retire" in scene.inboxes[0].calls, "it moves", FAR)
    assert scene.inboxes[1].bus is scene.used
    assert scene.inboxes[1].calls == ["start"]
    assert not scene.closed(first)
    scene.inboxes[0].done = True
    until(lambda: scene.closed(first), "the first bus is closed", FAR)
    assert scene.inboxes[0].calls == ["start", "retire", "cleanup"]
    assert scene.inboxes[1].calls == ["start"]


def test_a_listener_that_has_stopped_answers_what_it_has_begun(scene: Scene) -> None:
    first = scene.used
    mailbox = scene.uplink.listen(scene.open)
    mailbox.start()
    mailbox.stop()
    (inbox,) = scene.inboxes
    first.moves()
    until(lambda: "retire" in inbox.calls, "it moves", FAR)
    threading.Event().wait(0.05)
    assert not scene.closed(first), "its replies go over this bus"
    inbox.done = True
    until(lambda: scene.closed(first), "the first bus is closed", FAR)
    assert scene.inboxes == [inbox]


def test_a_listener_that_opens_during_a_move_opens_where_it_leads() -> None:
    """Its thread may be slower than the whole move."""
    buses: list[Any] = ["old"]
    opened: list[Any] = []
    mailbox = Mailbox(opened.append, lambda: buses[-1], lambda _: None)  # type: ignore[arg-type]
    with mailbox._opening:
        thread = threading.Thread(target=mailbox.move)
        thread.start()
        buses.append("new")
    thread.join(FAR)
    mailbox.move()
    assert opened == ["new"]
