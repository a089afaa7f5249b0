# SPDX-License-Identifier: Apache-2.0
"""Messages that hypothesis makes up, to the reader of messages and back."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable
from typing import Any

import proton
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oslo_messaging.rpc.client import RemoteError
from tests import work
from tests.fuzz import strategies_amqp as amqp

from hybrid_messaging.drivers import bodies
from hybrid_messaging.protocol import codec, values
from hybrid_messaging.router import requests

READERS = [codec.decode, codec.peek_to, codec.peek_ttl, requests.read]
IDENTIFIERS = st.one_of(
    st.none(),
    st.text(max_size=300),
    st.integers(0, 2**64 - 1),
    st.uuids(),
    st.binary(max_size=300),
)
TEXTS = st.none() | st.text(max_size=300)
#: Lines of Python that reading any message takes at most.
MOST_LINES = 3000


def _attempt(read: Callable[[bytes], Any], data: bytes) -> None:
    with contextlib.suppress(codec.MalformedMessage):
        read(data)


@pytest.mark.parametrize("read", READERS)
@given(data=amqp.messages() | st.binary(max_size=60))
def test_whatever_arrives_is_read_or_malformed(
    read: Callable[[bytes], Any], data: bytes
) -> None:
    """No other exception, and no more work than the fields that are needed take."""
    assert work.lines(_attempt, read, data) < MOST_LINES


@given(amqp.messages())
def test_what_is_read_has_the_types_that_are_promised(data: bytes) -> None:
    try:
        message = codec.decode(data)
    except codec.MalformedMessage:
        return
    assert message.body is None or isinstance(message.body, (str, bytes))
    for text in (message.to, message.reply_to):
        assert text is None or isinstance(text, str)
    for identifier in (message.id, message.correlation_id):
        assert identifier is None or isinstance(
            identifier, (str, bytes, int, uuid.UUID)
        )
        hash(identifier)
    assert message.ttl is None or 0 <= message.ttl < 2**32
    assert all(isinstance(mark, str) for mark in message.marks)
    codec.peek_to(data)  # what a service reads, a router has read


@given(amqp.messages())
def test_what_a_question_says_has_the_types_that_are_promised(data: bytes) -> None:
    try:
        request = requests.read(data)
    except codec.MalformedMessage:
        return
    assert all(isinstance(value, (str, int)) for value in request.asked.values())
    assert all(isinstance(name, str) for name in request.names)
    assert request.reply_to is None or isinstance(request.reply_to, str)


@given(amqp.values)
def test_the_end_of_a_value_is_where_it_ends(value: bytes) -> None:
    """Nothing of it is read but its constructor and its size."""
    try:
        end = values.end_of(value + b"\xff" * 3, 0)
    except values.MalformedMessage:
        assert value.startswith(b"\x00")  # described twice
    else:
        assert end == len(value) or value.startswith(b"\x00")


@given(
    st.none() | st.text(),
    TEXTS,
    TEXTS,
    IDENTIFIERS,
    IDENTIFIERS,
    st.none() | st.floats(0, 10**9),
    st.sets(st.text("abcxyz-", min_size=1, max_size=40), max_size=5),
)
def test_what_is_written_is_read(
    body: str | None,
    to: str | None,
    reply_to: str | None,
    id: Any,
    correlation_id: Any,
    ttl: float | None,
    marks: set[str],
) -> None:
    data = codec.encode(
        body,
        to=to,
        id=id,
        reply_to=reply_to,
        correlation_id=correlation_id,
        ttl=ttl,
        marks=codec.mark(sorted(marks)),
    )
    message = codec.decode(data)
    assert (message.body, message.to, message.reply_to) == (body, to, reply_to)
    assert (message.id, message.correlation_id) == (id, correlation_id)
    assert message.marks == marks
    assert codec.peek_to(data) == to
    lasting = codec.peek_ttl(data)
    assert lasting == (None if message.ttl is None else message.ttl / 1000)
    assert (lasting is None) == (ttl is None)


#: qpid-proton takes addresses as C strings
ADDRESSES = st.none() | st.text(st.characters(codec="utf-8", min_codepoint=1))


@given(
    st.none() | st.text() | st.binary(),
    ADDRESSES,
    ADDRESSES,
    IDENTIFIERS,
    st.dictionaries(st.text(max_size=5), st.integers(0, 9) | st.text(max_size=9)),
)
def test_what_qpid_proton_writes_is_read(
    body: Any, to: str | None, reply_to: str | None, id: Any, properties: dict[str, Any]
) -> None:
    written = proton.Message(
        body=body, address=to, reply_to=reply_to, id=id, properties=properties or None
    )
    data = bytes(written.encode())
    message = codec.decode(data)
    assert (message.body, message.to, message.reply_to) == (body, to, reply_to)
    assert message.id == id
    assert codec.peek_to(data) == to
    assert requests.read(data).asked == properties


# -- what a body says --------------------------------------------------------------

KEYS = ["request", "context", "failure", "response", "call_monitor_timeout"]
KEYS += ["class", "module", "message", "args", "kwargs", "tb"]
KEYS += ["oslo.version", "oslo.message", "method"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=6),
    ),
    max_leaves=12,
)


@given(JSON | JSON.map(json.dumps) | st.binary(max_size=30) | st.text(max_size=20))
def test_any_body_is_a_request_or_malformed(body: Any) -> None:
    with contextlib.suppress(bodies.MalformedBody):
        request = bodies.read_request(body)
        assert isinstance(request.message, dict)
        assert isinstance(request.context, dict)


@given(
    st.one_of(
        JSON.map(json.dumps),
        JSON.map(lambda made: json.dumps({"failure": json.dumps(made)})),
        st.binary(max_size=30),
    )
)
def test_any_body_is_a_reply_a_remote_exception_or_malformed(body: Any) -> None:
    with contextlib.suppress(bodies.MalformedBody, RemoteError):
        bodies.read_reply(body, [])
