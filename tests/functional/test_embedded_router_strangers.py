# SPDX-License-Identifier: Apache-2.0
"""Bytes from strangers: the embedded router neither crashes, hangs nor grows."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import proton
import pytest
from tests.functional.conftest import MakeRouter
from tests.functional.peer import Peer
from tests.functional.routers import HOST, Router, Settings
from tests.functional.waiting import until

from hybrid_messaging.log_safety import LINES

MEGABYTE = 1024 * 1024
ANYCAST = "openstack.org/om/rpc/anycast/openstack/strangers"
MULTICAST = "openstack.org/om/rpc/multicast/openstack/strangers"

#: An AMQP protocol header without SASL and TLS.
HEADER = b"AMQP\x00\x01\x00\x00"


@pytest.fixture
def router(tmp_path: Path) -> Router:
    made = Router("embedded", tmp_path).start()
    yield made
    made.stop()


class _Recorder(Peer):
    """Keeps what it sends."""

    def __init__(self, port: int) -> None:
        self.said: list[bytes] = []
        super().__init__(port)

    def flush(self) -> None:
        while view := self.endpoint.output():
            self.said.append(bytes(view))
            self.endpoint.written(self.socket.send(view))


def _session(port: int) -> list[bytes]:
    """What a client says that uses all that the router has."""
    with _Recorder(port) as peer:
        receiver = peer.receiver(ANYCAST, credit=10)
        every = peer.receiver(MULTICAST, credit=5)
        replies = peer.receiver(None, credit=5)
        address = replies.pn.remote_source.address
        sender, relay = peer.sender(ANYCAST), peer.sender(None)
        for size in (50, 100_000):
            peer.send(sender, "x" * size)
            peer.accept(receiver)
        peer.send(relay, "reply", to=address)
        peer.accept(replies)
        peer.send(relay, "all", to=MULTICAST)
        peer.accept(every)
        question = proton.Message(
            reply_to=address,
            properties={
                "operation": "QUERY",
                "entityType": "io.skupper.router.connection",
            },
            body={"attributeNames": []},
        )
        peer.sender("$management").send(bytes(question.encode()))
        peer.until(lambda: peer.messages[replies], "the answer")
        receiver.drain()
        peer.round_trip()
        peer.close()
        return peer.said


def _say(port: int, *chunks: bytes) -> None:
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), 10) as raw,
    ):
        for chunk in chunks:
            raw.sendall(chunk)


def _noise(chance: random.Random, said: list[bytes]) -> list[bytes]:
    return [chance.randbytes(chance.randrange(1, 5000))]


def _cut_off(chance: random.Random, said: list[bytes]) -> list[bytes]:
    whole = b"".join(said)
    return [whole[: chance.randrange(len(whole))]]


def _bent(chance: random.Random, said: list[bytes]) -> list[bytes]:
    whole = bytearray(b"".join(said))
    reach = chance.choice([200, 1500, len(whole)])
    for _ in range(chance.choice([1, 2, 20])):
        whole[chance.randrange(reach)] = chance.randrange(256)
    return [bytes(whole)]


def _shuffled(chance: random.Random, said: list[bytes]) -> list[bytes]:
    return chance.sample(said, len(said))


def _repeated(chance: random.Random, said: list[bytes]) -> list[bytes]:
    whole = b"".join(said)
    start, end = sorted(chance.sample(range(len(whole)), 2))
    at = chance.randrange(len(whole))
    return [whole[:at] + whole[start:end] + whole[at:]]


def _frames(chance: random.Random, said: list[bytes]) -> list[bytes]:
    bodies = (
        bytes([0, 0x53, chance.randrange(0x10, 0x19)])
        + chance.randbytes(chance.randrange(100))
        for _ in range(5)
    )
    return [HEADER, *(_frame(body, chance.choice([0, 0, 7])) for body in bodies)]


def _frame(body: bytes, channel: int = 0) -> bytes:
    return struct.pack(">IBBH", len(body) + 8, 2, 0, channel) + body


@pytest.mark.parametrize(
    "distort",
    [_noise, _cut_off, _bent, _shuffled, _repeated, _frames],
    ids=lambda function: function.__name__.strip("_"),
)
def test_distorted_bytes(
    router: Router, distort: Callable[[random.Random, list[bytes]], list[bytes]]
) -> None:
    said = _session(router.port)
    chance = random.Random(distort.__name__)
    for number in range(400):
        _say(router.port, *distort(chance, said))
        if number == 100:
            with Peer(router.port) as peer:
                peer.round_trip()
            before = router.resident()
    assert router.running
    assert _session(router.port), "it still does everything"
    until(lambda: router.connections() == 0, "the strangers are gone")
    # memory is given back from time to time
    until(lambda: router.resident() - before < 30 * MEGABYTE, "it has not grown", 150)
    assert "internal error" not in router.log()
    assert "Traceback" not in router.log()


def _list(*fields: bytes) -> bytes:
    body = b"".join(fields)
    return b"\xd0" + struct.pack(">II", len(body) + 4, len(fields)) + body


def _nested(level: Callable[[bytes], bytes]) -> bytes:
    value = b"\x40"
    while len(value) < 25_000:
        value = level(value)
    return value


_DEEP = {
    "lists": _nested(_list),
    "maps": _nested(lambda x: b"\xd1" + _list(b"\xa1\x01a", x)[1:]),
    "arrays": _nested(lambda x: b"\xf0" + struct.pack(">II", len(x) + 4, 1) + x),
    "descriptions": b"\x00" * 25_000 + b"\x40\x40",
    "described": b"\x00\x53\x01" * 8_000 + b"\x40",
    "endless array": b"\xf0" + struct.pack(">II", 5, 1 << 31) + b"\x40",
}

_NULL, _TRUE, _FALSE, _ZERO = b"\x40", b"\x41", b"\x42", b"\x43"


def _string(text: str) -> bytes:
    return b"\xa1" + bytes([len(text)]) + text.encode()


def _performative(code: int, *fields: bytes) -> bytes:
    return b"\x00\x53" + bytes([code]) + _list(*fields)


def _open(properties: bytes = _NULL) -> bytes:
    limits = [b"\x70\xff\xff\xff\xff"] + [_NULL] * 6
    return _frame(_performative(0x10, _string("stranger"), _NULL, *limits, properties))


def _attach(
    role: bytes, address: str | None, filters: bytes = _NULL, properties: bytes = _NULL
) -> bytes:
    where = _NULL if address is None else _string(address)
    source = _performative(0x28, where, *[_NULL] * 6, filters)
    target = _performative(0x29, where)
    begin = _performative(0x11, _NULL, _ZERO, *[b"\x70\x00\x00\x10\x00"] * 2)
    rest = [_NULL, _NULL, _ZERO, _NULL, _NULL, _NULL, properties]
    attach = _performative(
        0x12, _string("l"), _ZERO, role, _NULL, _NULL, source, target, *rest
    )
    return _frame(begin) + _frame(attach)


def _transfer(message: bytes) -> bytes:
    return _frame(
        _performative(0x14, _ZERO, _ZERO, b"\xa0\x01t", _ZERO, _TRUE) + message
    )


@pytest.mark.parametrize("kind", _DEEP)
def test_values_that_nest_deeper_than_anybody_needs(router: Router, kind: str) -> None:
    deep = _DEEP[kind]
    properties = _performative(0x73, *[_NULL] * 4, _string(ANYCAST))
    message = properties + b"\x00\x53\x74" + deep + b"\x00\x53\x77" + deep
    with Peer(router.port) as peer:
        peer.receiver(ANYCAST, credit=10)
        for talk in (
            [_open(deep)],
            [_open() + _attach(_TRUE, "a", properties=deep)],
            [_open() + _attach(_TRUE, "a", filters=deep)],
            [_open() + _attach(_FALSE, "$management"), _transfer(message)],
            [_open() + _attach(_FALSE, None), _transfer(b"\x00\x53\x72" + deep)],
            [_open(), _frame(_performative(0x18, b"\x00\x53\x1d" + _list(deep)))],
        ):
            _talk(router.port, HEADER + talk[0], *talk[1:])
        peer.round_trip()
    assert "internal error" not in router.log()


def _talk(port: int, *chunks: bytes) -> bytes:
    """Say something, each time after an answer, and hear the router out."""
    heard = b""
    raw = socket.create_connection(("127.0.0.1", port), 20)
    with raw, contextlib.suppress(ConnectionError):
        for number, chunk in enumerate(chunks):
            if number:
                heard += raw.recv(65536)
            raw.sendall(chunk)
        raw.shutdown(socket.SHUT_WR)
        while more := raw.recv(65536):
            heard += more
    return heard


@pytest.mark.parametrize("listens", [True, False])
def test_messages_without_credit_end_their_link(router: Router, listens: bool) -> None:
    with Peer(router.port) as peer:
        if listens:  # then there is credit for 250
            peer.receiver(ANYCAST)
        transfer = _performative(0x14, _ZERO, _NULL, b"\xa0\x01t", _ZERO, _TRUE)
        heard = _talk(
            router.port,
            HEADER + _open() + _attach(_FALSE, ANYCAST),
            _transfer(b"") + _frame(transfer) * (252 if listens else 1),
        )
        assert b"amqp:link:transfer-limit-exceeded" in heard
        peer.round_trip()


def test_names_that_are_no_text_end_their_connection(router: Router) -> None:
    name = b"\xa1\x03\xff\xfe\xfd"
    bad_open = _frame(_performative(0x10, name, _NULL))
    assert _talk(router.port, HEADER + bad_open) is not None
    with Peer(router.port) as peer:
        peer.round_trip()
    assert "not valid UTF-8" in router.log()
    assert "Traceback" not in router.log()


def test_a_look_whether_the_port_is_open_is_not_worth_a_line(router: Router) -> None:
    """As load balancers do every other second; systemd's journal has enough to say."""
    for reset in (False, True):
        for _ in range(3):
            with socket.create_connection((HOST, router.port)) as sock:
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    until(lambda: router.connections() == 0, "the router has let go of them")
    lines = [line for line in router.log().splitlines() if " connection " in line]
    # those of `connections` itself
    assert lines
    assert [line for line in lines if "(hybrid-messaging " not in line] == []


