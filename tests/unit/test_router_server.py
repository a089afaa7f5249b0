# SPDX-License-Identifier: Apache-2.0
"""A router in this process: silence, time limits, listeners, its command line."""

from __future__ import annotations

import argparse
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import proton
import pytest
from tests.functional.peer import Peer

from hybrid_messaging.cli.router import Router as Command
from hybrid_messaging.router import __main__ as main
from hybrid_messaging.router import (
    config,
    connection,
    links,
    management,
    program,
    server,
)
from hybrid_messaging.router.connection import LONGEST_NAMES, MAX_LINKS, Connection
from hybrid_messaging.router.management import Management

ADDRESS = "openstack.org/om/rpc/anycast/openstack/unit"

Serve = Callable[..., int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts routers; returns the port."""
    with contextlib.ExitStack() as stack:

        def start(**listener: Any) -> int:
            terms = config.Listener(port=0, **listener)
            router = server.Router(
                config.RouterConfig(
                    listeners=(terms,),
                    addresses=(config.AddressRule("to/all", "multicast"),),
                )
            )
            router.table.put(Management(router))
            thread = threading.Thread(target=router.run)
            thread.start()
            stack.callback(thread.join, 10)
            stack.callback(router.stop)
            return int(router.listeners[0].socket.getsockname()[1])

        yield start


def _ends(raw: socket.socket) -> None:
    raw.settimeout(20)
    with contextlib.suppress(ConnectionError):
        while raw.recv(65536):
            pass


# -- silence ------------------------------------------------------------------


def test_who_says_nothing_costs_no_endpoint(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    class Counted(connection.Endpoint):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            made.append(threading.current_thread().name)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(connection, "Endpoint", Counted)
    port = serve()
    with contextlib.ExitStack() as silent:
        for _ in range(50):
            silent.enter_context(socket.create_connection(("127.0.0.1", port)))
        # it has come after them, and is accepted after them
        with Peer(port) as peer:
            peer.receiver(ADDRESS)
            assert len(made) == 1
        raw = silent.enter_context(socket.create_connection(("127.0.0.1", port)))
        raw.sendall(b"AMQP\x03\x01\x00\x00")
        assert raw.recv(8) == b"AMQP\x03\x01\x00\x00"
        assert len(made) == 2


def test_a_link_without_a_name_is_the_peers_fault(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    port = serve()
    open_, begin, nameless = (
        bytes.fromhex("0053 10c0 04 02 a101 78"),
        bytes.fromhex("0053 11c0 05 04 40 43 43 43"),
        bytes.fromhex("0053 12c0 04 03 40 43 41"),
    )
    with Peer(port) as good, socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"AMQP\x00\x01\x00\x00")
        for body in (open_, begin, nameless):
            raw.sendall((8 + len(body)).to_bytes(4, "big") + b"\2\0\0\0" + body)
        raw.shutdown(socket.SHUT_WR)
        _ends(raw)
        good.round_trip()
    assert "internal error" not in caplog.text


@pytest.mark.parametrize("end", ["name", "source", "target"])
def test_a_link_with_a_long_name_ends_its_connection(serve: Serve, end: str) -> None:
    port = serve()
    with Peer(port) as good, Peer(port) as odd:
        good.receiver("a" * (LONGEST_NAMES // 4))
        lengths = {"name": 1, "source": 1, "target": 1, end: LONGEST_NAMES}
        link = odd.endpoint.session.receiver("n" * lengths["name"])
        link.source.address = "s" * lengths["source"]
        link.target.address = "t" * lengths["target"]
        link.open()
        odd.until(lambda: odd.ended, "the end of the connection")
        good.round_trip()


# -- time limits -------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"AMQP",
        b"AMQP\x00\x01\x00\x00",
        b"AMQP\x03\x01\x00\x00",
        bytes.fromhex("414d515000010000 0000000a02000000 0053"),
    ],
    ids=["nothing", "a word", "a header", "a SASL header", "half an open"],
)
def test_who_does_not_open_a_connection_in_time_is_sent_away(
    serve: Serve, said: bytes
) -> None:
    port = serve(handshake_timeout=1)
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(said)
        _ends(raw)


def test_who_opens_it_byte_by_byte_is_sent_away(serve: Serve) -> None:
    port = serve(handshake_timeout=1)
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.settimeout(0.2)
        deadline = time.monotonic() + 20
        for byte in b"AMQP\x00\x01\x00\x00" + bytes(200):
            assert time.monotonic() < deadline
            try:
                raw.sendall(bytes([byte]))
                if not raw.recv(65536):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("the router has waited for all of it")


def test_those_who_do_not_open_leave_room_for_others(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "NEWCOMERS", 5)
    caplog.set_level(logging.INFO)
    port = serve(handshake_timeout=600)
    with contextlib.ExitStack() as stack:

        def connect(host: str = "127.0.0.1") -> socket.socket:
            where = ("127.0.0.1", port)
            return stack.enter_context(
                socket.create_connection(where, source_address=(host, 0))
            )

        opened = stack.enter_context(Peer(port))
        slow = connect("127.0.0.2")
        silent = [connect() for _ in range(30)]
        stack.enter_context(Peer(port)).round_trip()
        for raw in silent[:25]:
            _ends(raw)
        # these are neither the first of their host nor newcomers
        slow.sendall(b"AMQP\x00\x01\x00\x00")
        slow.settimeout(60)
        assert slow.recv(8) == b"AMQP\x00\x01\x00\x00"
        opened.round_trip()
    lines = [item for item in caplog.records if "do not open" in item.getMessage()]
    assert len(lines) >= 25
    assert {getattr(item, "most_lines", None) for item in lines} == {1}


def test_who_has_opened_it_may_be_idle(serve: Serve) -> None:
    port = serve(handshake_timeout=1)
    with Peer(port) as peer, pytest.raises(AssertionError):
        peer.until(lambda: peer.ended is not None, "it ends", timeout=3)


def test_nobody_is_taken_for_silent_before_what_has_come_is_read(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the router was suspended: signs of life wait in its sockets."""
    late = 0.0
    port = serve(idle_timeout=600)

    def step(router: server.Router, timeout: float) -> None:
        nonlocal late
        original(router, timeout)
        if not late:
            peer.socket.sendall(b"\0\0\0\x08\2\0\0\0")
            late = 700.0

    original, clock = server.Router._step, time.monotonic
    with Peer(port) as peer:
        peer.round_trip()
        monkeypatch.setattr(time, "monotonic", lambda: clock() + late)
        monkeypatch.setattr(server.Router, "_step", step)
        deadline = clock() + 20
        while not late:
            assert clock() < deadline
            time.sleep(0.01)
        peer.round_trip()


def test_a_peer_that_does_not_take_the_good_bye_is_left(serve: Serve) -> None:
    port = serve(handshake_timeout=1, sasl_mechanisms="ANONYMOUS")
    with Peer(port) as peer:
        peer.endpoint.close()
        peer.flush()
        _ends(_blocking(peer.socket))


def _blocking(raw: socket.socket) -> socket.socket:
    raw.setblocking(True)
    return raw


# -- links that are refused --------------------------------------------------


@pytest.fixture
def peer(serve: Serve) -> Iterator[Peer]:
    with Peer(serve()) as made:
        yield made


def _refused(peer: Peer, link: Any) -> str:
    peer.until(lambda: link in peer.detached, "the link is refused")
    return peer.detached[link]


def test_between_two_looks_at_its_peers_it_accepts_only_a_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that strangers who connect without end do not hold up the others."""
    monkeypatch.setattr(server, "ACCEPTED_AT_ONCE", 3)
    terms = config.Listener(port=0)
    with contextlib.ExitStack() as stack:
        router = server.Router(config.RouterConfig(listeners=(terms,)))
        stack.callback(router.close)
        place = router.listeners[0].socket.getsockname()
        for _ in range(10):
            stack.enter_context(socket.create_connection(place))
        for accepted in (3, 6, 9, 10):
            router._step(60)
            assert router.accepted == accepted


def test_a_second_listener_on_a_dynamic_address_is_refused(peer: Peer) -> None:
    address = peer.receiver(None).pn.remote_source.address
    link = peer.endpoint.receiver(address)
    assert _refused(peer, link).startswith("amqp:not-allowed")


def test_listening_on_the_management_address_is_refused(peer: Peer) -> None:
    link = peer.endpoint.receiver("$management")
    assert _refused(peer, link).startswith("amqp:not-allowed")


def test_a_receiver_without_an_address_is_refused(peer: Peer) -> None:
    link = peer.endpoint.receiver("")
    assert _refused(peer, link).startswith("amqp:invalid-field")


def test_a_sender_to_a_dynamic_target_is_refused(peer: Peer) -> None:
    pn = peer.endpoint.session.sender("dynamic")
    pn.target.dynamic = True
    pn.open()
    peer.until(lambda: pn.state & proton.Endpoint.REMOTE_CLOSED, "it is refused")
    assert pn.remote_condition.name == "amqp:not-implemented"


def test_transactions_are_refused(peer: Peer) -> None:
    pn = peer.endpoint.session.sender("transaction")
    pn.target.type = proton.Terminus.COORDINATOR
    pn.open()
    peer.until(lambda: pn.state & proton.Endpoint.REMOTE_CLOSED, "it is refused")
    assert pn.remote_condition.name == "amqp:not-implemented"


def test_a_connection_may_have_so_many_links_and_no_more(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_LINKS >= 1000
    monkeypatch.setattr("hybrid_messaging.router.connection.MAX_LINKS", 3)
    for number in range(3):
        peer.receiver(f"{ADDRESS}.{number}")
    link = peer.endpoint.receiver(ADDRESS)
    assert _refused(peer, link).startswith("amqp:resource-limit-exceeded")


def test_receivers_that_want_settled_messages_get_them(peer: Peer) -> None:
    def settled(pn: proton.Link) -> None:
        pn.snd_settle_mode = pn.SND_SETTLED

    link = peer.endpoint.receiver(ADDRESS, settled)
    peer.grant(link, 1)
    delivery = peer.send(peer.sender(ADDRESS), "settled")
    assert peer.take(link) == (None, "settled")
    assert peer.outcome(delivery).accepted


def test_a_message_that_is_none_is_rejected(peer: Peer) -> None:
    delivery = peer.sender(None).send(b"no message")
    outcome = peer.outcome(delivery)
    assert outcome.condition == "amqp:decode-error"


def test_a_question_that_is_none_is_rejected(peer: Peer) -> None:
    delivery = peer.sender("$management").send(b"\x00\x53\x73\xa1\x01\xff")
    outcome = peer.outcome(delivery)
    assert outcome.condition == "amqp:decode-error"


# -- management ----------------------------------------------------------------


def _ask(peer: Peer, relayed: bool = False, body: Any = None, **asked: Any) -> Any:
    replies = peer.receiver(None, credit=1)
    question = proton.Message(
        address="$management",
        reply_to=replies.pn.remote_source.address,
        correlation_id=7,
        properties=asked,
        body=body,
    )
    sender = peer.sender(None if relayed else "$management")
    sender.send(bytes(question.encode()))
    peer.until(lambda: peer.messages[replies], "an answer")
    answer = proton.Message()
    answer.decode(peer.messages[replies][0][1])
    assert answer.correlation_id == 7
    peer.detach(replies)
    return answer


def _query(peer: Peer, kind: str, *names: str, **asked: Any) -> list[dict[str, Any]]:
    answer = _ask(
        peer,
        operation="QUERY",
        entityType=f"io.skupper.router.{kind}",
        body={"attributeNames": list(names)},
        **asked,
    )
    assert answer.properties["statusCode"] == 200
    keys = answer.body["attributeNames"]
    return [dict(zip(keys, row, strict=True)) for row in answer.body["results"]]


@pytest.mark.parametrize("relayed", [True, False])
def test_questions_reach_the_management(peer: Peer, relayed: bool) -> None:
    answer = _ask(peer, relayed, operation="QUERY", entityType="router")
    assert answer.properties == {"statusCode": 200, "statusDescription": "OK"}


def test_what_the_management_tells(peer: Peer) -> None:
    receiver = peer.receiver(ADDRESS, credit=9)
    sender = peer.sender(ADDRESS)
    for _ in range(3):
        peer.send(sender)
        peer.accept(receiver)
    peer.round_trip()
    (mine,) = [
        row for row in _query(peer, "router.address") if row["name"] == f"M{ADDRESS}"
    ]
    assert mine["distribution"] == "balanced"
    assert mine["subscriberCount"] == 1
    assert (mine["deliveriesIngress"], mine["deliveriesEgress"]) == (3, 3)
    (row,) = _query(peer, "connection")
    assert row["container"] == peer.endpoint.connection.container
    assert row["host"] == f"127.0.0.1:{peer.socket.getsockname()[1]}"
    links = _query(peer, "router.link", "linkDir", "owningAddr", "deliveryCount")
    assert {"linkDir": "in", "owningAddr": f"M{ADDRESS}", "deliveryCount": 3} in links
    assert {"linkDir": "out", "owningAddr": f"M{ADDRESS}", "deliveryCount": 3} in links
    (metrics,) = _query(peer, "routerMetrics")
    assert metrics["acceptedDeliveries"] >= 3
    assert metrics["connectionCount"] == 1
    (listener,) = _query(peer, "listener")
    assert listener["port"] == str(peer.socket.getpeername()[1])
    (network,) = _query(peer, "network")
    assert network["networkId"] is None


def test_a_query_may_ask_for_a_part(peer: Peer) -> None:
    for number in range(5):
        peer.receiver(f"{ADDRESS}.{number}")
    everything = _query(peer, "router.address", "name")
    assert set(everything[0]) == {"name"}
    part = _query(peer, "router.address", "name", "bogus", offset=1, count=2)
    assert part == everything[1:3]


def test_an_answer_has_a_bounded_number_of_rows(peer: Peer) -> None:
    wanted = management.PAGE + 10
    links = [peer.endpoint.receiver(f"{ADDRESS}.{n}") for n in range(wanted)]
    peer.until(lambda: peer.attached.issuperset(links), "all are attached")
    page = _query(peer, "router.link", "name")
    assert len(page) == management.PAGE
    assert len(_query(peer, "router.link", "name", count=10**6)) == management.PAGE
    rest = _query(peer, "router.link", "name", offset=management.PAGE)
    assert len(page + rest) >= wanted
    assert not _query(peer, "router.link", "name", offset=2**63 - 1)


def test_a_query_may_name_an_attribute_often(peer: Peer) -> None:
    names = ["name", "identity"] * 100
    assert _query(peer, "listener", *names)[0].keys() == {"name", "identity"}


@pytest.mark.parametrize(
    "body",
    [{"attributeNames": ["name"] * 257}, {str(n): n for n in range(65)}],
    ids=["names", "entries"],
)
def test_a_question_has_a_bounded_number_of_words(peer: Peer, body: Any) -> None:
    question = proton.Message(properties={"operation": "QUERY"}, body=body)
    delivery = peer.sender("$management").send(bytes(question.encode()))
    assert peer.outcome(delivery).condition == "amqp:decode-error"


def test_entities_are_read_by_identity_or_name(peer: Peer) -> None:
    found = _ask(peer, operation="READ", type="connection", identity="1")
    assert found.body["container"] == peer.endpoint.connection.container
    named = _ask(peer, operation="READ", type="connection", name=found.body["name"])
    assert named.body["identity"] == "1"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"operation": "READ", "type": "connection", "identity": "99"}, 404),
        ({"operation": "READ", "type": "bogus", "identity": "1"}, 400),
        ({"operation": "QUERY", "entityType": "bogus"}, 400),
        ({"operation": "QUERY", "entityType": 5}, 400),
        ({"operation": "DELETE", "type": "connection", "identity": "1"}, 501),
        ({}, 501),
    ],
)
def test_questions_without_an_answer_get_a_status(
    peer: Peer, asked: dict[str, Any], code: int
) -> None:
    assert _ask(peer, **asked).properties["statusCode"] == code


def test_a_question_without_a_way_back_is_taken_all_the_same(peer: Peer) -> None:
    question = proton.Message(properties={"operation": "QUERY"})
    delivery = peer.sender("$management").send(bytes(question.encode()))
    assert peer.outcome(delivery).accepted


# -- too much ------------------------------------------------------------------


def test_who_opens_with_too_many_properties_is_sent_away(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    """What qpid-proton has made of them is not kept: 5 MB of an array that lies."""
    caplog.set_level(logging.INFO)

    def setup(transport: proton.Transport, connection: proton.Connection) -> None:
        connection.properties = {str(number): number for number in range(1000)}

    talker = Peer(peer.socket.getpeername()[1], setup=setup)
    talker.flush()
    _ends(_blocking(talker.socket))
    talker.vanish()
    peer.round_trip()
    assert "more than 64 values" in caplog.text
    assert "Traceback" not in caplog.text


# -- a defect ------------------------------------------------------------------


def test_a_defect_ends_one_connection_and_no_other(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Connection, link: Any) -> None:
        raise RuntimeError("a defect")

    victim = Peer(peer.socket.getpeername()[1])
    with victim, monkeypatch.context() as patch:
        patch.setattr(Connection, "on_link_open", broken)
        victim.endpoint.receiver(ADDRESS)
        victim.flush()
        _ends(_blocking(victim.socket))
    peer.round_trip()
    assert "internal error" in caplog.text


# -- starting --------------------------------------------------------------------


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wanted = config.RouterConfig(listeners=(config.Listener(port=port),))
        with pytest.raises(config.ConfigError, match=rf"127\.0\.0\.1:{port}.*in use"):
            server.Router(wanted)


def test_a_certificate_that_is_missing_is_named(tmp_path: Path) -> None:
    profile = config.SslProfile("tls", f"{tmp_path}/no.pem", f"{tmp_path}/no.key")
    wanted = config.Listener(port=0, ssl_profile=profile)
    with pytest.raises(config.ConfigError, match="sslProfile 'tls'"):
        server.Router(config.RouterConfig(listeners=(wanted,)))


@pytest.mark.parametrize(
    ("built_with", "listener", "missing"),
    [
        ("SSL.present", {"ssl_profile": config.SslProfile("a", "b", "c")}, "OpenSSL"),
        ("SASL.extended", {"sasl_mechanisms": "PLAIN"}, "Cyrus SASL"),
    ],
)
def test_a_library_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch,
    built_with: str,
    listener: dict[str, Any],
    missing: str,
) -> None:
    monkeypatch.setattr(f"proton.{built_with}", lambda: False)
    wanted = config.Listener(port=0, **listener)
    with pytest.raises(config.ConfigError, match=missing):
        server.Router(config.RouterConfig(listeners=(wanted,)))


def test_both_families_of_localhost(serve: Serve) -> None:
    port = serve(host="localhost")
    with Peer(port) as peer:
        peer.round_trip()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[config.RouterConfig]:
    """What would have been served."""
    seen: list[config.RouterConfig] = []
    monkeypatch.setattr(program, "serve", seen.append)
    monkeypatch.setattr(main, "serve", seen.append)
    return seen


def _run(*arguments: str) -> None:
    command = Command(argparse.Namespace(), argparse.Namespace())
    parser = command.get_parser("router")
    command.take_action(parser.parse_args(arguments))


def test_the_command_needs_nothing(served: list[config.RouterConfig]) -> None:
    _run()
    (listener,) = served[0].listeners
    assert (listener.host, listener.port) == ("127.0.0.1", 5672)
    assert listener.sasl_mechanisms == "ANONYMOUS"
    assert served[0].addresses == config.OPENSTACK_ADDRESSES


def test_the_command_takes_options(served: list[config.RouterConfig]) -> None:
    _run("--host", "::1", "--port", "0", "--id", "me")
    (listener,) = served[0].listeners
    assert (listener.host, listener.port, served[0].id) == ("::1", 0, "me")


def test_the_command_takes_a_file_or_options(
    served: list[config.RouterConfig], tmp_path: Path
) -> None:
    path = tmp_path / "router.conf"
    path.write_text("router {\n id: from.file\n}\n")
    _run("--config", str(path))
    assert served[0].id == "from.file"
    with pytest.raises(config.ConfigError, match="--port exclude each other"):
        _run("--config", str(path), "--port", "5")


def test_the_command_refuses_a_port_that_is_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        _run("--port", "99999")
    assert "'99999' is not a port" in capsys.readouterr().err


def test_the_module_runs_a_file(
    served: list[config.RouterConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "router.conf"
    monkeypatch.setattr("sys.argv", ["router", "--config", str(path)])
    assert main.main() == 1
    assert str(path) in capsys.readouterr().err
    path.write_text("router {\n id: from.file\n}\n")
    assert main.main() == 0
    assert served[0].id == "from.file"


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "router.log"
    with pytest.raises(config.ConfigError, match=str(path)):
        program.serve(config.RouterConfig(log_file=str(path)))


@pytest.fixture(autouse=True)
def _messages() -> Iterator[None]:
    logger = logging.getLogger("hybrid_messaging.router")
    before = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.level, logger.propagate, logger.handlers = before


# -- multicasts --------------------------------------------------------------


def test_a_burst_reaches_listeners_that_are_slower(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for what becomes of it, and there is room for a tenth of it."""
    monkeypatch.setattr(links, "SLOW", 60)
    port = serve(link_capacity=10)
    with Peer(port) as peer, Peer(port) as other:
        receiver = other.receiver("to/all")
        sender = peer.sender("to/all")
        sent, got = 0, []
        while len(got) < 100:
            while sent < 100 and sender.credit > 0:
                peer.send(sender, str(sent), settled=True)
                sent += 1
            other.grant(receiver, 1)
            got.append(other.accept(receiver))
            peer.step(0.001)
    assert got == [str(number) for number in range(100)]


def test_who_takes_nothing_holds_up_a_burst_once(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "SLOW", 0.2)
    port = serve(link_capacity=10)
    with Peer(port) as peer, Peer(port) as other, Peer(port) as stuck:
        stuck.receiver("to/all")
        receiver = other.receiver("to/all", credit=1000)
        sender = peer.sender("to/all")
        for number in range(100):
            peer.until(lambda: sender.credit > 0, "credit", 60)
            peer.send(sender, str(number), settled=True)
        assert [other.accept(receiver) for _ in range(100)] == [
            str(number) for number in range(100)
        ]
