# SPDX-License-Identifier: Apache-2.0
"""The broker before it starts: what it needs, and how it is configured."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from hybrid_messaging import state
from hybrid_messaging.engines import HOST, EngineError, Options, java, kinds
from hybrid_messaging.engines.kinds import broker

BROKER = kinds.get("broker")

CORE = "{urn:activemq:core}"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Java, and a cache with the broker's libraries in it."""
    program = tmp_path / "java"
    monkeypatch.setattr(java, "runtime", lambda minimum: program)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (java.cache() / f"artemis-{broker.VERSION}").mkdir(parents=True)
    return program


def prepare(
    directory: Path,
    previous: state.Engine | None = None,
    options: Options = Options(),  # noqa: B008
) -> state.Engine:
    directory.mkdir(exist_ok=True)
    launch = BROKER.prepare(
        "broker", directory, lambda port: port or 1000, previous, options
    )
    return state.Engine(
        name="broker",
        kind="broker",
        roles=("notify",),
        host=HOST,
        port=launch.port,
        url=launch.url,
        pid=state.NOT_STARTED,
        started=0,
        log=" ".join(launch.command),
        details=launch.details,
    )


def settings(directory: Path) -> dict[str, dict[str, str | None]]:
    """The address settings by the addresses that they are for."""
    root = ElementTree.parse(directory / "etc" / "broker.xml").getroot()
    return {
        item.attrib["match"]: {each.tag.removeprefix(CORE): each.text for each in item}
        for item in root.iter(f"{CORE}address-setting")
    }


def test_what_is_missing_and_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(java, "runtime", lambda minimum: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runtime, libraries = BROKER.missing(Options())
    assert runtime.what == "Java 17 or later"
    assert libraries.what == f"ActiveMQ Artemis {broker.VERSION}"
    assert libraries.install == "hybrid-messaging fetch broker"
    with pytest.raises(EngineError, match=r"lacks Java 17.*; .* fetch broker"):
        BROKER.prepare("broker", tmp_path, lambda port: 1000, None, Options())


@pytest.mark.usefixtures("installed")
def test_the_build_file_is_of_the_version_that_is_told(tmp_path: Path) -> None:
    assert BROKER.missing(Options()) == []
    namespace = "{http://maven.apache.org/POM/4.0.0}"
    root = ElementTree.parse(broker.BUILD_FILE).getroot()
    versions = {
        item.findtext(f"{namespace}version")
        for item in root.iter(f"{namespace}dependency")
        if item.findtext(f"{namespace}groupId") == "org.apache.artemis"
    }
    assert versions == {broker.VERSION}


def test_addresses_are_treated_as_the_driver_expects(
    installed: Path, tmp_path: Path
) -> None:
    engine = prepare(tmp_path / "broker")
    assert engine.log.startswith(f"{installed} -Xmx512m ")
    found = settings(tmp_path / "broker")
    kind = "default-address-routing-type"
    assert found["#"][kind] == "ANYCAST"
    assert found["openstack.org/om/rpc/multicast/#"][kind] == "MULTICAST"
    assert found["openstack.org/om/notify/#"]["auto-delete-queues"] == "false"
    assert int(found["openstack.org/om/rpc/#"]["expiry-delay"] or 0) == 300_000


@pytest.mark.usefixtures("installed")
def test_it_listens_where_it_is_told_to(tmp_path: Path) -> None:
    prepare(tmp_path / "broker", options=Options(host="::", port=5672))
    assert "tcp://[::]:5672?" in (tmp_path / "broker/etc/broker.xml").read_text()


@pytest.mark.usefixtures("installed")
def test_it_comes_back_with_its_port_and_password(tmp_path: Path) -> None:
    engine = prepare(tmp_path / "broker")
    again = prepare(tmp_path / "broker", engine)
    assert again == engine
    other = prepare(tmp_path / "other")
    assert other.details.password != engine.details.password
    users = tmp_path / "broker" / "users.properties"
    assert users.read_text() == f"hybrid = {engine.details.password}\n"
    assert engine.details.password not in engine.log
