# SPDX-License-Identifier: Apache-2.0
"""A listener on both buses: in which order, and what comes in once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.functional.waiting import until

from hybrid_messaging.drivers import oslo
from hybrid_messaging.drivers.listeners import NotExecuted
from hybrid_messaging.drivers.migrate import listening
from hybrid_messaging.drivers.migrate.listening import BothListener, Half
from hybrid_messaging.drivers.migrate.sending import FANOUT_ID, FANOUT_SENT


class Listener(oslo.Listener):
    """Writes down what is done to it."""

    def __init__(self, name: str, done: list[str]) -> None:
        super().__init__(1, None)
        self._name, self._done = name, done

    def start(self, on_incoming_callback: Any) -> None:
        super().start(on_incoming_callback)
        self._done.append(f"{self._name} starts")

    def stop(self) -> None:
        super().stop()
        self._done.append(f"{self._name} stops")

    def cleanup(self) -> None:
        self._done.append(f"{self._name} ends")


class Incoming:
    """A request."""

    def __init__(self, id: Any = None, sent: Any = None) -> None:
        keys = {FANOUT_ID: id, FANOUT_SENT: sent}
        self.message = {"method": "do"} | {
            key: value for key, value in keys.items() if value is not None
        }
        self.acknowledged = False

    def acknowledge(self) -> None:
        self.acknowledged = True
        raise NotExecuted


@pytest.fixture
def done() -> list[str]:
    return []


@pytest.fixture
def made(done: list[str]) -> dict[str, Listener]:
    return {name: Listener(name, done) for name in ("old", "new")}


def both(
    made: dict[str, Listener],
    left_over: Callable[[oslo.Listener], list[Any]] | None = None,
    **open: Callable[[], oslo.Listener],
) -> BothListener:
    old, new = (
        Half(name, open.get(name) or (lambda name=name: made[name]), left_over)
        for name in ("old", "new")
    )
    return BothListener(old, new, 1, None)


def test_the_old_bus_is_left_first(made: dict[str, Listener], done: list[str]) -> None:
    listener = both(made)
    listener.start(lambda batch: None)
    listener.stop()
    listener.cleanup()
    starting = ["old starts", "new starts"]
    assert done == [*starting, "old stops", "new stops", "old ends", "new ends"]


def test_queues_are_left_at_once_and_what_was_taken_is_executed(
    made: dict[str, Listener], done: list[str]
) -> None:
    late = Incoming()
    taken: list[Any] = []

    listener = both(made, lambda listener: [late])
    listener.start(taken.extend)
    done.clear()
    listener.stop()
    assert done == ["old stops", "old ends", "new stops", "new ends"]
    assert taken == [late, late]
    listener.cleanup()
    assert len(done) == 4


def test_what_was_taken_is_executed_if_a_bus_cannot_be_left_in_order(
    made: dict[str, Listener], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError("the broker is away")

    monkeypatch.setattr(made["old"], "cleanup", fail)
    late = {name: Incoming() for name in made}
    taken: list[Any] = []
    listener = both(
        made, lambda stopped: [late["old" if stopped is made["old"] else "new"]]
    )
    listener.start(taken.extend)
    listener.stop()
    assert done[2:] == ["old stops", "new stops", "new ends"]
    assert taken == [late["old"], late["new"]]


def test_what_cannot_be_handed_on_keeps_nothing_up(
    made: dict[str, Listener], done: list[str]
) -> None:
    given: list[Any] = []

    def fail(batch: list[Any]) -> None:
        given.extend(batch)
        raise RuntimeError("no thread is left")

    late = [Incoming(), Incoming()]
    listener = both(made, lambda stopped: late)
    listener.start(fail)
    listener.stop()
    assert given == late * 2
    assert done[2:] == ["old stops", "old ends", "new stops", "new ends"]


def test_one_that_was_never_started_is_cleaned_up(
    made: dict[str, Listener], done: list[str]
) -> None:
    listener = both(made)
    listener.stop()
    listener.cleanup()
    assert done == ["old ends", "new ends"]


def test_a_fanout_is_handed_on_once(made: dict[str, Listener]) -> None:
    taken: list[Any] = []
    listener = both(made)
    listener.start(taken.extend)
    first, again, other, call = map(Incoming, ("1", "1", "2", None))
    odd = Incoming(["no", "id"])
    arriving = (first, again, other, call, odd)
    for incoming, name in zip(
        arriving, ("old", "new", "new", "old", "new"), strict=True
    ):
        callback: Any = made[name].on_incoming_callback
        callback([incoming])
    assert taken == [first, other, call, odd]
    assert again.acknowledged
    # nobody else is to see the id
    assert all(incoming.message == {"method": "do"} for incoming in taken)


def test_a_copy_of_a_fanout_that_comes_late_is_for_those_who_were_there(
    made: dict[str, Listener],
) -> None:
    """Perhaps for this server, which has executed the other copy and has restarted."""
    taken: list[Any] = []
    before = time.time()
    listener = both(made)
    listener.start(taken.extend)
    callback: Any = made["new"].on_incoming_callback
    late, since = Incoming("1", before - 0.01), Incoming("2", time.time())
    odd = Incoming("3", "yesterday")
    for incoming in (late, since, odd):
        callback([incoming])
    assert taken == [since, odd]
    assert late.acknowledged
    assert since.message == odd.message == {"method": "do"}


def test_a_bus_that_is_away_follows(
    made: dict[str, Listener], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "OPENING", 0.05)
    back = threading.Event()

    def open() -> oslo.Listener:
        back.wait(60)
        return made["old"]

    listener = both(made, old=open)
    listener.start(lambda batch: None)
    assert done == ["new starts"]
    back.set()
    until(lambda: done == ["new starts", "old starts"], "the old bus follows")
    listener.stop()
    assert done[2:] == ["old stops", "new stops"]


def test_a_bus_that_refuses_when_it_comes_back_is_tried_again(
    made: dict[str, Listener], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "OPENING", 0.05)
    monkeypatch.setattr(listening, "FIRST_PAUSE", 0.01)
    back = threading.Event()
    tries: list[str] = []

    def open() -> oslo.Listener:
        back.wait(60)
        tries.append("old")
        if len(tries) < 3:
            raise PermissionError("not yet")
        return made["old"]

    listener = both(made, old=open)
    listener.start(lambda batch: None)
    back.set()
    until(lambda: done == ["new starts", "old starts"], "the old bus follows")
    listener.stop()
    assert len(tries) == 3


def test_a_bus_that_refuses_is_left_alone_after_the_end(
    made: dict[str, Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "OPENING", 0.05)
    monkeypatch.setattr(listening, "FIRST_PAUSE", 60)
    back, tried = threading.Event(), threading.Event()

    def open() -> oslo.Listener:
        back.wait(60)
        tried.set()
        raise PermissionError("not you")

    listener = both(made, old=open)
    back.set()
    assert tried.wait(60)
    listener.cleanup()
    threads = threading.enumerate
    until(
        lambda: not any(each.name == "migrate-listen" for each in threads()),
        "nobody tries any more",
    )


@pytest.mark.parametrize("ending", [BothListener.stop, BothListener.cleanup])
def test_a_bus_that_comes_back_after_the_end_is_left_alone(
    made: dict[str, Listener],
    done: list[str],
    monkeypatch: pytest.MonkeyPatch,
    ending: Callable[[BothListener], None],
) -> None:
    monkeypatch.setattr(listening, "OPENING", 0.05)
    back = threading.Event()

    def open() -> oslo.Listener:
        back.wait(60)
        return made["old"]

    listener = both(made, old=open)
    listener.start(lambda batch: None)
    ending(listener)
    back.set()
    until(lambda: "old ends" in done, "it is cleaned up")
    assert "old starts" not in done


@pytest.mark.parametrize("name", ["old", "new"])
def test_a_bus_that_refuses_is_an_error(
    made: dict[str, Listener], done: list[str], name: str
) -> None:
    def refuse() -> oslo.Listener:
        raise PermissionError("not you")

    with pytest.raises(PermissionError, match="not you"):
        both(made, **{name: refuse})
    assert done == [f"{'new' if name == 'old' else 'old'} ends"]
