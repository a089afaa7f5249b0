# SPDX-License-Identifier: Apache-2.0
"""A private Kafka, really running, in mode `zmq-kafka`; all but the last share it."""

from __future__ import annotations

import dataclasses
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition, admin
from tests.functional import commands
from tests.functional.commands import configured
from tests.functional.deployments import Deployment, deployed, smoke
from tests.functional.kafka import fetched
from tests.functional.waiting import until

from hybrid_messaging import state, urls
from hybrid_messaging.bench import buses
from hybrid_messaging.bench.assignment import Assignment
from hybrid_messaging.engines import HOST, kafka_admin, kinds
from hybrid_messaging.engines.kinds import kafka
from hybrid_messaging.servers import census, options
from hybrid_messaging.servers.insight import Look
from hybrid_messaging.servers.transport import ConnectError
from hybrid_messaging.smoke.checks import notifications
from hybrid_messaging.smoke.outcome import Status

KAFKA = kinds.get("kafka")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Kafka and Redis, in a place with a difficult name."""
    fetched()
    with deployed(tmp_path_factory.mktemp("a b,c") / "état") as made:
        made.up("zmq-kafka")
        yield made


@pytest.fixture
def node(place: Deployment) -> state.Engine:
    return place.engine("kafka")


def store(node: state.Engine, topic: str, *texts: str) -> None:
    """Publish messages; returns when the broker has them."""
    producer = Producer(kafka_admin.settings(node))
    for text in texts:
        producer.produce(topic, text.encode())
    assert producer.flush(60) == 0


def stored(node: state.Engine, group: str, topic: str, count: int) -> list[str]:
    """Take messages in the name of a group."""
    consumer = Consumer({**kafka_admin.settings(node), "group.id": group})
    consumer.subscribe([topic])
    try:
        found = until(lambda: consumer.consume(count, timeout=1), "there are messages")
        while len(found) < count:
            found += until(lambda: consumer.consume(1, timeout=1), "there are more")
        consumer.commit(asynchronous=False)
        return [message.value().decode() for message in found]
    finally:
        consumer.close()


def connect(url: str) -> str:
    """Connect as `check` does."""
    transport = options.transport(options.defaults(), urls.parse(url))
    return transport.connect(transport.hosts[0], 3.0)


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    return {
        tuple(connection.laddr)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


def test_nobody_else_can_read_or_reach_it(
    place: Deployment, node: state.Engine
) -> None:
    process = place.process("kafka")
    ports = {node.port, node.details.controller_port}
    assert listening(process) == {
        (f"{prefix}{HOST}", port) for prefix in ("::ffff:",) for port in ports
    } or listening(process) == {(HOST, port) for port in ports}
    secret = node.details.password
    assert secret not in " ".join(process.cmdline())
    assert secret not in "".join(process.environ().values())
    assert secret not in Path(node.log).read_text()
    config = place.dir / "kafka" / "kafka.properties"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600


def test_only_whoever_knows_the_password_is_served(node: state.Engine) -> None:
    assert KAFKA.is_ready(node)
    stranger = dataclasses.replace(
        node, details=dataclasses.replace(node.details, password="guess")
    )
    assert not KAFKA.is_ready(stranger)
    other = dataclasses.replace(
        node, details=dataclasses.replace(node.details, cluster="another")
    )
    assert not KAFKA.is_ready(other)
    assert connect(node.url) == "Kafka"
    with pytest.raises(ConnectError) as caught:
        connect(node.url.replace(node.details.password, "guess"))
    assert caught.value.code == "wrong-credentials"
    assert "guess" not in str(caught.value)
    with pytest.raises(ConnectError, match="does not speak") as caught:
        connect(node.url.partition("?")[0])
    assert "another [oslo_messaging_kafka] security_protocol" in caught.value.cure


def test_without_tls_it_takes_plain_connections(node: state.Engine) -> None:
    transport = options.transport(options.defaults(), urls.parse(node.url))
    assert not transport.encrypted
    assert transport.takes_plain(transport.hosts[0], 30)


def test_services_find_their_topics_and_listeners_begin_at_the_start(
    place: Deployment, node: state.Engine
) -> None:
    topics = [f"notifications.{priority}" for priority in kafka.PRIORITIES]
    consumer = Consumer({**kafka_admin.settings(node), "group.id": kafka.GROUP})
    try:
        assert set(topics) <= consumer.list_topics(timeout=30).topics.keys()
        wanted = [TopicPartition(topic, 0) for topic in topics]
        offsets = {item.offset for item in consumer.committed(wanted, timeout=30)}
    finally:
        consumer.close()
    assert offsets == {0}


def set_up_by_hand(
    node: state.Engine, capsys: pytest.CaptureFixture[str]
) -> commands.Result:
    """What a supervisor calls after a start."""
    user = node.details.username
    words = ("--host", node.host, "--port", node.port, "--user", user)
    return commands.run(capsys, "engine", "setup", "kafka", *words)


def test_what_goes_through_is_counted(
    place: Deployment,
    node: state.Engine,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = KAFKA.traffic(node)
    store(node, "notifications.warn", "a", "b", "c")
    assert stored(node, kafka.GROUP, "notifications.warn", 2)[:2] == ["a", "b"]
    after = KAFKA.traffic(node)
    assert after.received - before.received == 3
    assert after.delivered - before.delivered in (2, 3)
    assert after.waiting == 3 - (after.delivered - before.delivered)
    assert after.version.startswith("4.")
    assert after.destinations == len(kafka.PRIORITIES)
    # a second time nothing is begun anew
    monkeypatch.setenv("HYBRID_ENGINE_PASSWORD", node.details.password)
    assert set_up_by_hand(node, capsys).code == 0
    assert KAFKA.traffic(node).delivered == after.delivered
    # what is left would be reported by `check`
    if after.waiting:
        stored(node, kafka.GROUP, "notifications.warn", after.waiting)


def test_zeromq_and_kafka(
    place: Deployment,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Mode `zmq-kafka` on its way through `configure`, `check` and `smoke`."""
    # joining a group takes long on a busy machine
    monkeypatch.setattr(notifications, "CALL_TIMEOUT", 40.0)
    row = configured(capsys, place, tmp_path / "cinder.conf")
    assert row["problems"] == []
    results = smoke(place, "fanout", "notify-delivered", "separation")
    assert {item.status for item in results.values()} == {Status.PASSED}
    proof = results["separation"]
    assert len(proof.found["rpc servers"]) == 3
    assert any("smoke" in name for name in proof.found["notify topics"])


