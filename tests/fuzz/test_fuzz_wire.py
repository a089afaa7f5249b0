# SPDX-License-Identifier: Apache-2.0
"""Whatever frames come: servers, proxies and clients of `zmq` go on unharmed."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import oslo_messaging
import pytest
import zmq
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.functional.matchmakers import Redis
from tests.functional.routers import HOST
from tests.functional.rpc import Rpc
from tests.functional.waiting import until

from hybrid_messaging.drivers import logs
from hybrid_messaging.drivers.zmq import matchmaker, wire
from hybrid_messaging.drivers.zmq.proxies import everybody

#: Milliseconds, or seconds, in which a process has long answered.
_SOON = 60
_LAST = 2**64 - 1
_IDS = st.one_of(st.integers(0, 20), st.integers(0, _LAST))
_KINDS = st.one_of(
    st.sampled_from(sorted(wire._REQUESTS | wire._ANSWERS)),
    st.binary(min_size=1, max_size=1),
)
_TTLS = st.sampled_from([0, 1, 1000, wire.NO_TTL])
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)
#: What a request or a reply may consist of, and does not.
_OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "request": st.one_of(
            _JSON,
            st.fixed_dictionaries(
                {"method": st.sampled_from(["name", "none", "\ud800"])},
                optional={"args": _JSON, "namespace": _JSON, "version": _JSON},
            ),
            st.just({"oslo.version": "\ud800" * 1000, "oslo.message": "{}"}),
        ),
        "context": _JSON,
        "call_monitor_timeout": _JSON,
        "response": _JSON,
        "failure": st.one_of(_JSON, _JSON.map(json.dumps)),
    },
)
_BODIES = st.one_of(
    _OBJECTS.map(lambda value: json.dumps(value).encode()),
    _JSON.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=40),
    st.integers(1, 50_000).map(b"[".__mul__),
    st.sampled_from([b'{"request": ' * 5000, b"\x1b[2J\r\n", b'{"response": "x"}']),
)


@st.composite
def _messages(draw: st.DrawFn, addresses: list[bytes]) -> list[bytes]:
    """The parts of a message, the last of them like a request in most ways."""
    made_up = st.integers(0, 50).map(lambda n: b"p//openstack/made-up-%d/s" % n)
    address = draw(
        st.one_of(st.sampled_from(addresses), made_up, st.binary(max_size=30))
    )
    kind, id = draw(_KINDS), draw(_IDS)
    frame = wire.request(kind, id, address, draw(_BODIES), draw(_TTLS))
    how = draw(st.sampled_from(["whole", "whole", "cut", "changed", "answer", "parts"]))
    if how == "cut":
        frame = frame[: draw(st.integers(0, 80))]
    elif how == "changed":
        changed = bytearray(frame)
        place = draw(st.integers(0, min(40, len(frame)) - 1))
        changed[place] = draw(st.integers(0, 255))
        frame = bytes(changed)
    elif how == "answer":
        frame = wire.answer(kind, id, address)
    elif how == "parts":
        return [*draw(st.lists(st.binary(max_size=9), min_size=1, max_size=3)), frame]
    return [frame]


# -- frames ----------------------------------------------------------------


@given(st.one_of(st.binary(max_size=60), _messages([b"a"]).map(lambda m: m[-1])))
def test_frames_are_read_or_are_malformed(frame: bytes) -> None:
    with contextlib.suppress(wire.MalformedFrame):
        kind, id, ttl, address, body = wire.read_request(frame)
        assert wire.request(kind, id, address, body, ttl) == frame
    with contextlib.suppress(wire.MalformedFrame):
        assert wire.answer(*wire.read_answer(frame)) == frame


# -- what strangers say to servers and proxies ---------------------------------


class _Complaints(logging.Handler):
    """Collects what our own modules report as gone wrong."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.getMessage()}\n{record.exc_text or ''}")


@contextlib.contextmanager
def _without_complaints() -> Iterator[None]:
    """See that nothing goes wrong that is reported."""
    handler, logger = _Complaints(), logging.getLogger("hybrid_messaging")
    logger.addHandler(handler)
    try:
        yield
        assert logs.flush(_SOON)
    finally:
        logger.removeHandler(handler)
    assert handler.texts == []


