# SPDX-License-Identifier: Apache-2.0
"""Notifications in a migration: publishers use the new bus, consumers read both."""

from __future__ import annotations

from typing import Any

import oslo_messaging
import pytest
from oslo_messaging import Target
from tests.functional.rpc import configuration, with_options

from hybrid_messaging.drivers import oslo
from hybrid_messaging.drivers.migrate.driver import MigrateDriver

TARGET = Target(topic="notifications", exchange="nova")


class Listener(oslo.Listener):
    """Notes what is done with it."""

    def __init__(self) -> None:
        super().__init__(1, None)
        self.done: list[str] = []

    def start(self, on_incoming_callback: Any) -> None:
        self.done.append("start")

    def stop(self) -> None:
        self.done.append("stop")

    def cleanup(self) -> None:
        self.done.append("cleanup")


class Bus:
    """A driver that notes what it is asked for."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.listened: list[Any] = []
        self.listener = Listener()

    def send_notification(self, *words: Any) -> None:
        self.sent.append(words)

    def listen_for_notifications(self, *words: Any) -> Listener:
        self.listened.append(words)
        return self.listener


@pytest.fixture
def driver() -> MigrateDriver:
    """From one RabbitMQ to another."""
    url = with_options("migrate+rabbit://new:1/", from_url="rabbit://old:2/")
    made = oslo_messaging.get_notification_transport(configuration(), url)._driver
    assert isinstance(made, MigrateDriver)
    return made


@pytest.fixture
def buses(driver: MigrateDriver, monkeypatch: pytest.MonkeyPatch) -> dict[str, Bus]:
    made = {"new": Bus(), "old": Bus()}
    monkeypatch.setattr(driver._new, "notifying", made["new"])
    monkeypatch.setattr(driver._old, "notifying", made["old"])
    return made


def test_they_are_published_on_the_new_bus(
    driver: MigrateDriver, buses: dict[str, Bus]
) -> None:
    driver.send_notification(TARGET, {"a": 1}, {"b": 2}, 2.0, retry=3)
    assert buses["new"].sent == [(TARGET, {"a": 1}, {"b": 2}, 2.0, 3)]
    assert buses["old"].sent == []


def test_they_are_read_from_both_by_the_same_pool_in_the_same_batches(
    driver: MigrateDriver, buses: dict[str, Bus]
) -> None:
    wanted = ([(TARGET, "info")], "pool", 7, 0.5)
    listener = driver.listen_for_notifications(*wanted)
    assert buses["new"].listened == buses["old"].listened == [wanted]
    assert (listener.batch_size, listener.batch_timeout) == (7, 0.5)


def test_what_a_consumer_has_taken_is_not_taken_from_it_when_it_stops(
    driver: MigrateDriver, buses: dict[str, Bus]
) -> None:
    """It acknowledges what it has stored, over a connection that has to last."""
    listener = driver.listen_for_notifications([(TARGET, "info")], None, 1, None)
    listener.start(lambda batch: None)
    listener.stop()
    for bus in buses.values():
        assert bus.listener.done == ["start", "stop"]
    listener.cleanup()
    for bus in buses.values():
        assert bus.listener.done == ["start", "stop", "cleanup"]


def test_the_beginning_of_a_consumer_asks_both_for_what_it_needs(
    driver: MigrateDriver,
) -> None:
    """RabbitMQ takes messages back; so a consumer may ask for that."""
    driver.require_features(requeue=True)
    url = with_options("migrate+rabbit://new:1/", from_url="kafka://old:2/")
    made = oslo_messaging.get_notification_transport(configuration(), url)._driver
    made.require_features()
    with pytest.raises(NotImplementedError, match="requeu"):
        made.require_features(requeue=True)
