# SPDX-License-Identifier: Apache-2.0
"""The frames of the `zmq` driver."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_messaging.drivers.zmq import wire

IDS = st.integers(0, 2**64 - 1)


@given(
    st.sampled_from([wire.CALL, wire.CAST, wire.FANOUT, wire.WITHDRAW]),
    IDS,
    st.binary(),
    st.binary(),
    st.integers(0, wire.NO_TTL),
)
def test_requests_are_read_as_written(
    kind: bytes, id: int, address: bytes, body: bytes, ttl: int
) -> None:
    frame = wire.request(kind, id, address, body, ttl)
    assert wire.read_request(frame) == (kind, id, ttl, address, body)


@pytest.mark.parametrize(
    ("seconds", "ttl"),
    [(-1, 0), (0, 0), (1.5, 1500), (1e9, wire.NO_TTL), (math.inf, wire.NO_TTL)],
)
def test_times_fit_into_a_frame(seconds: float, ttl: int) -> None:
    assert wire.ttl(seconds) == ttl


@given(
    st.sampled_from([wire.TAKEN, wire.REPLY, wire.NOBODY, wire.ROOM]), IDS, st.binary()
)
def test_answers_are_read_as_written(kind: bytes, id: int, body: bytes) -> None:
    assert wire.read_answer(wire.answer(kind, id, body)) == (kind, id, body)


@given(st.binary())
def test_anything_else_is_malformed(frame: bytes) -> None:
    frame = b"\x00" + frame
    for read in (wire.read_request, wire.read_answer):
        with pytest.raises(wire.MalformedFrame):
            read(frame)


@pytest.mark.parametrize("length", range(len(wire.request(wire.CALL, 1, b"a", b""))))
def test_cut_requests_are_malformed(length: int) -> None:
    with pytest.raises(wire.MalformedFrame):
        wire.read_request(wire.request(wire.CALL, 1, b"a", b"")[:length])


def test_answers_are_no_requests() -> None:
    with pytest.raises(wire.MalformedFrame):
        wire.read_request(wire.answer(wire.REPLY, 1, b"{}" * 10))
    with pytest.raises(wire.MalformedFrame):
        wire.read_answer(wire.request(wire.CALL, 1, b"address", b"{}"))
