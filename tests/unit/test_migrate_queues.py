# SPDX-License-Identifier: Apache-2.0
"""Looks at queues of RabbitMQ, with a connection that says what a test wants."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

import pytest
from amqp.exceptions import NotFound
from tests.functional.waiting import until

from hybrid_messaging.drivers.migrate import queues as module
from hybrid_messaging.drivers.migrate.queues import Queues
from hybrid_messaging.drivers.presence import Presence


class Node:
    """Stands for RabbitMQ, the driver's pool and its connections."""

    def __init__(self) -> None:
        #: consumers by queue
        self.consumers: dict[str, int] = {}
        self.looks: list[str] = []
        self.opened = self.closed = 0
        self.failure: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()

    def open(self, driver: Any) -> Any:
        if self.failure is not None:
            raise self.failure
        self.opened += 1
        return types.SimpleNamespace(
            connection=types.SimpleNamespace(channel=self._channel), close=self._close
        )

    def _close(self) -> None:
        self.closed += 1

    @contextlib.contextmanager
    def _channel(self) -> Iterator[Any]:
        yield types.SimpleNamespace(queue_declare=self._declare)

    def _declare(self, name: str, passive: bool) -> Any:
        assert passive
        self.looks.append(name)
        self.answers.wait(60)
        if self.failure is not None:
            raise self.failure
        if name not in self.consumers:
            raise NotFound
        return types.SimpleNamespace(consumer_count=self.consumers[name])


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node()
    monkeypatch.setattr(module.oslo, "open_connection", made.open)
    monkeypatch.setattr(module.oslo, "locked", contextlib.nullcontext)
    monkeypatch.setattr(module, "PAUSE", 0.01)
    return made


@pytest.fixture
def queues(node: Node) -> Iterator[Queues]:
    made = Queues(None)
    yield made
    node.answers.set()
    made.close()
    until(lambda: node.opened == node.closed, "the connection is closed")


def known(queues: Queues, name: str, since: float = 0) -> Presence:
    def look() -> Presence | None:
        found = queues.presence(name, since)
        return None if found is Presence.UNKNOWN else found

    return until(look, f"{name} is looked at")


def test_what_queues_say(node: Node, queues: Queues) -> None:
    node.consumers = {"served": 2, "left": 0}
    assert known(queues, "served") is Presence.LISTENING
    assert known(queues, "left") is Presence.GONE
    assert known(queues, "never") is Presence.ABSENT
    assert node.opened == 1


def test_nobody_waits_for_a_look_and_none_is_made_twice(
    node: Node, queues: Queues
) -> None:
    node.answers.clear()
    for _ in range(20):
        assert queues.presence("q", 0) is Presence.UNKNOWN
    until(lambda: node.looks == ["q"], "it is looked at")
    node.answers.set()
    assert known(queues, "q") is Presence.ABSENT
    assert node.looks == ["q"]


def test_a_node_that_is_away_is_given_a_pause(
    node: Node, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    clock = types.SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append)
    monkeypatch.setattr(module, "time", clock)
    node.failure = OSError("away")
    assert queues.presence("q", 0) is Presence.UNKNOWN
    until(lambda: pauses == [module.PAUSE], "it pauses")


def test_what_was_found_is_used_until_the_next_answer(
    node: Node, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.consumers = {"q": 1}
    assert known(queues, "q") is Presence.LISTENING
    monkeypatch.setattr(module, "FRESH", 0)
    monkeypatch.setattr(module, "PACE", 0)
    node.answers.clear()
    assert queues.presence("q", 0) is Presence.LISTENING  # and it is looked again
    until(lambda: node.looks == ["q", "q"], "it is looked at again")
    node.consumers = {"q": 0}
    assert queues.presence("q", 0) is Presence.LISTENING
    node.answers.set()
    until(lambda: queues.presence("q", 0) is Presence.GONE, "the answer counts")


def test_what_was_found_before_does_not_count(node: Node, queues: Queues) -> None:
    node.consumers = {"q": 1}
    assert known(queues, "q") is Presence.LISTENING
    node.consumers = {"q": 0}
    since = queues._found["q"].at + 0.001
    assert known(queues, "q", since) is Presence.GONE


def test_requests_that_need_a_new_look_share_one(
    node: Node, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they all do while a target has just left."""
    monkeypatch.setattr(module, "PACE", 60)
    assert known(queues, "q") is Presence.ABSENT
    since = queues._found["q"].at + 0.001
    assert queues.presence("q", since) is Presence.UNKNOWN
    assert not queues._asked
    monkeypatch.setattr(module, "PACE", 0.05)
    assert known(queues, "q", since) is Presence.ABSENT
    assert node.looks == ["q"] * 2


def test_what_was_found_long_ago_does_not_count(
    node: Node, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.consumers = {"q": 1}
    assert known(queues, "q") is Presence.LISTENING
    node.answers.clear()
    monkeypatch.setattr(module, "STALE", 0)
    assert queues.presence("q", -math.inf) is Presence.UNKNOWN


def test_a_connection_that_fails_is_made_anew(node: Node, queues: Queues) -> None:
    assert known(queues, "q") is Presence.ABSENT
    node.failure = OSError("it has gone")
    assert queues.presence("other", 0) is Presence.UNKNOWN
    until(lambda: node.closed == 1, "it is closed")
    assert queues.presence("other", 0) is Presence.UNKNOWN
    node.failure = None
    assert known(queues, "other") is Presence.ABSENT
    assert node.opened == 2


def test_queues_are_forgotten(
    node: Node, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    for number in range(10):
        known(queues, f"q{number}")
    assert len(queues._found) == 3


def test_closed_queues_ask_nobody(node: Node, queues: Queues) -> None:
    queues.close()
    assert queues.presence("q", 0) is Presence.UNKNOWN
    assert node.looks == []
