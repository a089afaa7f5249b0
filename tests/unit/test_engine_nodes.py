# SPDX-License-Identifier: Apache-2.0
"""Several routers of one deployment, before they start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hybrid_messaging import modes, state
from hybrid_messaging.engines import (
    Certificates,
    EngineError,
    Launch,
    Options,
    kinds,
    router_program,
)
from hybrid_messaging.engines.wanted import Wanted

ROUTER = kinds.get("router")
NOTIFY = "rabbit://127.0.0.1:1/"


def wanted(nodes: int | None, mode: str = "qpid-hybrid", **given: str) -> Wanted:
    return Wanted(modes.get(mode), given, Options(nodes=nodes))


def up(nodes: int) -> state.State:
    """What is up after that."""
    engines = [
        state.Engine(
            name=item.name,
            kind=item.kind,
            roles=item.roles,
            host="127.0.0.1",
            port=port,
            url=f"amqp://127.0.0.1:{port}/?ssl_ca_file=%2Fca.pem",
            pid=1,
            started=0.0,
            log="",
            details=state.RouterDetails(router="skrouterd", id=str(port)),
        )
        for port, item in enumerate(wanted(nodes, notify=NOTIFY).placements, start=2001)
    ]
    return state.State.of("qpid-hybrid", engines, {"notify": NOTIFY})


def names(found: Wanted) -> list[str]:
    return [item.name for item in found.placements]


def test_only_routers_are_several() -> None:
    assert names(wanted(3)) == ["router-1", "router-2", "router-3", "rabbitmq"]
    assert names(wanted(1)) == names(wanted(None)) == ["router", "rabbitmq"]
    for mode, given in (("zmq-hybrid", {}), ("qpid-hybrid", {"rpc": "amqp://h/"})):
        with pytest.raises(EngineError, match="about routers"):
            wanted(2, mode, **given).check()


def test_one_url_leads_to_all_of_them() -> None:
    assert up(1).rpc_url == "amqp://127.0.0.1:2001/?ssl_ca_file=%2Fca.pem"
    assert up(3).rpc_url == (
        "amqp://127.0.0.1:2001,127.0.0.1:2002,127.0.0.1:2003/?ssl_ca_file=%2Fca.pem"
    )
    one = up(3).engines[1]
    changed = up(3).replace(replace(one, url="amqp://127.0.0.1:3002/"))
    assert ":2001,127.0.0.1:3002,127.0.0.1:2003/" in changed.rpc_url
    assert changed.notify_url == NOTIFY


@pytest.mark.parametrize(
    ("there", "nodes", "conflict"),
    [
        (3, None, ""),
        (3, 3, ""),
        (1, None, ""),
        (1, 1, ""),
        (1, 3, "1 router"),
        (3, 1, "3 routers"),
        (3, 2, "3 routers"),
    ],
)
def test_there_are_as_many_as_before(
    there: int, nodes: int | None, conflict: str
) -> None:
    found = wanted(nodes).beside(up(there))
    assert found.conflict(up(there), running=False) == conflict
    if nodes is None:
        assert len(found.placements) == there


def prepare(directory: Path, options: Options) -> Launch:
    directory.mkdir()
    ports = iter(range(2000, 3000))
    return ROUTER.prepare("router-3", directory, lambda _: next(ports), None, options)


@pytest.mark.parametrize("tls", [False, True])
def test_links_between_routers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    """With TLS, a certificate is needed for them: a user of services is no router."""
    monkeypatch.setattr(router_program, "missing", lambda choice: [])
    made = Certificates("/tls/ca.pem", "/tls/host.pem") if tls else None
    options = Options(
        router="skrouterd",
        links={"router-1": 2101, "router-2": 2102},
        certificates=made,
    )
    launch = prepare(tmp_path / "linked", options)
    text = (tmp_path / "linked" / "router.conf").read_text()
    assert "mode: interior" in text
    details = launch.details
    assert isinstance(details, state.RouterDetails)
    link = text.partition(f"port: {details.link_port}\n")[2].partition("}")[0]
    connectors = [part.partition("}")[0] for part in text.split("connector {")[1:]]
    assert len(connectors) == 2
    for port, part in zip((2101, 2102), connectors, strict=True):
        assert f"port: {port}\n" in part
    for part in (link, *connectors):
        assert "role: inter-router" in part
        assert ("saslMechanisms: EXTERNAL" in part) is tls
        assert ("sslProfile: links-tls" in part) is tls
        assert "saslPassword" not in part
    assert ("authenticatePeer: yes" in link) is tls
    assert ("requireSsl: yes" in link) is tls


def test_the_embedded_router_has_no_links(tmp_path: Path) -> None:
    with pytest.raises(
        EngineError, match="the embedded router cannot connect to other"
    ):
        prepare(tmp_path / "embedded", Options(router="embedded", links={}))
