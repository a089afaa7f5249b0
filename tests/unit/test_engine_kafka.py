# SPDX-License-Identifier: Apache-2.0
"""Kafka before it starts: what it finds, configures and refuses."""

from __future__ import annotations

import base64
import importlib.util
import re
import stat
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from hybrid_messaging import state
from hybrid_messaging.engines import (
    HOST,
    EngineError,
    Options,
    java,
    kafka_admin,
    kinds,
)
from hybrid_messaging.engines.kinds import kafka
from hybrid_messaging.urls import parse

KAFKA = kinds.get("kafka")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def formatted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that stands for Java, and an engine's directory to work in."""
    program = tmp_path / "java"
    program.write_text(
        '#!/bin/sh\necho "$@" >>asked\nmkdir -p data\ntouch data/meta.properties\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(java, "runtime", lambda minimum: program)
    directory = tmp_path / "engine"
    directory.mkdir()
    return directory


def release(tmp_path: Path, version: str) -> Options:
    """An unpacked release."""
    home = tmp_path / f"kafka-{version}"
    (home / "libs").mkdir(parents=True)
    (home / "libs" / f"kafka_2.13-{version}.jar").touch()
    (home / "libs" / "kafka-clients-9.9.9.jar").touch()
    return Options(kafka=str(home))


def prepare(
    directory: Path, options: Options, previous: state.Engine | None = None
) -> kafka.Launch:
    numbers = count(2000)
    return KAFKA.prepare(
        "kafka",
        directory,
        lambda preferred: preferred or next(numbers),
        previous,
        options,
    )


def test_the_build_file_fetches_the_version_that_is_meant() -> None:
    text = kafka.BUILD_FILE.read_text()
    assert f"<version>{kafka.VERSION}</version>" in text
    assert kafka.VERSION in kafka.ARCHIVE


def test_what_is_missing_and_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(java, "missing_runtime", lambda minimum: [])
    lacking = {item.what: item.install for item in KAFKA.missing(Options())}
    assert lacking == {f"Kafka {kafka.VERSION}": "hybrid-messaging fetch kafka"}
    with pytest.raises(EngineError, match=r"Kafka .* missing: hybrid-messaging fetch"):
        prepare(tmp_path, Options())
    assert KAFKA.missing(release(tmp_path, "4.0.0")) == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert [item.what for item in KAFKA.missing(Options())][1] == "confluent-kafka"


def test_an_old_release_is_refused(tmp_path: Path, formatted: Path) -> None:
    with pytest.raises(EngineError, match=r"is Kafka 3\.9\.1, .* use 4\.0 or later"):
        prepare(formatted, release(tmp_path, "3.9.1"))
    assert list(formatted.iterdir()) == []


def test_the_node_is_private(tmp_path: Path, formatted: Path) -> None:
    options = release(tmp_path, "4.0.1")
    launch = prepare(formatted, options)
    password = launch.details.password
    assert launch.url == (
        f"kafka://hybrid:{password}@{HOST}:2000/?security_protocol=SASL_PLAINTEXT"
    )
    assert parse(launch.url).hosts[0].password == password
    config = formatted / "kafka.properties"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    text = config.read_text()
    assert f"CLIENT://{HOST}:2000,CONTROLLER://{HOST}:2001\n" in text
    assert text.count(f'user_hybrid="{password}";') == 2
    assert set(re.findall(r"\d+\.\d+\.\d+\.\d+", text)) == {HOST}
    assert not any(password in word for word in launch.command)
    assert password not in "".join((launch.environment or {}).values())
    assert "-Xmx512m" in launch.command
    assert launch.command[-2:] == ("kafka.Kafka", "kafka.properties")
    assert launch.details.version == "4.0.1"


@pytest.mark.parametrize(
    ("host", "advertised", "listener", "client"),
    [
        ("0.0.0.0", "192.0.2.1", "0.0.0.0:9092", "192.0.2.1:9092"),
        ("::", "2001:db8::1", "[::]:9092", "[2001:db8::1]:9092"),
        ("192.0.2.1", None, "192.0.2.1:9092", "192.0.2.1:9092"),
    ],
)
def test_a_node_for_a_network(
    tmp_path: Path,
    formatted: Path,
    host: str,
    advertised: str | None,
    listener: str,
    client: str,
) -> None:
    options = replace(
        release(tmp_path, "4.0.1"), host=host, port=9092, advertised=advertised
    )
    launch = prepare(formatted, options)
    assert f"@{client}/" in launch.url
    text = (formatted / "kafka.properties").read_text()
    # clients connect to what is advertised, and nobody else to the controller
    controller = f"{HOST}:2000"
    assert f"listeners = CLIENT://{listener},CONTROLLER://{controller}\n" in text
    assert f"advertised.listeners = CLIENT://{client}\n" in text
    assert f"voters = 1@{controller}\n" in text


def test_storage_is_formatted_once(tmp_path: Path, formatted: Path) -> None:
    options = release(tmp_path, "4.0.1")
    launch = prepare(formatted, options)
    before = state.Engine(
        *("kafka", "kafka", ("notify",), HOST, launch.port, launch.url, 0, 0.0, ""),
        details=launch.details,
    )
    again = prepare(formatted, Options(), before)
    assert (again.url, again.details) == (launch.url, launch.details)
    (asked,) = (formatted / "asked").read_text().splitlines()
    assert f"format --cluster-id {launch.details.cluster}" in asked


def test_storage_that_cannot_be_formatted(tmp_path: Path, formatted: Path) -> None:
    (tmp_path / "java").write_text("#!/bin/sh\necho No space left on device\nexit 1\n")
    with pytest.raises(EngineError, match=r"(?s)cannot be formatted:.*No space left"):
        prepare(formatted, release(tmp_path, "4.0.1"))


def test_the_name_of_a_cluster_is_what_kafka_takes() -> None:
    names = {kafka_admin.new_cluster_id() for _ in range(50)}
    assert len(names) == 50
    for name in names:
        assert len(base64.urlsafe_b64decode(f"{name}==")) == 16
        assert not name.startswith("-")