@pytest.mark.embedded
def test_offences_that_are_repeated_cost_few_lines_of_the_log(
    make_router: MakeRouter,
) -> None:
    hasty = "program.RateLimit = functools.partial(program.RateLimit, period=5)"
    router = make_router(Settings(patch=hasty))
    name = b"\x1b[2J\n" * 5000
    container = b"\xb1" + struct.pack(">I", len(name)) + name
    limits = [b"\x70\xff\xff\xff\xff"] * 2
    begin = _performative(0x11, _NULL, _ZERO, *limits, b"\x70\x00\x00\xff\xff")
    offences = [
        _performative(
            *(0x12, _string(f"l{number}"), b"\x70" + struct.pack(">I", number), _TRUE),
            *(_NULL, _NULL, _performative(0x28), _performative(0x29)),
        )
        for number in range(20 * LINES)
    ]
    heard = _talk(
        router.port,
        HEADER + _frame(_performative(0x10, container, _NULL)) + _frame(begin),
        b"".join(map(_frame, offences)),
    )
    assert heard.count(b"a receiver needs a source address") == len(offences)
    log = router.log()
    assert "\x1b" not in log
    assert "\\x1b[2J\\n" in log
    assert max(map(len, log.splitlines())) < 500
    # a busy machine may need more than one period
    assert LINES <= log.count("refused") < len(offences) / 2
    until(lambda: "more lines like this within 5 s" in router.log(), "the rest", 150)


def test_strangers_who_say_nothing_cost_a_line(router: Router) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(160):
            raw = socket.create_connection(("127.0.0.1", router.port), 20)
            stack.enter_context(raw)
            if number % 2:
                raw.sendall(b"garbage" * 10)
        until(lambda: "it did not open in time" in router.log(), "they must go")
        until(lambda: router.connections() == 0, "they are gone")
    # those with a name are the ones that have looked whether they are gone
    lines = [item for item in router.log().splitlines() if "(hybrid-" not in item]
    # a busy machine may need more than a minute
    assert 2 <= len(lines) < 10, lines
