# SPDX-License-Identifier: Apache-2.0
"""What `check`, `smoke` and the engines ask of a server that speaks TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path

import pytest
from tests.functional import fakes, tls_versions
from tests.functional.certificates import Authority
from tests.functional.conftest import MakeRouter
from tests.functional.routers import HOST, Settings, Tls

from hybrid_messaging import urls
from hybrid_messaging.engines import EngineError
from hybrid_messaging.engines.amqp_management import Management
from hybrid_messaging.servers import options
from hybrid_messaging.servers.transport import ConnectError

#: Kafka's client tries again until its time is up.
KAFKA_TIMEOUT, FAR = 15.0, 60.0


def connect(url: str, timeout: float = FAR) -> str:
    transport = options.transport(options.defaults(), urls.parse(url))
    return transport.connect(transport.hosts[0], timeout)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1.1"])
@pytest.mark.parametrize("scheme", ["amqp", "kafka", "rabbit", "zmq"])
def test_old_versions_are_not_spoken(
    authority: Authority, scheme: str, version: str
) -> None:
    context = tls_versions.anything(ssl.PROTOCOL_TLS_SERVER, version)
    context.load_cert_chain(*authority.issue("server", "localhost"))
    heard: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as spoken:
            heard.append(spoken.recv(4))

    query = urls.tls(scheme, str(authority.certificate))
    with fakes.Fake(behave) as old:
        where = [("localhost", old.port)]
        with pytest.raises(ConnectError) as caught:
            url = urls.build(scheme, where, "u", "secret", query=query)
            connect(url, KAFKA_TIMEOUT if scheme == "kafka" else FAR)
    assert caught.value.code == "tls-failed"
    assert old.connections > 0
    assert heard == []


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_names_and_addresses_are_compared(
    make_router: MakeRouter, authority: Authority, name: str
) -> None:
    server = authority.issue("server", "localhost")
    router = make_router(Settings(tls=Tls(*server)))
    ca_file = str(authority.certificate)
    proven = name == "localhost"

    def ask(host: str, name: str | None = None) -> None:
        with Management(host, router.port, ca_file=ca_file, timeout=60, name=name):
            pass

    url = urls.build("amqp", [(name, router.port)], query=urls.tls("amqp", ca_file))
    with (
        contextlib.nullcontext()
        if proven
        else pytest.raises(ConnectError, match="not valid for")
    ):
        assert connect(url) == "hybrid-messaging-router"
    with (
        contextlib.nullcontext()
        if proven
        else pytest.raises(EngineError, match="not valid for")
    ):
        ask(name)
    ask(name, "localhost")  # as for the certificate of a virtual host


def test_a_certificate_that_changes_is_not_told_the_password(
    make_router: MakeRouter, authority: Authority
) -> None:
    routers = [
        make_router(Settings(tls=Tls(*authority.issue(name, host)), mechanisms="PLAIN"))
        # qpid-proton alone would take the other one, for its common name
        for name, host in (("good", "localhost"), ("localhost", "elsewhere.example"))
    ]
    turns = iter([fakes.Proxy(router.port) for router in routers])
    query = urls.tls("amqp", str(authority.certificate))
    with fakes.Fake(lambda connection: next(turns)(connection)) as between:
        where = [("localhost", between.port)]
        with pytest.raises(ConnectError, match="different certificates"):
            connect(urls.build("amqp", where, "nova", "secret", query=query))
    assert "authentication failed" not in routers[1].log()
    assert HOST in routers[1].log()
