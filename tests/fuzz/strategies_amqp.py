# SPDX-License-Identifier: Apache-2.0
"""AMQP 1.0 as hypothesis makes it up: values, messages and frames, nearly right.

All are bytes, so that anything may stand anywhere: what is well-formed, what lies about
its size or count, text that is no UTF-8, and nesting without end. Source: AMQP 1.0,
part 1 for types, part 2 for frames, part 3 for messages.
"""

from __future__ import annotations

import struct

from hypothesis import strategies as st

Bytes = st.SearchStrategy[bytes]

NULL = b"\x40"
#: Performatives, by their descriptors.
OPEN, BEGIN, ATTACH, FLOW, TRANSFER = 0x10, 0x11, 0x12, 0x13, 0x14
DISPOSITION, DETACH, END, CLOSE = 0x15, 0x16, 0x17, 0x18
HEADER = b"AMQP\x00\x01\x00\x00"

# -- values ------------------------------------------------------------------------


def uint(number: int) -> bytes:
    return b"\x70" + struct.pack(">I", number)


def string(text: str) -> bytes:
    return _sized(0xB1, text.encode())


def symbol(text: str) -> bytes:
    return _sized(0xB3, text.encode())


def described(code: int, value: bytes) -> bytes:
    return bytes((0x00, 0x53, code)) + value


def list_of(*fields: bytes) -> bytes:
    return _compound(0xD0, len(fields), b"".join(fields))


def map_of(*members: bytes) -> bytes:
    return _compound(0xD1, len(members), b"".join(members))


def _sized(code: int, data: bytes) -> bytes:
    return bytes((code,)) + struct.pack(">I", len(data)) + data


def _compound(code: int, count: int, data: bytes) -> bytes:
    return bytes((code,)) + struct.pack(">II", len(data) + 4, count) + data


def _short(code: int, count: int, data: bytes) -> bytes:
    return bytes((code, (len(data) + 1) & 0xFF, count & 0xFF)) + data


_WIDTHS = {4: 0, 5: 1, 6: 2, 7: 4, 8: 8, 9: 16}
_fixed = st.sampled_from(
    bytes.fromhex("404142434445 50515253545556 6061 7071727374 8081828384 9498")
).flatmap(
    lambda code: st.binary(
        min_size=_WIDTHS[code >> 4], max_size=_WIDTHS[code >> 4]
    ).map(lambda data: bytes((code,)) + data)
)
_texts = st.text(max_size=12).map(str.encode)
_plain = st.one_of(
    _fixed,
    st.tuples(st.sampled_from([0xA1, 0xA3, 0xA0]), _texts).map(
        lambda made: bytes((made[0], len(made[1]))) + made[1]
    ),
    st.tuples(st.sampled_from([0xB1, 0xB3, 0xB0]), _texts).map(
        lambda made: _sized(*made)
    ),
)


def _collections(members: Bytes) -> Bytes:
    some = st.lists(members, max_size=4)
    return st.one_of(
        some.map(lambda made: list_of(*made)),
        some.map(lambda made: _short(0xC0, len(made), b"".join(made))),
        some.map(lambda made: map_of(*made[: len(made) // 2 * 2])),
        some.map(lambda made: _short(0xC1, len(made), b"".join(made))),
        st.tuples(st.integers(0, 20), st.sampled_from([0x40, 0x45, 0x50])).map(
            lambda made: _compound(
                0xF0, made[0], bytes((made[1],)) + bytes(made[0] * (made[1] == 0x50))
            )
        ),
        st.tuples(members, members).map(lambda made: b"\x00" + made[0] + made[1]),
    )


#: values that are what they say
values: Bytes = st.recursive(_plain, _collections, max_leaves=8)


@st.composite
def _lies(draw: st.DrawFn) -> bytes:
    """A value with a size, a count or a type that is not its own."""
    value = bytearray(draw(values))
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, min(9, len(value) - 1)))
        value[at] = draw(
            st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)
        )
    return bytes(value)


def _nested(made: tuple[int, bytes]) -> bytes:
    depth, value = made
    for _ in range(depth):
        value = list_of(value)
    return value


