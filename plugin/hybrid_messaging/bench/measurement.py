# SPDX-License-Identifier: Apache-2.0
"""What was measured: records, which make a JSON document as they are.

A field of a record is the key of its value there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hybrid_messaging.bench.ledger import Account


class Second(NamedTuple):
    """The messages that ended in a second.

    :param second: since the start of the load
    :param messages: how many
    :param longest: of their latencies, in seconds
    """

    second: int
    messages: int
    longest: float


@dataclass(frozen=True)
class Side:
    """Messages of one kind where they are sent, fail or arrive.

    :param latency: their histogram, of `Latencies.encode`
    :param latency_ms: its figures, of `Latencies.figures`
    :param rate: how many per second of the measured interval
    """

    latency: str
    latency_ms: Mapping[str, float]
    seconds: Sequence[Second]
    rate: float


@dataclass(frozen=True)
class Kind:
    """The messages of one kind."""

    account: Account
    sending: Side
    failing: Side
    arriving: Side


@dataclass(frozen=True)
class Event:
    """Something that went wrong meanwhile, on purpose.

    :param begin: seconds since the start of the load
    :param end: the same
    """

    what: str
    begin: float
    end: float


class Moment(NamedTuple):
    """One look at an engine.

    :param moment: seconds since the start of the load
    :param cpu: seconds of processor time since we watch it
    :param rss: bytes of memory
    """

    moment: float
    cpu: float
    rss: int


@dataclass(frozen=True)
class EngineUse:
    """What an engine took in the measured interval.

    :param cpu_seconds: of processor time
    :param rss: the most memory that it had, in bytes
    """

    roles: Sequence[str]
    cpu_seconds: float
    rss: int
    seconds: Sequence[Moment]


@dataclass(frozen=True)
class WorkerUse:
    """What a worker took in the measured interval.

    :param task: see `Assignment.task`
    :param cpu_seconds: of processor time
    :param waits: how often a thread had to be woken
    :param rss: bytes of memory at the end
    """

    task: str
    roles: Sequence[str]
    cpu_seconds: float
    waits: int
    rss: int


@dataclass(frozen=True)
class Measurement:
    """One measurement.

    :param part: which question it belongs to, and `load`: see `plan.Step`
    :param began: date and time
    :param start: of the load, in seconds since the epoch
    :param warm_up: seconds from there to the measured interval
    :param seconds: length of that
    :param errors: how often each error was raised
    :param event: what went wrong, of a trouble
    :param overdue: messages that were due and not begun when the load ended
    :param machine_busy: part of the processor time that was used by anybody
    """

    scenario: str
    part: str
    round: int
    load: float | None
    began: str
    start: float
    warm_up: float
    seconds: float
    kinds: Mapping[str, Kind]
    errors: Mapping[str, int]
    event: Event | None
    overdue: int
    engines: Mapping[str, EngineUse]
    machine_busy: float | None
    workers: Mapping[str, WorkerUse]

    @property
    def length(self) -> float:
        """Seconds from the start of the load to its end."""
        return self.warm_up + self.seconds

    def side(self, kind: str) -> Side:
        """Where a kind's rate and latency are measured.

        A call ends with its answer, another message where it arrives.
        """
        found = self.kinds[kind]
        return found.sending if kind == "call" else found.arriving

    def rate(self, kind: str) -> float:
        """Messages of a kind per second."""
        return self.side(kind).rate


@dataclass(frozen=True)
class Problem:
    """A measurement that could not be made.

    :param text: why
    """

    scenario: str
    part: str
    round: int
    load: float | None
    text: str

    def __str__(self) -> str:
        load = "" if self.load is None else f" {self.load:g}/s"
        return f"{self.scenario} {self.part}{load}, round {self.round}: {self.text}"
