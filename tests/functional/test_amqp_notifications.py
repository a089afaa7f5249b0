# SPDX-License-Identifier: Apache-2.0
"""Notifications over `amqp://`: through a router they need a listener."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import oslo_messaging
import pytest
from oslo_messaging import NotificationResult, Target
from tests.functional.rpc import Rpc, configuration, end
from tests.functional.waiting import Stopwatch, until

from hybrid_messaging.drivers import errors, logs

Listener = Callable[..., oslo_messaging.MessageHandlingServer]


class Endpoint:
    """Takes notifications of some priorities; may ask for them again."""

    def __init__(self, requeue: int = 0) -> None:
        self.seen: list[tuple[str, str, Any]] = []
        self._requeue = requeue

    def _take(self, priority: str, event: str, payload: Any) -> NotificationResult:
        self.seen.append((priority, event, payload))
        if len(self.seen) <= self._requeue:
            return NotificationResult.REQUEUE
        return NotificationResult.HANDLED

    def info(
        self, ctxt: Any, publisher: str, event: str, payload: Any, meta: Any
    ) -> Any:
        return self._take("info", event, payload)

    def error(
        self, ctxt: Any, publisher: str, event: str, payload: Any, meta: Any
    ) -> Any:
        return self._take("error", event, payload)


class BatchEndpoint:
    """Takes notifications by the batch."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []

    def info(self, messages: list[dict[str, Any]]) -> Any:
        self.batches.append([message["payload"] for message in messages])
        return NotificationResult.HANDLED


@pytest.fixture
def transport(rpc: Rpc) -> oslo_messaging.Transport:
    return notification_transport(rpc)


def notification_transport(rpc: Rpc, url: str | None = None) -> Any:
    transport = oslo_messaging.get_notification_transport(
        configuration(), url or rpc.url
    )
    rpc.callback(transport.cleanup)
    return transport


def notifier(
    transport: Any, topic: str, version: int = 2, retry: int | None = None
) -> oslo_messaging.Notifier:
    return oslo_messaging.Notifier(
        transport,
        "publisher",
        driver={1: "messaging", 2: "messagingv2"}[version],
        topics=[topic],
        retry=retry,
    )


def listener(
    rpc: Rpc,
    transport: Any,
    endpoint: Any,
    *,
    exchange: str | None = None,
    batch: int = 0,
    **options: Any,
) -> oslo_messaging.MessageHandlingServer:
    make = oslo_messaging.get_notification_listener
    if batch:
        make = oslo_messaging.get_batch_notification_listener
        options |= {"batch_size": batch, "batch_timeout": 0.5}
    made = make(
        transport,
        [Target(topic=rpc.topic, exchange=exchange)],
        [endpoint],
        executor="threading",
        **options,
    )
    made.start()
    rpc.callback(made.stop)
    return made


@pytest.mark.parametrize("version", [1, 2])
def test_listener_gets_notifications(rpc: Rpc, transport: Any, version: int) -> None:
    endpoint = Endpoint()
    listener(rpc, transport, endpoint)
    sender = notifier(transport, rpc.topic, version)
    sender.info({}, "event.start", {"text": "größer"})
    sender.error({}, "event.error", {"n": 1})
    until(lambda: len(endpoint.seen) == 2, "both have arrived")
    assert endpoint.seen == [
        ("info", "event.start", {"text": "größer"}),
        ("error", "event.error", {"n": 1}),
    ]


def test_every_notification_goes_to_one_listener(rpc: Rpc, transport: Any) -> None:
    endpoints = [Endpoint(), Endpoint()]
    for endpoint in endpoints:
        listener(rpc, notification_transport(rpc), endpoint)
    sender = notifier(transport, rpc.topic)
    for number in range(60):
        sender.info({}, "event", number)
    until(lambda: sum(len(each.seen) for each in endpoints) == 60, "all have arrived")
    assert all(each.seen for each in endpoints)


