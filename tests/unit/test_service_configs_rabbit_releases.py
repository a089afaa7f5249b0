# SPDX-License-Identifier: Apache-2.0
"""What releases of RabbitMQ refuse, or ignore, by what they were seen to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import amqp
import pytest

from hybrid_messaging import urls
from hybrid_messaging.servers import rabbit_releases
from hybrid_messaging.servers.insight import Insight
from hybrid_messaging.servers.rabbit import Rabbit
from hybrid_messaging.service_configs import checks
from hybrid_messaging.service_configs.interpreter import Environment
from hybrid_messaging.service_configs.problem import Problem, Severity
from hybrid_messaging.service_configs.routes import Servers
from hybrid_messaging.smoke.bus import Bus
from hybrid_messaging.smoke.checks import connect
from hybrid_messaging.smoke.outcome import Failure

URL = urls.parse("rabbit://u:p@h/")
#: RabbitMQ 4.3.6, which closes the connection with this.
REFUSAL = amqp.InternalError(
    "Feature `transient_nonexcl_queues` is deprecated.\nBy default, this feature is "
    "not permitted anymore.",
    (50, 10),
    "Queue.declare",
    541,
)
TRANSIENT, WITHOUT_EFFECT = "transient-queues-refused", "option-without-effect"
ALL_DURABLE = {"rabbit_quorum_queue": True, "rabbit_transient_quorum_queue": True}


class Server:
    """A RabbitMQ that takes every queue, or none for a reason.

    :param error: what it answers to a declaration
    """

    def __init__(self, error: amqp.AMQPError | None = None) -> None:
        self.error = error
        self.queues: set[str] = set()
        self.asked = 0

    def channel(self) -> Any:
        return SimpleNamespace(
            queue_declare=self._declare,
            queue_delete=self.queues.remove,
            exchange_declare=self._nothing,
        )

    def _declare(self, name: str, passive: bool = False, **how: Any) -> None:
        if passive:
            self._nothing()
        self.asked += 1
        assert not how["durable"] and not how["exclusive"]
        assert how["arguments"]["x-expires"] <= 10_000
        if self.error is not None:
            raise self.error
        self.queues.add(name)

    def _nothing(self, *_: object, **__: object) -> None:
        raise amqp.NotFound("no such thing")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server(REFUSAL)

    @contextlib.contextmanager
    def connection(*_: object) -> Iterator[Server]:
        yield made

    monkeypatch.setattr(Rabbit, "connection", connection)
    return made


def options(**set_: bool) -> Any:
    names = (
        "amqp_durable_queues",
        "rabbit_quorum_queue",
        "rabbit_transient_quorum_queue",
        "rabbit_ha_queues",
        "enable_cancel_on_failover",
        "rabbit_quorum_delivery_limit",
        "rabbit_quorum_max_memory_length",
        "rabbit_quorum_max_memory_bytes",
    )
    return SimpleNamespace(**{name: set_.get(name, False) for name in names})


def codes(said: str, rpc: bool = True, **set_: bool) -> list[str]:
    rabbit = Rabbit(URL, options(**set_))
    found = rabbit_releases.broken(rabbit, URL.hosts[0], said, rpc, 5)
    return [rule.code for rule in found]


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (REFUSAL, True),
        (None, False),
        (amqp.AccessRefused("access to queue refused"), False),
        (amqp.ConnectionForced("shutdown"), False),
    ],
)
def test_a_queue_is_tried_and_not_left_behind(
    error: amqp.AMQPError | None, refused: bool
) -> None:
    server: Any = Server(error)
    assert rabbit_releases.refuses_transient_queues(server) is refused
    assert server.asked == 1 and not server.queues


@pytest.mark.parametrize(
    "said", ["RabbitMQ 3.10.8", "RabbitMQ 4.2.1", "RabbitMQ 10", "LavinMQ 4.3.0", ""]
)
def test_others_are_not_even_asked(server: Server, said: str) -> None:
    assert codes(said) == []
    assert server.asked == 0


@pytest.mark.parametrize("said", ["RabbitMQ 4.3.6", "RabbitMQ 4.10.0", "RabbitMQ 5.0"])
@pytest.mark.parametrize(
    ("rpc", "set_", "expected"),
    [
        (True, {}, [TRANSIENT]),
        (True, {"amqp_durable_queues": True}, [TRANSIENT]),
        (True, {"rabbit_quorum_queue": True}, [TRANSIENT]),
        (True, {"rabbit_transient_quorum_queue": True}, [TRANSIENT]),
        (True, ALL_DURABLE, []),
        (True, {**ALL_DURABLE, "rabbit_ha_queues": True}, [WITHOUT_EFFECT]),
        (False, {}, [TRANSIENT]),
        (False, {"amqp_durable_queues": True}, []),
        (False, {"rabbit_quorum_queue": True}, []),
    ],
)
def test_queues_that_do_not_outlive_their_node(
    server: Server, said: str, rpc: bool, set_: dict[str, bool], expected: list[str]
) -> None:
    assert codes(said, rpc, **set_) == expected


def test_the_configuration_of_a_server_may_permit_them(server: Server) -> None:
    server.error = None
    assert codes("RabbitMQ 4.3.6") == []


@pytest.mark.parametrize("option", ["rabbit_ha_queues", "enable_cancel_on_failover"])
@pytest.mark.parametrize(
    ("said", "expected"),
    [("RabbitMQ 3.13.7", []), ("RabbitMQ 4.0.5", [WITHOUT_EFFECT])],
)
def test_mirrored_queues(
    server: Server, option: str, said: str, expected: list[str]
) -> None:
    assert codes(said, **{option: True}) == expected


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, server: Server) -> str:
    said = "RabbitMQ 4.3.6"
    monkeypatch.setattr(Rabbit, "connect", lambda *_: said)
    monkeypatch.setattr(Rabbit, "inspect", lambda *_: Insight())
    return said


def check(path: Path, text: str) -> list[Problem]:
    path.write_text(text)
    drivers = Environment({"rabbit": ""}, {"messagingv2": ""})
    [report] = checks.check([[path]], lambda _: drivers, Servers(5))
    return report.problems


@pytest.mark.usefixtures("said")
def test_a_service_is_told_where_and_what_to_set(tmp_path: Path) -> None:
    path = tmp_path / "cinder.conf"
    problem, *_ = check(
        path,
        f"[DEFAULT]\ntransport_url = {URL}\n[oslo_messaging_rabbit]\n"
        "amqp_durable_queues = true\nrabbit_transient_quorum_queue = false\n",
    )
    assert (problem.severity, problem.code) == (Severity.ERROR, TRANSIENT)
    assert problem.message.startswith("RabbitMQ 4.3.6 refuses queues")
    assert "rabbit_transient_quorum_queue = true" in problem.cure
    assert "deprecated_features.permit.transient_nonexcl_queues = true" in problem.cure
    assert problem.where == f"{path}, line 5"


@pytest.mark.usefixtures("said")
def test_services_alike_are_asked_for_once(tmp_path: Path, server: Server) -> None:
    files = []
    for name in ("cinder.conf", "nova.conf"):
        files.append([tmp_path / name])
        files[-1][0].write_text(f"[DEFAULT]\ntransport_url = {URL}\n")
    reports = checks.check(files, lambda _: Environment({"rabbit": ""}, {}), Servers(5))
    assert all(TRANSIENT in {item.code for item in r.problems} for r in reports)
    assert server.asked == 2  # for RPC, and for notifications


def test_smoke_does_not_wait_for_servers_that_cannot_start(
    said: str, server: Server
) -> None:
    bus = Bus("rpc", Rabbit(URL, options()))
    with pytest.raises(Failure, match=f"{said} refuses queues") as caught:
        connect._connect(bus)
    assert "[oslo_messaging_rabbit] rabbit_quorum_queue = true" in caught.value.look_at
    server.error = None
    assert said in connect._connect(bus).detail
