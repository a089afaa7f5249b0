# SPDX-License-Identifier: Apache-2.0
"""Options that do not go together, and that the drivers really refuse them."""

from __future__ import annotations

from pathlib import Path

import pytest
from oslo_concurrency import lockutils
from oslo_config import cfg
from oslo_messaging import TransportURL
from oslo_messaging._drivers import amqpdriver, common, impl_rabbit
from tests.unit.test_service_configs_checks import WITH_KAFKA, codes, files

from hybrid_messaging.servers import options
from hybrid_messaging.servers.insight import Insight
from hybrid_messaging.servers.rabbit import Rabbit
from hybrid_messaging.servers.transport import ConnectError, Transport
from hybrid_messaging.service_configs import checks
from hybrid_messaging.service_configs.checks import Report
from hybrid_messaging.service_configs.problem import Severity
from hybrid_messaging.service_configs.routes import Servers

RABBIT = "rabbit_quorum_queue = true\n"
BOTH = files(rpc="rabbit://r/", notify="rabbit://b/")


def check(
    tmp_path: Path, text: str, name: str = "cinder.conf", timeout: float | None = None
) -> Report:
    path = tmp_path / name
    path.write_text(text)
    [report] = checks.check(
        [[path]], lambda _: WITH_KAFKA, timeout and Servers(timeout)
    )
    return report


LOCK = "[oslo_concurrency]\nlock_path = /run/x\n"
MANAGER = f"use_queue_manager = true\n{LOCK}"


@pytest.mark.parametrize(
    ("more", "expected", "cure"),
    [
        ("", [], ""),
        (
            "rabbit_quorum_queue = true\nrabbit_ha_queues = true",
            ["queue-type-ambiguous"],
            "rabbit_ha_queues = false",
        ),
        (
            f"rabbit_ha_queues = true\nrabbit_transient_quorum_queue = 1\n{MANAGER}",
            ["queue-type-ambiguous"],
            "",
        ),
        (
            "rabbit_stream_fanout = true",
            ["stream-incomplete"],
            "rabbit_qos_prefetch_count = 10 and set [oslo_messaging_rabbit] "
            "rabbit_transient_quorum_queue = true",
        ),
        (
            "rabbit_stream_fanout = 1\nrabbit_transient_quorum_queue = 1\n"
            f"rabbit_qos_prefetch_count = 10\n{MANAGER}",
            [],
            "",
        ),
        (
            "rpc_conn_pool_size = 1\nconn_pool_min_size = 2",
            ["pool-too-small"],
            "rpc_conn_pool_size = 2",
        ),
        (
            "rabbit_quorum_queue = true\namqp_auto_delete = true",
            ["quorum-auto-delete"],
            "amqp_auto_delete = false",
        ),
        ("use_queue_manager = true", ["lock-path-missing"], "lock_path"),
        (
            "rabbit_transient_quorum_queue = true",
            ["queue-names-change"],
            "use_queue_manager = true",
        ),
        ("heartbeat_timeout_threshold = 0", ["heartbeats-off"], "remove heartbeat"),
        ("ssl_ca_file = /ca\nssl = false", ["tls-not-used"], "ssl = true"),
        ("ssl_ca_file = /ca\nssl = true", [], ""),
        ("ssl = true", ["server-not-verified"], "ssl_ca_file = FILE"),
    ],
)
def test_a_service_with_rabbitmq(
    tmp_path: Path, more: str, expected: list[str], cure: str
) -> None:
    report = check(tmp_path, f"{BOTH}{more}\n")
    assert codes(report) == expected
    for problem in report.problems:
        assert cure in problem.cure
        assert problem.where.startswith(f"{tmp_path}/cinder.conf, line ")


@pytest.mark.parametrize(
    ("rpc", "notify", "expected"),
    [
        ("amqp://r/?idle_timeout=0", "rabbit://b/", ["heartbeats-off"]),
        ("amqp://localhost/?idle_timeout=0", "rabbit://b/", []),
        ("zmq://:p@r/?idle_timeout=0", "rabbit://b/", ["heartbeats-off"]),
        # what may help a service that seldom notifies
        ("amqp://r/", "rabbit://b/?heartbeat_timeout_threshold=0", []),
        # RPC's options are not those of notifications
        ("amqp://r/", "rabbit://b/?use_queue_manager=1", []),
        ("amqp://r/", "rabbit://b/?ssl=1", ["server-not-verified"]),
        ("amqp://r/", "kafka://b:1/?ssl_cafile=/ca", ["tls-not-used"]),
        ("amqp://r/", "kafka://b:1/?ssl_cafile=/ca&security_protocol=SSL", []),
    ],
)
def test_other_transports(
    tmp_path: Path, rpc: str, notify: str, expected: list[str]
) -> None:
    assert codes(check(tmp_path, files(rpc=rpc, notify=notify))) == expected