#: values that say little and claim much
monsters: Bytes = st.one_of(
    st.tuples(st.integers(1, 2**32 - 1), st.sampled_from([0x40, 0x43, 0x45])).map(
        lambda made: _compound(0xF0, made[0], bytes((made[1],)))
    ),
    st.tuples(st.sampled_from([0xD0, 0xD1]), st.sampled_from([0x40, 0x45])).map(
        lambda made: _compound(made[0], 5000, bytes((made[1],)) * 5000)
    ),
    st.tuples(st.integers(1, 1000), values).map(_nested),
    st.integers(1, 2000).map(lambda depth: b"\x00\x53\x01" * depth + NULL),
    st.integers(1, 2000).map(lambda depth: b"\x00" * depth + NULL * (depth + 1)),
    st.sampled_from(
        [b"\xa1\x02\xff\xfe", b"\xa3\x02\xff\xfe", b"\xb1\xff\xff\xff\xff"]
    ),
    st.sampled_from([b"\x73\xff\xff\xff\xff", b"\x94" + b"\xff" * 16]),
)

anything: Bytes = st.one_of(values, _lies(), monsters, st.binary(max_size=12))

# -- messages ----------------------------------------------------------------------

_texts_or_null = st.text(max_size=20).map(string) | st.just(NULL)
_identifiers = st.one_of(
    _texts_or_null,
    st.binary(max_size=8).map(lambda data: _sized(0xB0, data)),
    st.integers(0, 2**64 - 1).map(lambda number: b"\x80" + struct.pack(">Q", number)),
    st.binary(min_size=16, max_size=16).map(lambda data: b"\x98" + data),
)
_keys = st.sampled_from(
    ["x-opt-a", "operation", "entityType", "attributeNames", "count"]
)
_entries = st.lists(
    st.tuples(_keys.map(symbol) | _keys.map(string) | anything, anything), max_size=6
).map(lambda made: map_of(*(part for entry in made for part in entry)))

#: what each section should have, by its descriptor
_SECTIONS: dict[int, Bytes] = {
    0x70: st.tuples(
        st.sampled_from([b"\x41", b"\x42", NULL]),
        st.just(NULL),
        st.integers(0, 2**32 - 1).map(uint) | st.just(NULL),
    ).map(lambda made: list_of(*made)),
    0x71: _entries,
    0x72: _entries,
    0x73: st.tuples(
        _identifiers,
        anything,
        _texts_or_null,
        anything,
        _texts_or_null,
        _identifiers,
    ).map(lambda made: list_of(*made)),
    0x74: _entries,
    0x75: st.binary(max_size=20).map(lambda data: _sized(0xB0, data)),
    0x76: st.lists(values, max_size=3).map(lambda made: list_of(*made)),
    0x77: st.one_of(st.text(max_size=20).map(string), _entries, values),
    0x78: _entries,
}


