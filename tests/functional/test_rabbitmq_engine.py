# SPDX-License-Identifier: Apache-2.0
"""A private RabbitMQ node, really running."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.functional.commands import SAMPLE, configured
from tests.functional.deployments import (
    Deployment,
    deployed,
    on_disk,
    smoke,
    store,
    stored,
)
from tests.functional.waiting import until

from hybrid_messaging import state, state_directory, urls
from hybrid_messaging.engines import (
    HOST,
    EngineError,
    kinds,
    ports,
    rabbitmq_management,
)
from hybrid_messaging.engines.kinds import rabbitmq
from hybrid_messaging.servers.rabbit import Rabbit
from hybrid_messaging.smoke.bus import make as make_bus
from hybrid_messaging.smoke.outcome import Status
from hybrid_messaging.smoke.run import PREFIX, Run

RABBITMQ = kinds.get("rabbitmq")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One node for RPC and notifications, in a place with a difficult name."""
    with deployed(tmp_path_factory.mktemp("a b") / "état") as made:
        made.up("rabbit")
        yield made


@pytest.fixture
def node(place: Deployment) -> state.Engine:
    return place.engine("rabbitmq")


def test_one_node_for_both(place: Deployment) -> None:
    loaded = state_directory.load(place.dir)
    assert loaded is not None
    assert loaded.rpc_url == loaded.notify_url == loaded.engines[0].url
    assert [item.roles for item in loaded.engines] == [("rpc", "notify")]


def test_it_reads_and_writes_nothing_of_the_system(
    place: Deployment, node: state.Engine
) -> None:
    log = Path(node.log).read_bytes()
    read = f"config file(s) : {place.dir / 'rabbitmq' / 'rabbitmq.conf'}\n"
    # releases differ in how they write \xe9
    assert any(read.encode(encoding) in log for encoding in ("latin-1", "utf-8"))
    assert any((place.dir / "rabbitmq" / "mnesia").iterdir())
    opened = {file.path for file in place.process("rabbitmq").open_files()}
    assert not {path for path in opened if path.startswith(("/etc", "/var"))}


def test_memory_and_disk_are_bounded(node: state.Engine) -> None:
    def limits() -> dict[str, int]:
        try:
            (found,) = rabbitmq_management.request(node, "GET", "nodes")
        except EngineError:  # 4.3 fails to tell before it has
            return {}
        return found if "mem_limit" in found else {}

    found = until(limits, "the node has looked at itself", interval=0.5)
    assert found["mem_limit"] <= 512 * 1024 * 1024
    assert found["disk_free_limit"] == 50_000_000


def test_only_whoever_knows_the_password_is_served(node: state.Engine) -> None:
    assert RABBITMQ.is_ready(node)
    stranger = dataclasses.replace(
        node, details=dataclasses.replace(node.details, password="guess")
    )
    assert not RABBITMQ.is_ready(stranger)
    with pytest.raises(EngineError, match="401"):
        RABBITMQ.traffic(stranger)
    with pytest.raises(Exception, match="ACCESS_REFUSED"):
        stored(urls.build("rabbit", [(HOST, node.port)], "guest", "guest"), "any")


@pytest.mark.parametrize("vhost", ["nova_cell1", "a b/c%?é"])
def test_a_virtual_host_is_added_once(node: state.Engine, vhost: str) -> None:
    url = rabbitmq_management.add_vhost(node, vhost)
    assert rabbitmq_management.add_vhost(node, vhost) == url
    assert urls.parse(url).vhost == vhost
    assert (vhost, "amq.topic") in {
        (item["vhost"], item["name"]) for item in rabbitmq_management.exchanges(node)
    }


def test_what_goes_through_is_counted(node: state.Engine) -> None:
    url = rabbitmq_management.add_vhost(node, "counted")
    before = RABBITMQ.traffic(node)
    for number in range(3):
        store(url, "notifications.info", str(number))
    assert stored(url, "notifications.info") == "0"

    def counted() -> bool:
        now = RABBITMQ.traffic(node)
        return (now.received - before.received, now.delivered - before.delivered) == (
            3,
            1,
        ) and now.waiting == (before.waiting or 0) + 2

    until(counted, "the node has counted", timeout=60, interval=0.5)
    found = {
        (item["vhost"], item["name"]): item for item in rabbitmq_management.queues(node)
    }
    assert found["counted", "notifications.info"]["durable"]
    assert found["counted", "notifications.info"]["messages"] == 2
    assert RABBITMQ.traffic(node).destinations == len(found)
    assert RABBITMQ.traffic(node).version.startswith(("3.", "4."))


