# SPDX-License-Identifier: Apache-2.0
"""An oslo.config file that can be edited without touching any other byte of it.

The grammar is that of oslo.config's `iniparser.BaseParser` and
`cfg.ConfigParser`: lines that start with white space continue a value, blank
lines and comments end it, a section may be opened any number of times, the
last of several assignments wins for single-valued options, section names are
compared without case except for DEFAULT, option names with it.
"""

from __future__ import annotations

import codecs
import io
import os
import re
from dataclasses import dataclass, field

from hybrid_messaging.service_configs.errors import ServiceConfigError

_TERMINATOR = re.compile(r"(?:\r\n|\r|\n)?\Z")


@dataclass
class Option:
    """One assignment: lines `start` to `end` (exclusive), counted from 0."""

    section: str
    key: str
    start: int
    end: int
    parts: list[str]

    @property
    def value(self) -> str:
        """The value as oslo.config reads it, before it replaces `$` references."""
        return "\n".join(self.parts)


@dataclass
class _Section:
    """One block of a section: its header's line, and those of its comments."""

    name: str
    start: int
    comments: list[int] = field(default_factory=list)


class Document:
    """The text of one configuration file and what it says.

    :param data: the content of the file
    :param path: its name, for messages
    :raises ServiceConfigError: the file is binary, or oslo.config could not
        parse it
    """

    def __init__(self, data: bytes, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if b"\0" in data:
            line = data.count(b"\n", 0, data.index(b"\0")) + 1
            raise ServiceConfigError(
                path, "not a text file (it contains zero bytes); nothing changed", line
            )
        self.has_bom = data.startswith(codecs.BOM_UTF8)
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
        # only \n, \r\n and \r end a line for open() and thus for oslo.config
        self._lines = io.StringIO(text, newline="").readlines()
        # where each line stood at first; None for one that was not there
        self._length = len(self._lines)
        self._origins: list[int | None] = [*range(self._length)]
        self._parse()

    def dump(self) -> bytes:
        """The content, ready to be written."""
        data = "".join(self._lines).encode("utf-8", "surrogateescape")
        return codecs.BOM_UTF8 + data if self.has_bom else data

    @property
    def lines(self) -> list[str]:
        """The lines as they are now, without what ends them."""
        return [line.rstrip("\r\n") for line in self._lines]

    def opcodes(self) -> list[tuple[str, int, int, int, int]]:
        """How these lines came of those that were read, as difflib tells it."""
        found: list[tuple[str, int, int, int, int]] = []
        former = 0
        # one more line, so that what is gone at the end counts
        origins = [*self._origins, self._length]
        start = 0
        for place, origin in enumerate(origins):
            if origin is None:
                continue
            if origin > former or place > start:
                tag = _TAGS[origin > former, place > start]
                found.append((tag, former, origin, start, place))
            if place < len(self._lines):
                if found and found[-1][0] == "equal" and found[-1][4] == place:
                    _, first, _, begin, _ = found.pop()
                else:
                    first, begin = origin, place
                found.append(("equal", first, origin + 1, begin, place + 1))
            former, start = origin + 1, place + 1
        return found

    @property
    def first_line_not_utf8(self) -> int | None:
        """The line, counted from 1, that a service in a UTF-8 locale stops at."""
        for number, line in enumerate(self._lines, 1):
            if any("\udc80" <= char <= "\udcff" for char in line):
                return number
        return None

    # -- reading ---------------------------------------------------------

    @property
    def options(self) -> tuple[Option, ...]:
        """Every assignment of the file, in its order."""
        return tuple(self._options)

    def find(self, section: str, key: str) -> list[Option]:
        """All assignments of an option, in the order of the file."""
        return list(self._found.get((_canonical(section), key), ()))

    def values(self, section: str, key: str) -> list[str]:
        """All values of an option, in the order of the file."""
        return [option.value for option in self.find(section, key)]

    def value(self, section: str, key: str) -> str | None:
        """The value that counts for a single-valued option: the last one."""
        values = self.values(section, key)
        return values[-1] if values else None

    # -- editing ---------------------------------------------------------

    def set(self, section: str, key: str, value: str) -> None:
        """Give an option a value, in place of its last one if it has one.

        :param value: what is to stand in the file, `$` already escaped
        """
        if value != value.strip() or _unquote(value) != value or "\n" in value:
            raise ValueError(f"{key} cannot be written on a single line")
        found = self.find(section, key)
        if not found:
            self._insert(section, key, value)
        elif found[-1].value != value:
            self._replace(found[-1], value)
        else:
            return
        self._parse()

    def _replace(self, option: Option, value: str) -> None:
        first = self._lines[option.start]
        separator = _separator(first)
        head = first[: separator + 1]
        rest = first[separator + 1 :]
        gap = rest[: len(rest) - len(rest.lstrip(" \t"))]
        if not gap and not rest.strip() and first[separator - 1].isspace():
            gap = " "
        end = _terminator(self._lines[option.end - 1])
        self._put(option.start, option.end, [f"{head}{gap}{value}{end}"])

    def _insert(self, section: str, key: str, value: str) -> None:
        added = [f"{key} = {value}"]
        name = _canonical(section)
        blocks = [b for b in self._sections if _canonical(b.name) == name]
        if blocks:
            position = self._place(blocks, key)
        else:
            position = len(self._lines)
            added.insert(0, f"[{section}]")
            if self._lines and self._lines[-1].strip():
                added.insert(0, "")
        newline = _terminator(self._lines[0]) if self._lines else ""
        newline = newline or "\n"
        lines = [line + newline for line in added]
        if position == len(self._lines) and self._lines:
            last = self._lines[-1]
            if not _terminator(last):
                # the file goes on ending without a newline
                self._lines[-1] = last + newline
                lines[-1] = added[-1]
        self._put(position, position, lines)

    def _put(self, start: int, end: int, lines: list[str]) -> None:
        self._lines[start:end] = lines
        self._origins[start:end] = [None] * len(lines)

    def _place(self, blocks: list[_Section], key: str) -> int:
        """Where a new option goes in a section.

        After its commented-out default, else after the last option: comments at
        the end of a section often belong to the next one.
        """
        sample = re.compile(rf"[#;]\s*{re.escape(key)}\s*[=:]")
        for block in blocks:
            for number in reversed(block.comments):
                if sample.match(self._lines[number]):
                    return number + 1
        name = _canonical(blocks[0].name)
        ends = [
            option.end for option in self._options if _canonical(option.section) == name
        ]
        return ends[-1] if ends else blocks[0].start + 1

    # -- parsing ---------------------------------------------------------

    def _parse(self) -> None:
        self._options: list[Option] = []
        self._found: dict[tuple[str, str], list[Option]] = {}
        self._sections: list[_Section] = []
        current: Option | None = None
        for number, raw in enumerate(self._lines):
            line = raw.rstrip()
            if line.startswith((" ", "\t")):
                if current is None:
                    raise self._malformed(
                        number, "this line continues an option, but none precedes it"
                    )
                current.parts.append(line.lstrip())
                current.end = number + 1
                continue
            current = None
            if not line:
                continue
            if line.startswith("["):
                self._open_section(number, line)
            elif line.startswith(("#", ";")):
                if self._sections:
                    self._sections[-1].comments.append(number)
            else:
                current = self._option(number, line)

    def _open_section(self, number: int, line: str) -> None:
        if not line.endswith("]"):
            raise self._malformed(
                number, "a section must end with `]`, with nothing after it"
            )
        if len(line) <= 2:
            raise self._malformed(number, "this section has no name")
        self._sections.append(_Section(line[1:-1], number))

    def _option(self, number: int, line: str) -> Option:
        separator = _separator(line)
        if separator < 0:
            raise self._malformed(
                number, "neither an option (`name = value`), a section nor a comment"
            )
        key = line[:separator].strip()
        if not key:
            raise self._malformed(number, "this value has no option name")
        if not self._sections:
            raise self._malformed(
                number, "this option precedes the first section, such as [DEFAULT]"
            )
        value = _unquote(line[separator + 1 :].strip())
        option = Option(self._sections[-1].name, key, number, number + 1, [value])
        self._options.append(option)
        self._found.setdefault((_canonical(option.section), key), []).append(option)
        return option

    def _malformed(self, number: int, reason: str) -> ServiceConfigError:
        # The line itself is not quoted: it may well hold a password.
        return ServiceConfigError(
            self.path, f"{reason}; correct it by hand", number + 1
        )


#: By whether former lines are gone, and whether there are new ones.
_TAGS = {(True, True): "replace", (True, False): "delete", (False, True): "insert"}


def _canonical(section: str) -> str:
    """The same for all ways to write a section's name."""
    return section if section == "DEFAULT" else section.lower()


def _separator(line: str) -> int:
    """The place of the `=` or `:` that comes first, -1 where there is none."""
    found = [place for place in (line.find("="), line.find(":")) if place >= 0]
    return min(found, default=-1)


def _terminator(line: str) -> str:
    match = _TERMINATOR.search(line)
    assert match is not None
    return match.group()


def _unquote(value: str) -> str:
    if value and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value