def test_requests_that_wait_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(known: Transport, *_: object) -> str:
        if isinstance(known, Rabbit):
            raise ConnectError("unreachable", "away", "start it")
        return ""

    monkeypatch.setattr(Transport, "connect", connect)
    text = files()
    assert codes(check(tmp_path, text, timeout=1)) == [
        "unreachable",
        "waits-without-end",
    ]
    text = text.replace("driver =", "retry = 3\ndriver =")
    assert codes(check(tmp_path, text, timeout=1)) == ["unreachable"]
    assert "waits-without-end" not in codes(check(tmp_path, files()))


def test_requests_that_would_wait_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "connect", lambda *_: "")
    monkeypatch.setattr(Transport, "inspect", lambda *_: Insight())
    monkeypatch.setattr(Rabbit, "declared_otherwise", lambda *_: {})
    text = files()
    report = check(tmp_path, text, timeout=1)
    assert [note.code for note in report.notes] == ["waits-without-end"]
    assert "waits-without-end" not in codes(report)
    text = text.replace("driver =", "retry = 3\ndriver =")
    assert check(tmp_path, text, timeout=1).notes == []
    assert check(tmp_path, files(notify="kafka://k/"), timeout=1).notes == []


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ("", "nova is not durable"),
        ("rabbit_quorum_queue = true", "a quorum queue for nova, and durable for cind"),
        ("amqp_durable_queues = true", None),
    ],
)
def test_services_declare_a_queue_alike(
    tmp_path: Path, others: str, expected: str | None
) -> None:
    paths = [tmp_path / "cinder.conf", tmp_path / "nova.conf"]
    paths[0].write_text(files())
    paths[1].write_text(files().replace("amqp_durable_queues = true", others))
    first, second = checks.check([[path] for path in paths], lambda _: WITH_KAFKA, None)
    assert codes(first) == []
    differing = [each for each in second.problems if each.code == "queue-kinds-differ"]
    assert bool(differing) == bool(expected)
    for problem in differing:
        assert problem.severity is Severity.ERROR
        assert "notifications.info is" in problem.message
    paths[1].write_text(files(notify="rabbit://b/other").replace("true", "false"))
    _, second = checks.check([[path] for path in paths], lambda _: WITH_KAFKA, None)
    assert "queue-kinds-differ" not in codes(second)


# -- what oslo.messaging makes of them ---------------------------------------


def conf(**rabbit: object) -> cfg.ConfigOpts:
    made = options.defaults()
    for name, value in rabbit.items():
        made.set_override(name, value, group=Rabbit.group)
    return made


@pytest.mark.parametrize(
    "rabbit",
    [
        {"rabbit_stream_fanout": True, "rabbit_transient_quorum_queue": True},
        {"rabbit_stream_fanout": True, "rabbit_qos_prefetch_count": 1},
    ],
)
def test_oslo_messaging_wants_more_for_streams(rabbit: dict[str, object]) -> None:
    made = conf(**rabbit)
    with pytest.raises(RuntimeError, match="rabbit_stream_fanout need"):
        impl_rabbit.Connection(
            made, TransportURL.parse(made, "rabbit://h/"), common.PURPOSE_SEND
        )


def test_oslo_messaging_wants_one_kind_of_queue() -> None:
    with pytest.raises(RuntimeError, match="rabbit_ha_queues both enabled"):
        impl_rabbit._get_queue_arguments(
            True, 0, True, impl_rabbit.QuorumMemConfig(0, 0, 0), False
        )


def test_oslo_messaging_wants_room_in_the_pool() -> None:
    made = conf(rpc_conn_pool_size=1)
    with pytest.raises(RuntimeError, match="rpc_conn_pool_size"):
        impl_rabbit.RabbitDriver(made, TransportURL.parse(made, "rabbit://h/"))


def test_oslo_messaging_wants_a_place_for_locks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lockutils, "CONF", options.defaults())
    lockutils._register_opts(lockutils.CONF)
    lockutils.CONF.set_override("lock_path", None, group="oslo_concurrency")
    with pytest.raises(cfg.RequiredOptError):
        amqpdriver.QManager("no-such-host", "no-such-process").get()