@st.composite
def sections(draw: st.DrawFn) -> bytes:
    """A section, in most cases of the type that it should have."""
    code = draw(st.sampled_from(sorted(_SECTIONS)))
    value = draw(st.one_of(_SECTIONS[code], _SECTIONS[code], anything))
    if draw(st.booleans()):
        return described(code, value)
    return b"\x00\x80" + struct.pack(">Q", code) + value


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Sections in any order, a byte of them changed now and then, or cut off."""
    data = bytearray(b"".join(draw(st.lists(sections(), max_size=7))))
    if data and draw(st.integers(0, 2)) == 0:
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(st.integers(0, 4)) == 0:
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


# -- frames ------------------------------------------------------------------------

_flags = st.sampled_from([b"\x41", b"\x42", NULL])
_small = st.integers(0, 3).map(uint)
_numbers = _small | st.sampled_from([2**31 - 1, 2**31, 2**32 - 1]).map(uint)
_names = st.sampled_from(["a", "b", "temp.x", ""]).map(string)
_errors = st.just(NULL) | st.tuples(_names, anything).map(
    lambda made: described(0x1D, list_of(symbol("amqp:x"), *made))
)
_states = st.one_of(
    st.just(NULL),
    st.sampled_from([0x23, 0x24, 0x25, 0x26, 0x27]).map(
        lambda code: described(code, list_of())
    ),
    _errors.map(lambda error: described(0x25, list_of(error))),
    anything,
)


def _terminus(code: int) -> Bytes:
    """A source (0x28) or a target (0x29)."""
    return st.tuples(_names | st.just(NULL), _flags, anything).map(
        lambda made: described(
            code, list_of(made[0], NULL, NULL, NULL, made[1], NULL, NULL, made[2])
        )
    )


_null = st.just(NULL)
#: what the fields of each performative should have, by its descriptor
_PERFORMATIVES: dict[int, tuple[Bytes, ...]] = {
    OPEN: (
        _names,
        _null,
        st.sampled_from([512, 32768, 2**32 - 1]).map(uint),
        st.sampled_from([b"\x60\x00\x01", b"\x60\xff\xff"]),
        st.just(uint(0)),
        *(_null, _null, _null, _null),
        _entries | _null,
    ),
    BEGIN: (_null, _small, _numbers, _numbers, _numbers),
    ATTACH: (
        _names,
        _small,
        _flags,
        *(_null, _null),
        _terminus(0x28),
        _terminus(0x29),
        _null | _entries,
        _flags,
        _small,
        *(_null, _null, _null),
        _entries | _null,
    ),
    FLOW: (
        *(_numbers, _numbers, _numbers, _numbers),
        _small | _null,
        *(_numbers, _numbers, _numbers),
        *(_flags, _flags),
    ),
    TRANSFER: (
        *(_small, _small),
        st.binary(max_size=4).map(lambda data: bytes((0xA0, len(data))) + data),
        _small,
        *(_flags, _flags),
        _null,
        _states,
        *(_flags, _flags),
    ),
    DISPOSITION: (_flags, _numbers, _numbers, _flags, _states),
    DETACH: (_small, _flags, _errors),
    END: (_errors,),
    CLOSE: (_errors,),
}


@st.composite
def frames(draw: st.DrawFn, kinds: tuple[int, ...] = tuple(_PERFORMATIVES)) -> bytes:
    """A frame, in most cases with the fields and the size that it should have."""
    code = draw(st.sampled_from(kinds))
    fields = [draw(field) for field in _PERFORMATIVES[code]]
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        fields[draw(st.integers(0, len(fields) - 1))] = draw(anything)
    body = described(code, list_of(*fields))
    if draw(st.integers(0, 7)) == 0:
        body = draw(anything)
    if code == TRANSFER:
        body += draw(messages() | st.binary(max_size=20))
    size, channel = len(body) + 8, 0 if code in (OPEN, CLOSE) else draw(_CHANNELS)
    if draw(st.integers(0, 15)) == 0:
        size = draw(st.integers(0, 2**32 - 1))
    offset = draw(st.sampled_from([2] * 15 + [0, 1, 3, 255]))
    kind = draw(st.sampled_from([0] * 15 + [1, 2]))
    return struct.pack(">IBBH", size, offset, kind, channel) + body


_CHANNELS = st.sampled_from([0] * 8 + [1, 2, 65535])


def frame(code: int, *fields: bytes, payload: bytes = b"") -> bytes:
    """A frame on channel 0 that is as it should be."""
    body = described(code, list_of(*fields)) + payload
    return struct.pack(">IBBH", len(body) + 8, 2, 0, 0) + body


def transfer(
    number: int, part: bytes, *, settled: bool, more: bool, aborted: bool
) -> bytes:
    """A part of a message, or all of it, on the link of handle 0."""
    flag = {False: b"\x42", True: b"\x41"}
    tag = b"\xa0\x01" + bytes((number,))
    fields = (uint(0), uint(number), tag, uint(0), flag[settled], flag[more])
    rest = (NULL, NULL, NULL, flag[aborted])
    return frame(TRANSFER, *fields, *rest, payload=part)


def _attach(handle: int, receives: bool) -> bytes:
    role = b"\x41" if receives else b"\x42"
    start = (string(f"l{handle}"), uint(handle), role, NULL, NULL)
    ends = [described(code, list_of(string("a"))) for code in (0x28, 0x29)]
    return frame(ATTACH, *start, *ends, NULL, NULL, uint(0))


#: a conversation that is as it should be, step by step
STEPS = (
    HEADER + frame(OPEN, string("peer")),
    frame(BEGIN, NULL, uint(0), uint(1000), uint(1000)),
    _attach(0, receives=False),
    _attach(1, receives=True),
    frame(FLOW, uint(0), uint(1000), uint(0), uint(1000), uint(1), uint(0), uint(10)),
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """What a peer says: the usual, each step answered, and then anything at once."""
    usual = STEPS[: draw(st.integers(0, len(STEPS)))]
    return list(usual), b"".join(draw(st.lists(frames(), max_size=5)))