def test_batches(rpc: Rpc, transport: Any) -> None:
    endpoint = BatchEndpoint()
    listener(rpc, transport, endpoint, batch=5)
    sender = notifier(transport, rpc.topic)
    with ThreadPoolExecutor(12) as pool:  # each waits until its batch is handled
        list(pool.map(lambda n: sender.info({}, "event", n), range(12)))
    until(lambda: sum(map(len, endpoint.batches)) == 12, "all have arrived")
    assert sorted(item for batch in endpoint.batches for item in batch) == list(
        range(12)
    )
    assert max(map(len, endpoint.batches)) == 5


def test_requeued_notifications_come_again(rpc: Rpc, transport: Any) -> None:
    endpoint = Endpoint(requeue=2)
    listener(rpc, transport, endpoint, allow_requeue=True)
    notifier(transport, rpc.topic).info({}, "event", "again")
    until(lambda: len(endpoint.seen) == 3, "it has come again, twice")


def test_exchanges_are_apart(rpc: Rpc) -> None:
    """The retired driver sent all notifications through the default exchange."""
    endpoints = {name: Endpoint() for name in ("nova", "cinder")}
    for name, endpoint in endpoints.items():
        listener(rpc, notification_transport(rpc), endpoint, exchange=name)
    for name in endpoints:
        conf = configuration()
        conf.set_override("control_exchange", name)
        transport = oslo_messaging.get_notification_transport(conf, rpc.url)
        rpc.callback(transport.cleanup)
        notifier(transport, rpc.topic).info({}, name, {})
    until(lambda: all(each.seen for each in endpoints.values()), "both have arrived")
    for name, endpoint in endpoints.items():
        assert [event for _, event, _ in endpoint.seen] == [name]


def test_without_a_listener_the_error_says_what_to_do(rpc: Rpc) -> None:
    transport = notification_transport(rpc, rpc.url + "?restart_timeout=1")
    target = Target(topic=f"{rpc.topic}.info")
    with Stopwatch() as watch, pytest.raises(errors.TargetUnreachable) as caught:
        transport._driver.send_notification(target, {}, {"a": 1}, version=2.0)
    assert "router, which stores nothing" in str(caught.value)
    assert "[oslo_messaging_notifications] transport_url" in str(caught.value)
    assert watch.seconds < 40


def test_notifier_logs_what_it_cannot_send(
    rpc: Rpc, caplog: pytest.LogCaptureFixture
) -> None:
    transport = notification_transport(rpc, rpc.url + "?restart_timeout=0")
    notifier(transport, rpc.topic).info({}, "event", {})
    assert logs.flush(60)
    assert "stores nothing" in caplog.text


def test_notifications_that_wait_are_worked_on_after_the_stop(
    rpc: Rpc, transport: Any
) -> None:
    """Those that were taken are handled, those that were not are given back."""
    gate = threading.Event()
    seen: list[Any] = []

    class Slow:
        def info(self, ctxt: Any, publisher: str, event: str, payload: Any, meta: Any):
            seen.append(payload)
            gate.wait(30)

    stopped = listener(rpc, notification_transport(rpc), Slow())
    sender = notifier(transport, rpc.topic)
    # it waits for the listener: nothing else stores the notification
    sending = threading.Thread(target=sender.info, args=({}, "event", 0))
    sending.start()
    until(lambda: seen, "the first is being worked on")
    ending = threading.Thread(target=end, args=[stopped])
    ending.start()
    time.sleep(0.2)
    gate.set()
    sending.join(20)
    ending.join(20)
    assert not ending.is_alive()
    other = Endpoint()
    listener(rpc, transport, other)
    sender.info({}, "event", 1)
    until(lambda: other.seen, "the next goes to the other listener")
    assert seen == [0]


def test_idle_listener_ends_at_once(rpc: Rpc, transport: Any) -> None:
    for batch in (0, 5):
        idle = listener(rpc, transport, Endpoint(), batch=batch)
        with Stopwatch() as watch:
            end(idle)
        assert watch.seconds < 40


def test_pools_are_refused(rpc: Rpc, transport: Any) -> None:
    with pytest.raises(NotImplementedError, match="pools"):
        listener(rpc, transport, Endpoint(), pool="pool")
