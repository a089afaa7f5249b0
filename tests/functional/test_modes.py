# SPDX-License-Identifier: Apache-2.0
"""Modes the whole way: up, status, configure, check, smoke, down.

`qpid-hybrid` goes it in `test_up_down` and `test_smoke`, `rabbit` in
`test_rabbitmq_engine`, `zmq-kafka` in `test_kafka_engine`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.functional import commands
from tests.functional.deployments import NOWHERE, deployed, smoke
from tests.functional.kafka import fetched
from tests.functional.tls_versions import SPOKEN, taken
from tests.functional.waiting import until

from hybrid_messaging import modes, state_directory
from hybrid_messaging.engines import kinds
from hybrid_messaging.smoke.checks import notifications
from hybrid_messaging.smoke.outcome import Status

CHECKS = ("fanout", "notify-delivered", "separation")


def test_two_rabbitmqs_and_the_same_as_servers_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with deployed(tmp_path / "state") as place, deployed(tmp_path / "own") as own:
        found = place.up("rabbit-dual").state
        row = commands.configured(capsys, place, tmp_path / "cinder.conf")
        assert row["problems"] == []
        assert row["notifications"]["durable"] is True
        proof = smoke(place, *CHECKS)["separation"]
        assert proof.status is Status.PASSED
        assert any("_fanout" in name for name in proof.found["rpc exchanges"])

        with monkeypatch.context() as environment:
            environment.setenv("HYBRID_RPC_URL", found.rpc_url)
            environment.setenv("HYBRID_NOTIFY_URL", found.notify_url)
            where = ("--state-dir", own.dir)
            result = commands.run(capsys, "up", "external", *where, "-f", "json")
            assert result.code == 0, result.err
            assert [row["engine"] for row in result.rows] == ["none", "none"]
        result = commands.run(capsys, "up", *where)
        assert (result.code, result.err) == (0, "external is already up\n")
        result = commands.run(capsys, "status", *where, "-f", "json")
        assert (result.code, result.rows) == (0, [])
        assert not commands.configured(capsys, own, tmp_path / "nova.conf")["problems"]
        assert smoke(own, *CHECKS)["separation"].status is Status.PASSED
        assert commands.run(capsys, "down", *where).code == 0
        assert not own.dir.exists()
        assert place.health() == {"rabbitmq-rpc": "up", "rabbitmq-notify": "up"}


def test_a_router_and_kafka_with_tls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched()
    # joining a group takes long on a busy machine
    monkeypatch.setattr(notifications, "CALL_TIMEOUT", 40.0)
    with deployed(tmp_path / "state") as place:
        where = ("--state-dir", place.dir)
        result = commands.run(capsys, "up", "qpid-kafka", "--tls", *where, "-f", "json")
        assert result.code == 0, result.err
        assert result.rows[1]["url"].startswith("kafka://hybrid:***@127.0.0.1:")
        node = place.engine("kafka")
        for port in (node.port, node.details.controller_port):
            assert taken(node.host, port) == SPOKEN
        row = commands.configured(capsys, place, tmp_path / "cinder.conf")
        assert row["problems"] == []
        assert row["notifications"]["engine"] == "Kafka"
        assert row["notifications"]["durable"] is True
        names = ("plain-refused", "notify-restart", *CHECKS)
        results = smoke(place, *names, disruptive=True)
        assert {item.status for item in results.values()} == {Status.PASSED}
        assert "and kafka://" in results["plain-refused"].detail
        assert "the one before it was lost" in results["notify-delivered"].detail
        assert any(
            "smoke" in name for name in results["separation"].found["notify topics"]
        )
        result = commands.run(capsys, "status", *where)
        assert result.code == 0
        file = tmp_path / "cinder.conf"
        rpc, notify = commands.run(
            capsys, "status", "--config", file, "-f", "json"
        ).rows
        for row, kind in ((rpc, "router"), (notify, "kafka")):
            found = (row["kind"], row["services"], row["status"], row["tls"])
            assert found == (kind, "cinder", "up", True)
        assert notify["waiting"] == 0
        until(
            lambda: kinds.get("kafka").traffic(place.engine("kafka")).destinations == 7,
            "nothing of smoke's own is left",
        )
        assert commands.run(capsys, "down", *where).code == 0
        until(lambda: place.processes() == [], "nothing runs any more")
        assert not place.dir.exists()


def test_zeromq_and_rabbitmq(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with deployed(tmp_path / "state") as place:
        where = ("--state-dir", place.dir)
        result = commands.run(capsys, "up", "zmq-hybrid", *where, "-f", "json")
        assert result.code == 0, result.err
        assert result.rows[0]["url"].startswith("zmq://hybrid:***@127.0.0.1:")
        row = commands.configured(capsys, place, tmp_path / "cinder.conf")
        assert row["problems"] == []
        assert row["rpc"]["engine"] == "ZeroMQ, matched by Redis"
        assert row["rpc"]["delivery"] == "direct"
        results = smoke(
            place, "nobody", "rpc-restart", "killed", *CHECKS, disruptive=True
        )
        assert {item.status for item in results.values()} == {Status.PASSED}
        proof = results["separation"]
        assert "by the matchmaker's records" in proof.detail
        assert [name.count("hybrid-smoke") for name in proof.found["rpc servers"]] == [
            3,
            3,
            3,
        ]
        # nothing of smoke's own is left, nor of the server that was killed
        assert kinds.get("redis").traffic(place.engine("redis")).destinations == 0
        result = commands.run(capsys, "status", *where, "-f", "json")
        assert (result.code, result.rows[0]["received"]) == (0, None)
        file = tmp_path / "cinder.conf"
        result = commands.run(capsys, "status", "--config", file, "-f", "json")
        assert result.code == 0
        assert [row["kind"] for row in result.rows] == ["redis", "rabbitmq"]
        assert result.rows[0]["destinations"] == 0
        assert result.rows[1]["version"].startswith("RabbitMQ ")

        broker = place.engine("rabbitmq").url
        with monkeypatch.context() as environment:
            environment.setenv("HYBRID_NOTIFY_URL", broker)
            url = place.engine("redis").url
            for wrong, cause in (
                (url.replace("zmq://hybrid:", "zmq://hybrid:not"), "invalid username"),
                (url.replace(f":{place.engine('redis').port}", ":1"), "be reached"),
            ):
                environment.setenv("HYBRID_RPC_URL", wrong)
                words = ("smoke", "--state-dir", tmp_path / "none", "--only", "call")
                result = commands.run(capsys, *words, "-f", "json")
                assert result.code == 1
                assert cause in result.rows[0]["detail"]
                assert place.engine("redis").details.password not in result.err
        assert commands.run(capsys, "down", *where).code == 0
        until(lambda: place.processes() == [], "nothing runs any more")
        assert not place.dir.exists()


def test_a_url_of_ones_own_outlives_restarts_of_a_shared_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = modes.Mode("both", "amqp", "router", "amqp", "router", shared=True)
    table = {**modes.load(), both.name: both}
    monkeypatch.setattr(modes, "load", lambda: table)
    with deployed(tmp_path / "state") as place:
        place.up("both", {"rpc": NOWHERE["rpc"]})
        assert place.engine("router").roles == ("notify",)
        place.restart("router")
        found = state_directory.load(place.dir)
        assert found is not None
        assert found.rpc_url == NOWHERE["rpc"]
        assert found.notify_url == place.engine("router").url