def test_a_benchmark_makes_its_topic_and_removes_it(node: state.Engine) -> None:
    """Listeners that are late to join find what was sent before."""
    work = Assignment("worker-1", "token", "zmq://h/", node.url, listen=True)
    topic = f"{work.notify_topic}.info"
    buses.prepare([work])
    store(node, topic, "early")
    assert stored(node, kafka.GROUP, topic, 1) == ["early"]
    told: list[str] = []
    buses.clean_up([work], told.append)
    assert told == []
    until(
        lambda: KAFKA.traffic(node).destinations == len(kafka.PRIORITIES),
        "the topic is gone",
    )


def test_check_finds_a_topic_that_takes_too_little(
    place: Deployment,
    node: state.Engine,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def limit(operation: admin.AlterConfigOpType, value: str | None) -> None:
        entry = admin.ConfigEntry(
            "max.message.bytes", value, incremental_operation=operation
        )
        topic = admin.ConfigResource(
            admin.ConfigResource.Type.TOPIC,
            "notifications.info",
            incremental_configs=[entry],
        )
        client = admin.AdminClient(kafka_admin.settings(node))
        for answer in client.incremental_alter_configs([topic]).values():
            answer.result(30)

    limit(admin.AlterConfigOpType.SET, "5000")
    try:
        (problem,) = configured(capsys, place, tmp_path / "nova.conf")["problems"]
    finally:
        limit(admin.AlterConfigOpType.DELETE, None)
    assert problem["code"] == "topic-too-small"
    assert "notifications.info accepts 5000 bytes" in problem["message"]


def test_check_finds_notifications_that_nobody_reads(
    place: Deployment,
    node: state.Engine,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    path = tmp_path / "nova.conf"
    assert configured(capsys, place, path)["problems"] == []
    store(node, "notifications.critical", "1", "2")
    found = configured(capsys, place, path)
    assert found["problems"] == []
    (note,) = found["notes"]
    assert note["code"] == "notifications-waiting"
    assert "notifications.critical" in note["message"]
    assert stored(node, kafka.GROUP, "notifications.critical", 2) == ["1", "2"]
    # its member may be missed for a while, and counts as a reader
    assert configured(capsys, place, path)["notes"] == []


def test_one_that_was_killed_comes_back_with_its_data(place: Deployment) -> None:
    before = place.engine("kafka")
    store(before, "notifications.error", "kept")
    process = place.process("kafka")
    process.kill()
    process.wait(60)
    assert place.health() == {"redis": "up", "kafka": "down"}
    # even where somebody else has come to use its ports
    with (
        socket.create_server((HOST, before.port)),
        socket.create_server((HOST, before.details.controller_port)),
    ):
        place.up("zmq-kafka", repair=True)
        after = place.engine("kafka")
        assert after.port != before.port
        assert after.details.password == before.details.password
        assert stored(after, kafka.GROUP, "notifications.error", 1) == ["kept"]


def test_it_says_what_nobody_has_read(node: state.Engine) -> None:
    """As `migrate status --notifications` asks where services leave Kafka.

    It comes last, since its topics stay.
    """
    transport = options.transport(options.defaults(), urls.parse(node.url))
    transport.make_topics(["moved.info"])
    store(node, "moved.info", *"abcde")
    store(node, "no-notifications", "a")
    group = transport.options.consumer_group
    assert stored(node, group, "moved.info", 3) == ["a", "b", "c"]
    found = transport.census(Look(10.0)).notifications
    assert found is not None
    assert "no-notifications" not in found
    assert found["moved.info"] == census.Queue(2, 0, 5)
