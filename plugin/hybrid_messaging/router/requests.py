# SPDX-License-Identifier: Apache-2.0
"""Requests of AMQP management, read from a peer's bytes.

What is asked for stands in the application properties; the body of a QUERY names the
attributes (AMQP Management 1.0, OASIS working draft 11, section 3).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hybrid_messaging.protocol import codec, values

#: Application properties, or entries of a body, that a request may have.
MAX_ENTRIES = 64
#: Attributes that a QUERY may name.
MAX_NAMES = 256


class Request(NamedTuple):
    """What a request asks for.

    :param reply_to: where the answer goes
    :param correlation_id: of the answer
    :param asked: the application properties that are a text or an integer
    :param names: the attributes to return; none: all
    """

    reply_to: str | None
    correlation_id: Any
    asked: dict[str, str | int]
    names: list[str]


def read(data: bytes) -> Request:
    """Read a request.

    :param data: an encoded message; a body that is no map says nothing
    :raises MalformedMessage: no bytes raise anything else
    """
    try:
        return _read(data)
    except values.ERRORS as error:
        raise codec.MalformedMessage(str(error)) from error


def _read(data: bytes) -> Request:
    reply_to = id = correlation_id = None
    asked: dict[str, str | int] = {}
    names: list[str] = []
    for code, at, end in codec.sections(data):
        if code == codec.PROPERTIES:
            id, _, _, _, reply_to, correlation_id = values.fields(
                data, at, end, codec.TO_CORRELATION_ID, codec.PROPERTIES_FIELDS
            )
        elif code == codec.APPLICATION_PROPERTIES:
            for key, value in values.entries(data, at, end, MAX_ENTRIES):
                if key is not None and (reader := _READERS.get(data[value])):
                    asked[key] = reader(data, value)[0]
        elif code == codec.VALUE and data[at] in values.MAPS:
            for key, value in values.entries(data, at, end, MAX_ENTRIES):
                if key == "attributeNames" and data[value] in values.LISTS:
                    names = values.texts(
                        data, value, values.end_of(data, value), MAX_NAMES
                    )
    return Request(
        reply_to, id if correlation_id is None else correlation_id, asked, names
    )


_READERS: dict[int, values.Reader] = {
    **dict.fromkeys(values.STRINGS, values.text),
    **dict.fromkeys(values.INTEGERS, values.number),
}
