# SPDX-License-Identifier: Apache-2.0
"""JSON files of our own: read within bounds, and compared with the shape they have.

Anybody may have changed such a file, or a full disk. A shape is built from the
functions of this module, as the file is from values. It returns the value as the
program uses it: objects become records, lists become tuples. What does not fit is a
`Damage` with its place. No message repeats what a file says.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

Shape = Callable[[Any], Any]
"""Returns a value as it is used; raises `Damage` if it does not have this shape."""

_ANY = re.compile("")
# what a terminal would obey, and what cannot be written as UTF-8
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN_KEY = 40


class Damage(ValueError):
    """A value is not what it should be.

    :param problem: what is wrong with it, as ``is no number``
    :param place: where it is, as ``engines[0].pid``; '' for the whole file
    """

    def __init__(self, problem: str, place: str = "") -> None:
        super().__init__(f"{place or 'it'} {problem}")
        self.problem = problem
        self.place = place

    def within(self, step: str) -> Damage:
        """The same, seen from the collection that has the value at `step`."""
        joint = "" if not self.place or self.place.startswith("[") else "."
        return Damage(self.problem, f"{step}{joint}{self.place}")


def read(path: Path, largest: int, private: bool = False) -> Any:
    """Read a JSON file.

    :param largest: bytes that it may have
    :param private: it has to be ours, and no symbolic link
    :raises Damage: it is no regular file, too large, not ours, or no JSON
    :raises OSError: it cannot be read
    """
    # without O_NONBLOCK, opening a FIFO would wait for its writer
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    if private and path.is_symlink():
        raise Damage("is a symbolic link")
    handle = os.open(path, flags | (os.O_NOFOLLOW if private else 0))
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise Damage("is not a file")
        if private and status.st_uid != os.geteuid():
            raise Damage("belongs to another user")
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(largest + 1)
    finally:
        os.close(handle)
    if len(data) > largest:
        raise Damage(f"is larger than {largest >> 20} MB")
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        line = f" from line {error.lineno} on" if hasattr(error, "lineno") else ""
        raise Damage(f"is not valid JSON{line}") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")


# -- shapes --------------------------------------------------------------------


def text(pattern: re.Pattern[str] = _ANY, wanted: str = "string") -> Shape:
    """A string without control characters that matches a pattern from its start."""

    def read_text(value: Any) -> str:
        if not isinstance(value, str):
            raise Damage(f"is not a valid {wanted}")
        if _CONTROL.search(value):
            raise Damage("has control characters")
        if not pattern.match(value):
            raise Damage(f"is not a valid {wanted}")
        return value

    return read_text


def words(value: Any) -> str:
    """A string that can be written as UTF-8, of any number of lines."""
    if not isinstance(value, str):
        raise Damage("is not a string")
    if _SURROGATE.search(value):
        raise Damage("has characters that are not valid Unicode")
    return value


def one_of(known: Container[str], wanted: str) -> Shape:
    """One of several strings."""

    def read_one(value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise Damage(f"is not a valid {wanted}")
        return value

    return read_one


def number(lowest: float = -math.inf, highest: float = math.inf) -> Shape:
    """A finite number."""

    def read_number(value: Any) -> int | float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise Damage("is not a number")
        # one with hundreds of digits is no float either
        if not lowest <= value <= highest or abs(value) > _LARGEST_NUMBER:
            raise Damage("is out of range")
        return value

    return read_number


def whole(lowest: int = 0, highest: int = 2**63) -> Shape:
    """A whole number, by default one that counts something."""
    within = number(lowest, highest)

    def read_whole(value: Any) -> int:
        if not isinstance(value, int):
            raise Damage("is not a whole number")
        within(value)
        return value

    return read_whole


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Damage("is neither true nor false")
    return value


def maybe(shape: Shape) -> Shape:
    """The same, or null."""
    return lambda value: None if value is None else shape(value)


def items(shape: Shape) -> Shape:
    """A list whose items have a shape."""

    def read_items(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Damage("is not a list")
        return tuple(
            inside(f"[{index}]", shape, item) for index, item in enumerate(value)
        )

    return read_items


def row(*shapes: Shape, make: Callable[..., Any] = lambda *values: values) -> Shape:
    """A list with as many items as shapes.

    :param make: takes the items; a tuple of them unless told otherwise
    """

    def read_row(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(shapes):
            raise Damage(f"is not a list of {len(shapes)}")
        return make(
            *(
                inside(f"[{index}]", shape, item)
                for index, (shape, item) in enumerate(zip(shapes, value, strict=True))
            )
        )

    return read_row


def mapping(shape: Shape, key: Shape | None = None) -> Shape:
    """An object with any keys, whose values have a shape."""
    key = key or words

    def read_mapping(value: Any) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise Damage("is not an object")
        return {
            inside(step, key, name): inside(step, shape, item)
            for name, item in value.items()
            for step in [_step(name)]
        }

    return read_mapping


def record(fields: Mapping[str, Shape], make: Callable[..., Any] = dict) -> Shape:
    """An object with certain keys, and no others.

    :param make: takes the values by their names, as a dataclass does
    """

    def read_record(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Damage("is not an object")
        for name in fields:
            if name not in value:
                raise Damage("is missing", name)
        for name in value:
            if name not in fields:
                raise Damage("is unknown", _step(name))
        return make(**{n: inside(n, fields[n], item) for n, item in value.items()})

    return read_record


def inside(step: str, shape: Shape, value: Any) -> Any:
    """Read what a collection has at `step`."""
    try:
        return shape(value)
    except Damage as damage:
        raise damage.within(step) from None


def _step(key: str) -> str:
    return f"[{ascii(key)[:_SHOWN_KEY]}]"


#: A double holds integers exactly until here; larger ones only come of damage.
_LARGEST_NUMBER = 2.0**63
