# SPDX-License-Identifier: Apache-2.0
"""Where the transports come from, and which ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_messaging import state, state_directory
from hybrid_messaging.servers.transport import TransportError
from hybrid_messaging.service_configs.transports import Side, resolve

NOWHERE = Path("/nonexistent")


@pytest.fixture
def running(tmp_path: Path) -> Path:
    state_directory.save(
        tmp_path,
        state.State("qpid-hybrid", "amqp://127.0.0.1:1/", "rabbit://u:p@127.0.0.1:2/"),
    )
    return tmp_path


def test_given_urls_need_nothing_that_runs() -> None:
    found = resolve(Side("amqp://h/"), Side("rabbit://u:p@h/v"), state_dir=NOWHERE)
    assert str(found.rpc) == "amqp://h/"
    assert str(found.notify) == "rabbit://u:p@h/v"


def test_queues_are_an_option_of_the_notification_url() -> None:
    rpc, notify = Side("rabbit://u:p@h/"), Side("rabbit://u:p@h/v?heartbeat_rate=3")
    for queues, option in (
        ("quorum", "rabbit_quorum_queue"),
        ("durable", "amqp_durable_queues"),
    ):
        found = resolve(rpc, notify, state_dir=NOWHERE, queues=queues)
        assert found.rpc.query == {}
        assert found.notify.query == {"heartbeat_rate": "3", option: "true"}


@pytest.mark.parametrize(
    ("url", "queues", "reason"),
    [
        ("rabbit://u:p@h/", "mirrored", "no mirrored queues: choose one of durable, q"),
        ("kafka://h:1/", "quorum", "quorum queues exist only on RabbitMQ"),
    ],
)
def test_queues_that_there_are_not(url: str, queues: str, reason: str) -> None:
    with pytest.raises(TransportError, match=reason):
        resolve(Side("amqp://h/"), Side(url), state_dir=NOWHERE, queues=queues)


def test_tls_is_for_servers_that_are_named(running: Path) -> None:
    given, named = Side("amqp://h/", ca_file="/ca"), Side(hosts=["h"], ca_file="/ca")
    found = resolve(given, named, "qpid-hybrid")
    assert found.rpc.query == {}
    assert found.notify.query == {"ssl": "true", "ssl_ca_file": "/ca"}
    for rpc, notify, mode in (
        (given, Side("rabbit://h/"), "qpid-hybrid"),
        (Side(key_directory="/keys"), Side(), None),
    ):
        with pytest.raises(TransportError, match="--ca-file and --zmq-key-directory"):
            resolve(rpc, notify, mode, running)


def test_what_runs_is_the_default(running: Path) -> None:
    found = resolve(Side(), Side(), state_dir=running)
    assert str(found.rpc) == "amqp://127.0.0.1:1/"
    assert str(found.notify) == "rabbit://u:p@127.0.0.1:2/"


def test_one_given_url_goes_with_the_other_that_runs(running: Path) -> None:
    found = resolve(Side(), Side("kafka://k:1/"), state_dir=running)
    assert (found.rpc.scheme, found.notify.scheme) == ("amqp", "kafka")


def test_the_default_state_directory(
    running: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_directory, "default_state_dir", lambda: running)
    assert resolve(Side(), Side()).rpc.hosts[0].port == 1


def test_nothing_runs_and_nothing_is_given(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match=r"has no deployment: .* `hybrid"):
        resolve(Side("amqp://h/"), Side(), state_dir=tmp_path)


def test_a_mode_and_hosts() -> None:
    found = resolve(
        Side(hosts=["r1", "r2:5673"]),
        Side(hosts=["[::1]"], user="u", password="p@ss/"),
        mode="qpid-kafka",
    )
    assert str(found.rpc) == "amqp://r1:5672,r2:5673/"
    assert str(found.notify) == "kafka://u:p%40ss%2F@[::1]:9092/"


def test_a_mode_with_one_server_for_both() -> None:
    found = resolve(Side(hosts=["h"], user="u", password="p"), Side(), mode="rabbit")
    assert str(found.rpc) == str(found.notify) == "rabbit://u:p@h:5672/"


def test_a_mode_takes_a_url_for_one_side() -> None:
    found = resolve(Side(hosts=["h"]), Side("rabbit://x/"), mode="qpid-hybrid")
    assert (str(found.rpc), str(found.notify)) == ("amqp://h:5672/", "rabbit://x/")


@pytest.mark.parametrize(
    ("rpc", "notify", "mode", "reason"),
    [
        (Side(), Side(), "nonsense", "there is no mode 'nonsense'"),
        (Side(), Side(hosts=["h"]), "qpid-hybrid", "give it with --rpc-host"),
        (Side(hosts=["h"]), Side(), "qpid-hybrid", "give it with --notify-host"),
        (Side(hosts=["h"]), Side(), "external", "give its URL with --rpc-url"),
        (Side(hosts=["u:p@h"]), Side(), "rabbit", "the user with --rpc-user"),
        (Side("h:5672"), Side("rabbit://h"), None, "not a transport URL"),
        (Side("kafka://h"), Side("rabbit://h"), None, "no RPC over Kafka"),
        (Side("amqp://h"), Side("zmq://h"), None, "ZeroMQ stores no"),
        (Side("amqp://"), Side("rabbit://h"), None, "names no host"),
        (Side("amqp://:5672/"), Side("rabbit://h"), None, "names no host"),
        (Side("amqp://$my_ip/"), Side("rabbit://h"), None, "cannot contain \\$"),
        (Side("amqp://h"), Side("rabbit://u:se/cret@h"), None, "percent-encode"),
        (Side("amqp://h"), Side("rabbit://u:12/secret@h"), None, "write %2F"),
        (Side("amqp://h"), Side("rabbit://u:sec%2Fret@h"), None, "without a slash"),
    ],
)
def test_what_cannot_work_is_refused(
    rpc: Side, notify: Side, mode: str | None, reason: str
) -> None:
    with pytest.raises(TransportError, match=reason) as caught:
        resolve(rpc, notify, mode, NOWHERE)
    assert "cret" not in str(caught.value)


def test_a_damaged_state_is_reported(running: Path) -> None:
    (running / "state.json").write_text("{")
    with pytest.raises(TransportError, match="damaged"):
        resolve(Side(), Side(), state_dir=running)