def test_a_node_killed_leaves_nothing_that_matters(place: Deployment) -> None:
    """Its epmd survives it, and would keep the port."""
    before = place.engine("rabbitmq")
    epmd_port = before.details.epmd_port
    store(before.url, "kept-by-node", "still here")
    store(before.url, "declared-after-it", "")
    until(lambda: on_disk(before, "declared-after-it"), "the queue is on disk")
    _kill(place)
    assert ports.answers(HOST, epmd_port)
    place.up("rabbit")
    after = place.engine("rabbitmq")
    assert (after.url, after.details) == (before.url, before.details)
    assert stored(after.url, "kept-by-node") == "still here"


@pytest.mark.skipif(
    rabbitmq._version(rabbitmq._server()) < rabbitmq.REFUSES_TRANSIENT_QUEUES,
    reason="this RabbitMQ refuses no queues",
)
def test_a_node_that_refuses_the_queues_of_rpc(
    place: Deployment, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As releases from 4.3 on do, unless they are configured or packaged otherwise."""
    before = configured(capsys, place, tmp_path / "cinder.conf")
    assert [item["code"] for item in before["problems"]] == ["shared-backend"]
    directory = Path(place.engine("rabbitmq").log).with_name("conf.d")
    directory.mkdir()
    (directory / "refuse.conf").write_text(
        "deprecated_features.permit.transient_nonexcl_queues = false\n"
    )
    try:
        _restart(place)
        after = configured(capsys, place, tmp_path / "nova.conf")
        problems = {item["code"]: item["message"] for item in after["problems"]}
        assert "RabbitMQ 4" in problems["transient-queues-refused"]
        code, rows, _ = place.run("smoke", "--only", "rpc-connect")
        assert code == 1 and "refuses queues" in rows[0]["detail"]
    finally:
        shutil.rmtree(directory)
        _restart(place)


def _restart(place: Deployment) -> None:
    _kill(place)
    place.up("rabbit")


def _kill(place: Deployment) -> None:
    process = place.process("rabbitmq")
    process.kill()
    process.wait(30)


def test_no_node_no_answer(node: state.Engine) -> None:
    with ports.Ports() as free:
        nobody = free.take()
    elsewhere = dataclasses.replace(
        node, details=dataclasses.replace(node.details, management_port=nobody)
    )
    with pytest.raises(EngineError, match=r"management at .* fails"):
        RABBITMQ.traffic(elsewhere)


def test_one_bus_for_both_on_purpose(
    place: Deployment, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Mode `rabbit` on its way through `configure`, `check` and `smoke`."""
    row = configured(capsys, place, tmp_path / "cinder.conf")
    assert [item["code"] for item in row["problems"]] == ["shared-backend"]
    results = smoke(place, "fanout", "notify-delivered", "separation")
    proof = results["separation"]
    assert proof.status is Status.SKIPPED
    assert "mode rabbit uses one server for both, as intended" in proof.detail


def test_notifications_wait_in_quorum_queues(
    place: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_NOTIFY_QUEUES", "quorum")
    path = tmp_path / "cinder.conf"
    shutil.copy(SAMPLE, path)
    code, rows, told = place.run("configure", path)
    assert code == 0, told
    assert rows[0]["notifications"].endswith("?rabbit_quorum_queue=true")
    code, rows, told = place.run("smoke", "--config", path, "--only", "notify-stored")
    assert code == 0, told

    kinds: dict[str, str] = {}
    declared = Rabbit.waiting

    def looked_at(rabbit: Rabbit, run: Run) -> int | None:
        kinds.update(
            {item["name"]: item["type"] for item in rabbitmq_management.queues(node)}
        )
        return declared(rabbit, run)

    node = place.engine("rabbitmq")
    monkeypatch.setattr(Rabbit, "waiting", looked_at)
    smoke(place, "notify-delivered", queues="quorum")
    assert "quorum" in [
        kind for name, kind in kinds.items() if name.startswith(f"{PREFIX}-notify")
    ]


def test_another_kind_of_queue_is_no_quorum_queue(node: state.Engine) -> None:
    run = Run(node.url, f"{node.url}?rabbit_quorum_queue=true")
    store(node.url, run.notify_queue, "x")
    rabbit = make_bus("notify", run.notify_url, run.conf(), None).transport
    with pytest.raises(EngineError, match="is not a quorum queue"):
        rabbit.waiting(run)
    rabbit.clean_up(run)