class _Target(NamedTuple):
    """Where a server or a proxy listens, and who calls by way of it."""

    stranger: zmq.Socket[bytes]
    client: oslo_messaging.RPCClient
    #: a server, in this process
    server: Any
    #: a proxy, in this process; None: there is none
    proxy: Any
    addresses: list[bytes]

    def hear(self, messages: list[list[bytes]]) -> None:
        """Say something, and wait until it has been dealt with."""
        for message in messages:
            self.stranger.send_multipart(message)
        self.stranger.send(wire.request(wire.CALL, _LAST, b"nobody"))
        while self.stranger.poll(_SOON * 1000):
            if self.stranger.recv_multipart() == [wire.answer(wire.NOBODY, _LAST)]:
                return
        raise AssertionError("nothing is answered any more")

    def keeps_nothing(self) -> bool:
        """Whether nothing is left of what strangers have said."""
        left = [self.server._unwanted, self.server.backlog._waiting]
        if self.proxy is not None:
            left += [self.proxy._server._unwanted, self.proxy._passing]
            left += [self.proxy._refused, list(self.proxy._searching)]
            routes = list(self.proxy.client.routes._routes.values())
            left += [[route for route in routes if not route.candidates]]
        return not any(left)


@pytest.fixture(scope="module", params=["server", "proxy"])
def target(request: pytest.FixtureRequest, redis: Redis) -> Iterator[_Target]:
    with contextlib.ExitStack() as undo:
        rpc = undo.enter_context(Rpc(redis.url()))
        rpc.server(transport=rpc.default)
        driver: Any = rpc.default._driver
        server = driver._server
        topic = matchmaker.topic(None, "openstack", rpc.topic)
        (own,) = server._listeners
        proxy, endpoint, client = None, server.endpoint, rpc.client(timeout=_SOON)
        addresses = [own, b"none/" + own.partition(b"/")[2], own + b"x"]
        if request.param == "proxy":
            proxy = driver.proxy()
            endpoint = proxy.start()
            undo.callback(proxy.stop)
            spread = f"{proxy._server.process}/{everybody(topic)}"
            addresses += [f"{spread}/x".encode(), spread.encode()]
            through = rpc.transport(redis.url(use_router_proxy=True))
            client = rpc.client(through, timeout=_SOON)
        context = undo.enter_context(zmq.Context())
        stranger = undo.enter_context(context.socket(zmq.DEALER))
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(endpoint)
        yield _Target(stranger, client, server, proxy, addresses)


@settings(max_examples=settings.default.max_examples // 4)
@given(st.data())
def test_strangers_leave_nothing_behind(target: _Target, data: st.DataObject) -> None:
    """And others go on calling."""
    with _without_complaints():
        target.hear(data.draw(st.lists(_messages(target.addresses), max_size=20)))
        assert target.client.call({}, "name") == "one"
        until(target.keeps_nothing, "nothing is kept", _SOON)


# -- what servers answer -------------------------------------------------------


class _Rogue(contextlib.ExitStack):
    """A server that answers a call as it likes, and every later one in order."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        context = self.enter_context(zmq.Context())
        self._socket = self.enter_context(context.socket(zmq.ROUTER))
        self._socket.setsockopt(zmq.LINGER, 0)
        port = self._socket.bind_to_random_port(f"tcp://{HOST}")
        file = directory / "servers"
        file.write_text(f"openstack topic rogue {HOST}:{port}\n")
        self.url = f"zmq+static:///?zmq_static_file={file}&restart_timeout=0"

    def answer(self, answers: list[tuple[bytes, int, bytes]], caller: Any) -> None:
        """Answer until a caller has had enough."""
        while not caller.done():
            if not self._socket.poll(10):
                continue
            routing_id, *parts = self._socket.recv_multipart()
            id = wire.read_request(parts[-1]).id
            said = [wire.answer(kind, id + off, body) for kind, off, body in answers]
            for each in (*said, wire.answer(wire.REPLY, id, b'{"response": "late"}')):
                self._socket.send_multipart([routing_id, each])
            answers = []


@pytest.fixture(scope="module")
def rogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Rogue]:
    with _Rogue(tmp_path_factory.mktemp("rogue")) as made:
        yield made


@settings(max_examples=settings.default.max_examples // 4)
@given(st.lists(st.tuples(_KINDS, st.sampled_from([0, 0, 0, 1]), _BODIES), max_size=6))
@example([(wire.REFUSED, 0, b"\xff\x1b[2J" * 10_000)])
@example([(wire.REPLY, 0, b'{"failure": "{\\"class\\": 5}"}')])
def test_callers_get_an_answer_or_an_error(
    rogue: _Rogue, answers: list[tuple[bytes, int, bytes]]
) -> None:
    with _without_complaints(), Rpc(rogue.url) as rpc, ThreadPoolExecutor(1) as pool:
        client = rpc.client(topic="topic", timeout=_SOON)
        caller = pool.submit(client.call, {}, "name")
        rogue.answer(answers, caller)
        try:
            caller.result()
        except (oslo_messaging.MessagingException, oslo_messaging.RemoteError) as error:
            text = str(error)
            assert len(text) < 5000 or isinstance(error, oslo_messaging.RemoteError)
