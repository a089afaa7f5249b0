# SPDX-License-Identifier: Apache-2.0
"""Accounts for every message: sent, received, lost, duplicated, failed.

Producers number the messages of each kind from 0. Whoever has to do with a
message ticks its number off: a bit per message is all that has to be remembered,
and sent to the controller in the end. A ledger that is kept in files survives its
process, however that ends, and can be read at any time.
"""

from __future__ import annotations

import base64
import mmap
import threading
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

Encoded = Sequence[Sequence[Any]]
"""A ledger for a JSON document: producer, kind, ticks and packed bits of each page."""

Numbers = dict[str, int]
"""The numbers of each producer's messages, as the bits of an integer."""


class Ledger:
    """Which numbers of each (producer, kind) have been ticked off, and how often.

    :param directory: where to keep it in files; None keeps it in memory
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._pages: dict[tuple[str, str], _Page] = {}
        self._ticks: dict[tuple[str, str], int] = {}
        if directory is not None:
            directory.mkdir(parents=True)

    def tick(self, producer: str, kind: str, number: int) -> None:
        """Tick off one message."""
        key = (producer, kind)
        with self._lock:
            page = self._pages.get(key)
            if page is None:
                page = self._pages[key] = _Page(self._storage(*key))
            page.tick(number)
            self._ticks[key] = self._ticks.get(key, 0) + 1

    def _storage(self, producer: str, kind: str) -> bytearray | mmap.mmap:
        if self._directory is None:
            return bytearray(_PAGE)
        with (self._directory / f"{producer} {kind}").open("w+b") as file:
            file.truncate(_PAGE)
            return mmap.mmap(file.fileno(), _PAGE)

    def ticks(self) -> dict[str, int]:
        """How many ticks there are of each kind."""
        with self._lock:
            totals: dict[str, int] = {}
            for (_, kind), count in self._ticks.items():
                totals[kind] = totals.get(kind, 0) + count
            return totals

    def encode(self) -> list[list[Any]]:
        """The ledger for a JSON document."""
        with self._lock:
            return [
                _encode(producer, kind, page.content)
                for (producer, kind), page in self._pages.items()
            ]


#: By so many bytes a page grows.
_PAGE = 4096
#: So many bytes of a page say how often a number was ticked off that was so already.
_HEADER = 8


class _Page:
    """One producer's messages of one kind: a bit for each.

    A process may be killed at any moment, so no two writes depend on each other.

    :param content: where to write, a number of pages
    """

    def __init__(self, content: bytearray | mmap.mmap) -> None:
        self.content = content

    def tick(self, number: int) -> None:
        index, bit = divmod(number, 8)
        index += _HEADER
        content = self.content
        if index >= len(content):
            size = (index // _PAGE + 1) * _PAGE
            if isinstance(content, mmap.mmap):
                content.resize(size)
            else:
                content.extend(bytes(size - len(content)))
        if content[index] & 1 << bit:
            again = int.from_bytes(content[:_HEADER], "little") + 1
            content[:_HEADER] = again.to_bytes(_HEADER, "little")
        else:
            content[index] |= 1 << bit


def _encode(
    producer: str, kind: str, content: bytes | bytearray | mmap.mmap
) -> list[Any]:
    again = int.from_bytes(content[:_HEADER], "little")
    bits = content[_HEADER:]
    ticks = int.from_bytes(bits, "little").bit_count() + again
    return [producer, kind, ticks, base64.b64encode(zlib.compress(bits)).decode()]


def read(directory: Path) -> Encoded:
    """Read a ledger that is kept in files; one that was never begun is empty."""
    pages = sorted(directory.glob("* *"))
    names = [path.name.rpartition(" ") for path in pages]
    return [
        _encode(producer, kind, path.read_bytes())
        for (producer, _, kind), path in zip(names, pages, strict=True)
    ]


@dataclass(frozen=True)
class Account:
    """What became of the messages of one kind.

    sent = received + lost + failed - failed_received, if they were for one
    consumer each; a fanout is sent once for each server.

    :param sent: what producers have begun to send
    :param received: different messages that consumers have got
    :param lost: sent without an error, and never received
    :param duplicated: received once more than they should
    :param failed: those whose sending, or whose call, raised an exception or did
        not end
    :param failed_received: failed ones that were received all the same
    """

    sent: int = 0
    received: int = 0
    lost: int = 0
    duplicated: int = 0
    failed: int = 0
    failed_received: int = 0

    def __add__(self, other: Account) -> Account:
        both = zip(astuple(self), astuple(other), strict=True)
        return Account(*map(sum, both))


def settle(
    kind: str,
    begun: Iterable[Encoded],
    succeeded: Iterable[Encoded],
    received: Sequence[Encoded],
) -> Account:
    """Compare what producers and consumers have ticked off.

    :param begun: the producers' ledgers of what they have begun to send
    :param succeeded: the producers' ledgers of what ended without an error
    :param received: the ledger of each consumer that such messages reach
    """
    began, _ = total(kind, begun)
    good, _ = total(kind, succeeded)
    if kind == "fanout":
        each = (_compare(began, good, *total(kind, [got])) for got in received)
        return sum(each, Account())
    got, ticks = total(kind, received)
    if kind == "call":
        # an answer proves it, even if the server that gave it is dead
        for producer, numbers in good.items():
            unproven = numbers & ~got.get(producer, 0)
            got[producer] = got.get(producer, 0) | unproven
            ticks += unproven.bit_count()
    return _compare(began, good, got, ticks)


def _compare(began: Numbers, good: Numbers, got: Numbers, ticks: int) -> Account:
    account = Account()
    for producer, numbers in began.items():
        fine, there = good.get(producer, 0), got.get(producer, 0)
        account += Account(
            sent=numbers.bit_count(),
            received=there.bit_count(),
            lost=(fine & ~there).bit_count(),
            failed=(numbers & ~fine).bit_count(),
            failed_received=(numbers & ~fine & there).bit_count(),
        )
    return replace(account, duplicated=ticks - account.received)


def total(kind: str, ledgers: Iterable[Encoded]) -> tuple[Numbers, int]:
    """The numbers that any of some ledgers has of a kind, and the sum of the ticks."""
    numbers: Numbers = {}
    sum_ = 0
    for ledger in ledgers:
        for producer, its_kind, ticks, packed in ledger:
            if its_kind == kind:
                bits = zlib.decompress(base64.b64decode(packed))
                value = int.from_bytes(bits, "little")
                numbers[producer] = numbers.get(producer, 0) | value
                sum_ += ticks
    return numbers, sum_
