# SPDX-License-Identifier: Apache-2.0
"""What `check` makes of AMQP 1.0 peers that no engine of ours is like."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import proton
import pytest

from hybrid_messaging import urls
from hybrid_messaging.protocol.endpoint import Endpoint, Handler
from hybrid_messaging.service_configs import checks
from hybrid_messaging.service_configs.checks import Report
from hybrid_messaging.service_configs.interpreter import Environment
from hybrid_messaging.service_configs.routes import Servers

DRIVERS = Environment({"amqp": ""}, {"messagingv2": ""})


class Peer(Handler):
    """Speaks AMQP 1.0 to one client after the other, from a thread of its own.

    :param product: how it names itself
    :param vhost: the only virtual host that it has; None: any
    """

    def __init__(self, product: Any, vhost: str | None = None) -> None:
        self._product = product
        self._vhost = vhost
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def on_open(self, endpoint: Endpoint) -> None:
        if self._product:
            endpoint.connection.properties = {"product": self._product}
        endpoint.open()
        hostname = endpoint.connection.remote_hostname
        if self._vhost and hostname != self._vhost:
            endpoint.close(proton.Condition("amqp:not-found", f"no host {hostname}"))

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            # a client may have gone before we have said good-bye
            with client, contextlib.suppress(OSError):
                client.settimeout(10)
                self._speak(client)

    def _speak(self, client: socket.socket) -> None:
        endpoint = Endpoint(self, "peer", server=True)
        endpoint.transport.sasl().allowed_mechs("ANONYMOUS")
        while not endpoint.finished:
            while view := endpoint.output():
                endpoint.written(client.send(view))
            data = client.recv(65536)
            if not data:
                return
            endpoint.receive(data)


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    made: list[Peer] = []

    def make(product: Any, vhost: str | None = None) -> Peer:
        made.append(Peer(product, vhost))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def check(tmp_path: Path, peer: Peer, vhost: str = "", more: str = "") -> Report:
    path = tmp_path / "keystone.conf"
    url = urls.build("amqp", [("127.0.0.1", peer.port)], vhost=vhost)
    path.write_text(
        f"[oslo_messaging_notifications]\ntransport_url = {url}\n"
        f"driver = messagingv2\n[oslo_messaging_amqp]\n{more}\n"
    )
    [report] = checks.check([[path]], lambda _: DRIVERS, Servers(10))
    return report


def codes(report: Report) -> list[str]:
    return [problem.code for problem in report.problems]


def test_a_broker_stores_notifications(
    tmp_path: Path, peer: Callable[..., Peer]
) -> None:
    report = check(tmp_path, peer("apache-activemq-artemis"))
    assert report.problems == []
    assert report.notify is not None
    assert report.notify.engine == "apache-activemq-artemis"
    assert report.notify.delivery == "queued"


def test_rabbitmq_is_none_for_amqp(tmp_path: Path, peer: Callable[..., Peer]) -> None:
    rabbitmq = peer("RabbitMQ")
    report = check(tmp_path, rabbitmq)
    assert codes(report)[0] == "unfit-server"
    assert "it is RabbitMQ" in report.problems[0].message
    assert "rabbit://" in report.problems[0].cure
    assert codes(check(tmp_path, rabbitmq, more="addressing_mode = legacy")) == []


def test_a_peer_without_a_name_may_be_anything(
    tmp_path: Path, peer: Callable[..., Peer]
) -> None:
    assert codes(check(tmp_path, peer(None))) == ["notifications-maybe-not-stored"]


def test_a_peer_with_too_long_a_name_is_no_peer(
    tmp_path: Path, peer: Callable[..., Peer]
) -> None:
    report = check(tmp_path, peer(list(range(100))))
    assert codes(report)[0] == "protocol-error"
    assert "more than 64 values" in report.problems[0].message


def test_a_virtual_host_that_the_broker_does_not_have(
    tmp_path: Path, peer: Callable[..., Peer]
) -> None:
    broker = peer("broker", "there")
    own = "pseudo_vhost = false"
    assert codes(check(tmp_path, broker, "there", own)) == []
    report = check(tmp_path, broker, "elsewhere", own)
    assert codes(report)[0] == "vhost-missing"
    assert "no host elsewhere" in report.problems[0].message
