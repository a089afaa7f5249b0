# SPDX-License-Identifier: Apache-2.0
"""Accounts for every message: sent, received, lost, duplicated, failed.

Producers number the messages of each kind from 0. Whoever has to do with a
message ticks its number off: a bit per message is all that has to be remembered,
and sent to the controller in the end.
"""

from __future__ import annotations

import base64
import threading
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


class Ledger:
    """Which numbers of each (producer, kind) have been ticked off, and how often."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bits: dict[tuple[str, str], bytearray] = {}
        self._ticks: dict[tuple[str, str], int] = {}

    def tick(self, producer: str, kind: str, number: int) -> None:
        """Tick off one message."""
        key = (producer, kind)
        index, bit = divmod(number, 8)
        with self._lock:
            bits = self._bits.setdefault(key, bytearray())
            if index >= len(bits):
                bits.extend(bytes(index - len(bits) + 1))
            bits[index] |= 1 << bit
            self._ticks[key] = self._ticks.get(key, 0) + 1

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
                [
                    producer,
                    kind,
                    self._ticks[producer, kind],
                    base64.b64encode(zlib.compress(bits)).decode(),
                ]
                for (producer, kind), bits in self._bits.items()
            ]


@dataclass
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

    def add(self, other: Account) -> None:
        """Add another account to this one."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


Encoded = Sequence[Sequence[Any]]


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
    began, _ = _sum(kind, begun)
    good, _ = _sum(kind, succeeded)
    if kind == "fanout":
        account = Account()
        for each in received:
            account.add(_compare(began, good, *_sum(kind, [each])))
        return account
    got, ticks = _sum(kind, received)
    if kind == "call":
        # an answer proves it, even if the server that gave it is dead
        for producer, numbers in good.items():
            unproven = numbers & ~got.get(producer, 0)
            got[producer] = got.get(producer, 0) | unproven
            ticks += unproven.bit_count()
    return _compare(began, good, got, ticks)


Numbers = dict[str, int]


def _compare(began: Numbers, good: Numbers, got: Numbers, ticks: int) -> Account:
    account = Account()
    for producer, numbers in began.items():
        fine, there = good.get(producer, 0), got.get(producer, 0)
        account.sent += numbers.bit_count()
        account.received += there.bit_count()
        account.lost += (fine & ~there).bit_count()
        account.failed += (numbers & ~fine).bit_count()
        account.failed_received += (numbers & ~fine & there).bit_count()
    account.duplicated = ticks - account.received
    return account


def _sum(kind: str, ledgers: Iterable[Encoded]) -> tuple[Numbers, int]:
    """The numbers of each producer as the bits of an integer, and all ticks."""
    numbers: Numbers = {}
    total = 0
    for ledger in ledgers:
        for producer, its_kind, ticks, packed in ledger:
            if its_kind == kind:
                bits = zlib.decompress(base64.b64decode(packed))
                value = int.from_bytes(bits, "little")
                numbers[producer] = numbers.get(producer, 0) | value
                total += ticks
    return numbers, total
