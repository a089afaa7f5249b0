# SPDX-License-Identifier: Apache-2.0
"""Whom a router lets in: SASL and TLS, the embedded router as the native one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import proton
import pytest
from tests.functional.certificates import Authority, Certificate
from tests.functional.conftest import MakeRouter
from tests.functional.peer import Peer, Setup
from tests.functional.routers import Router, Settings, Tls

ADDRESS = "openstack.org/om/rpc/anycast/openstack/security"


def _sasl(
    mechanism: str, user: str | None = None, password: str | None = None
) -> Setup:
    def setup(transport: proton.Transport, connection: proton.Connection) -> None:
        sasl = transport.sasl()
        sasl.allow_insecure_mechs = True
        sasl.allowed_mechs(mechanism)
        if user is not None:
            connection.user = user
        if password is not None:
            connection.password = password

    return setup


def _tls(
    authority: Authority,
    client: Certificate | None = None,
    host: str = "router.example",
    sasl: Setup | None = None,
) -> Setup:
    def setup(transport: proton.Transport, connection: proton.Connection) -> None:
        domain = proton.SSLDomain(proton.SSLDomain.MODE_CLIENT)
        domain.set_trusted_ca_db(str(authority.certificate))
        domain.set_peer_authentication(proton.SSLDomain.VERIFY_PEER_NAME)
        if client is not None:
            domain.set_credentials(str(client.certificate), str(client.key), None)
        proton.SSL(transport, domain).peer_hostname = host
        if sasl is not None:
            sasl(transport, connection)

    return setup


def _is_let_in(router: Router, setup: Setup | None) -> bool:
    with Peer(router.port, setup=setup) as peer:
        if peer.ended is not None or not peer.endpoint.opened:
            return False
        receiver = peer.receiver(ADDRESS, credit=1)
        peer.send(peer.sender(ADDRESS), "hello")
        return peer.accept(receiver) == "hello"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> Certificate:
    return authority.issue("server", "router.example")


# -- SASL ------------------------------------------------------------------


@pytest.fixture
def guarded(make_router: MakeRouter) -> Iterator[Router]:
    yield make_router(
        Settings(users={"nova@hybrid": "s3cr€t p@ss:word", "other@hybrid": "x"})
    )


def test_an_open_router_wants_nothing(bus: Router) -> None:
    assert _is_let_in(bus, None)
    assert _is_let_in(bus, _sasl("ANONYMOUS"))


def test_the_right_password_lets_a_user_in(guarded: Router) -> None:
    assert _is_let_in(guarded, _sasl("PLAIN", "nova@hybrid", "s3cr€t p@ss:word"))


@pytest.mark.parametrize(
    "setup",
    [
        _sasl("PLAIN", "nova@hybrid", "wrong"),
        _sasl("PLAIN", "nova@hybrid", "s3cr€t p@ss:word "),
        _sasl("PLAIN", "nobody@hybrid", "s3cr€t p@ss:word"),
        _sasl("PLAIN", "nova@hybrid", "x"),
        _sasl("ANONYMOUS"),
        None,
    ],
    ids=["wrong", "blank", "stranger", "another's", "anonymous", "no sasl"],
)
def test_anything_else_does_not(guarded: Router, setup: Setup | None) -> None:
    assert not _is_let_in(guarded, setup)
    assert "s3cr" not in guarded.log()


def test_a_wrong_password_is_in_the_log(guarded: Router, router_kind: str) -> None:
    assert not _is_let_in(guarded, _sasl("PLAIN", "nova@hybrid", "wrong"))
    if router_kind == "embedded":
        assert "127.0.0.1" in guarded.log()
        assert "authentication failed" in guarded.log()


def test_the_user_is_told_to_the_management(guarded: Router, router_kind: str) -> None:
    with Peer(
        guarded.port, setup=_sasl("PLAIN", "nova@hybrid", "s3cr€t p@ss:word")
    ) as peer:
        replies = peer.receiver(None, credit=1)
        question = proton.Message(
            reply_to=replies.pn.remote_source.address,
            properties={
                "operation": "QUERY",
                "entityType": "io.skupper.router.connection",
            },
            body={"attributeNames": ["user", "sasl", "isAuthenticated"]},
        )
        peer.sender("$management").send(bytes(question.encode()))
        peer.until(lambda: peer.messages[replies], "the answer")
        answer = proton.Message()
        answer.decode(peer.messages[replies][0][1])
        names = answer.body["attributeNames"]
        rows = [dict(zip(names, row, strict=True)) for row in answer.body["results"]]
        assert {"user": "nova@hybrid", "sasl": "PLAIN", "isAuthenticated": True} in rows


# -- TLS -------------------------------------------------------------------


def test_tls_without_client_certificates(
    make_router: MakeRouter, authority: Authority, server: Certificate
) -> None:
    router = make_router(Settings(tls=Tls(*server)))
    assert _is_let_in(router, _tls(authority))
    assert _is_let_in(router, _tls(authority, sasl=_sasl("ANONYMOUS")))
    assert not _is_let_in(router, _tls(authority, host="other.example"))
    assert not _is_let_in(router, None), "plain text on a listener that requires TLS"


def test_tls_with_a_password(
    make_router: MakeRouter, authority: Authority, server: Certificate
) -> None:
    router = make_router(Settings(tls=Tls(*server), users={"nova@hybrid": "right"}))
    right = _sasl("PLAIN", "nova@hybrid", "right")
    wrong = _sasl("PLAIN", "nova@hybrid", "wrong")
    assert _is_let_in(router, _tls(authority, sasl=right))
    assert not _is_let_in(router, _tls(authority, sasl=wrong))


def test_client_certificates(
    make_router: MakeRouter, authority: Authority, server: Certificate, tmp_path: Path
) -> None:
    router = make_router(
        Settings(tls=Tls(*server, authority.certificate), mechanisms="EXTERNAL")
    )
    client = authority.issue("client")
    (tmp_path / "others").mkdir()
    stranger = Authority(tmp_path / "others", "others").issue("stranger")
    external = _sasl("EXTERNAL")
    assert _is_let_in(router, _tls(authority, client, sasl=external))
    assert not _is_let_in(router, _tls(authority, stranger, sasl=external))
    assert not _is_let_in(router, _tls(authority, sasl=external))


def test_large_messages_pass_through_tls(
    make_router: MakeRouter, authority: Authority, server: Certificate
) -> None:
    router = make_router(Settings(tls=Tls(*server)))
    body = "x" * 3_000_000
    with Peer(router.port, setup=_tls(authority)) as peer:
        receiver = peer.receiver(ADDRESS, credit=1)
        peer.send(peer.sender(ADDRESS), body)
        assert peer.accept(receiver) == body


@pytest.mark.parametrize("password", ["s3cret", "wrong"])
def test_no_password_is_judged_without_tls_where_tls_is_required(
    make_router: MakeRouter, server: Certificate, password: str
) -> None:
    router = make_router(Settings(users={"nova": "s3cret"}, tls=Tls(*server)))
    plain = b"\xa3\x05PLAIN"
    said = b"\0nova\0" + password.encode()
    init = b"\0\x53\x41\xc0" + bytes([len(plain) + len(said) + 3, 2])
    init += plain + b"\xa0" + bytes([len(said)]) + said
    frame = (len(init) + 8).to_bytes(4, "big") + b"\2\1\0\0" + init
    with socket.create_connection(("127.0.0.1", router.port), 60) as raw:
        # whatever is offered
        raw.sendall(b"AMQP\3\1\0\0" + frame)
        heard = b""
        while data := raw.recv(4096):
            heard += data
    assert b"PLAIN" not in heard
    # sasl-outcome: a code other than 0, the same for right and wrong
    assert b"\0\x53\x44" in heard
    assert heard[-2:] == b"\x50\x01"


def test_a_tls_hello_on_a_plain_port_is_turned_away(bus: Router) -> None:
    hello = bytes.fromhex("16030100ef010000eb0303") + bytes(239)
    with socket.create_connection(("127.0.0.1", bus.port), 10) as raw:
        raw.sendall(hello)
        raw.settimeout(20)
        while raw.recv(4096):
            pass
