# SPDX-License-Identifier: Apache-2.0
"""`up --tls`: the engines of a mode with TLS and passwords, and the way back."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from tests.functional import brokers, commands
from tests.functional.deployments import (
    deployed,
    holding,
    router_option,
    smoke,
    store,
    stored,
)
from tests.functional.tls_versions import SPOKEN, taken

from hybrid_messaging import state_directory, urls
from hybrid_messaging.engines import HOST
from hybrid_messaging.engines.kinds import broker
from hybrid_messaging.smoke.outcome import Status

CHECKS = ("plain-refused", "fanout", "notify-delivered", "separation")


def test_a_router_and_rabbitmq(
    router_kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with deployed(tmp_path / "state", router_option(router_kind)) as place:
        where = ("--state-dir", place.dir)
        words = ("up", *where, "--router", place.router, "-f", "json")
        result = commands.run(capsys, *words, "--tls")
        assert result.code == 0, result.err
        before = state_directory.load(place.dir)
        assert before is not None

        router, rabbitmq = before.engines
        management = rabbitmq.details.management_port
        for port in (router.port, rabbitmq.port, management):
            assert taken(router.host, port) == SPOKEN

        row = commands.configured(capsys, place, tmp_path / "cinder.conf")
        assert row["problems"] == []
        results = smoke(place, *CHECKS)
        assert {item.status for item in results.values()} == {Status.PASSED}
        assert "amqp://" in results["plain-refused"].detail
        assert "rabbit://" in results["plain-refused"].detail

        result = commands.run(capsys, "status", *where, "-f", "json")
        assert [(row["status"], row["tls"]) for row in result.rows] == [
            ("up", True)
        ] * 2
        secrets = [item.details.password for item in before.engines]
        for command in place.looks(psutil.Process.cmdline):
            assert not any(secret in "\n".join(command) for secret in secrets)
        holders = holding(place.dir, "KEY-", *secrets)
        assert holders
        assert not {path for path, mode in holders.items() if mode & 0o077}

        result = commands.run(capsys, *words, "--no-tls")
        assert result.code == 1
        assert "is in use with TLS: run `hybrid-messaging down`" in result.err
        result = commands.run(capsys, *words)
        assert (result.code, result.err) == (0, "qpid-hybrid is already up\n")

        store(_plain(before.notify_url), "kept", "here", before.engines[1].ca_file)
        assert commands.run(capsys, "down", *where, "--keep-data").code == 0
        assert place.processes() == []
        assert commands.run(capsys, "status", *where).code == 1
        result = commands.run(capsys, *words, "--no-tls")
        assert "an address has changed" in result.err
        after = state_directory.load(place.dir)
        assert after is not None
        assert [item.port for item in after.engines] == [
            item.port for item in before.engines
        ]
        assert urls.parse(after.rpc_url).query == {}
        assert stored(after.notify_url, "kept") == "here"
        result = commands.run(capsys, "down", *where, "--purge")
        assert (result.code, place.dir.exists()) == (0, False)


def test_a_broker_for_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if broker.missing_libraries():
        brokers.fetch()
    # a name that no URL and no file of properties takes as it is
    with deployed(tmp_path / "a b" / "état") as place:
        place.up("qpid", tls=True)
        row = commands.configured(capsys, place, tmp_path / "cinder.conf")
        assert [item["code"] for item in row["problems"]] == ["shared-backend"]
        assert taken(HOST, place.engine("broker").port) == SPOKEN
        results = smoke(place, "plain-refused", "call", "notify-delivered")
        assert {item.status for item in results.values()} == {Status.PASSED}
        assert place.health() == {"broker": "up"}


def _plain(url: str) -> str:
    return url.partition("?")[0]
