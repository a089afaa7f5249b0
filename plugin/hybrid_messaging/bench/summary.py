# SPDX-License-Identifier: Apache-2.0
"""A result in rows: one for each scenario, part, load and kind of message.

Rates are medians over the rounds. Histograms of the rounds are added up. Accounts
are added up. How much faster a scenario is than the first one is the median of
the ratios within each round, because only what was measured at nearly the same
time can be compared.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, methodcaller
from typing import Any, TypeVar

from hybrid_messaging.bench.latency import Latencies
from hybrid_messaging.bench.ledger import Account
from hybrid_messaging.bench.measurement import (
    EngineUse,
    Event,
    Kind,
    Measurement,
    Second,
    WorkerUse,
)
from hybrid_messaging.bench.parameters import KINDS, NOTIFY
from hybrid_messaging.bench.result import Result

Measurements = Sequence[Measurement]
Value = str | float | None


@dataclass(frozen=True)
class Cost:
    """What a message costs; None where nobody has measured it.

    CPU time is milliseconds for each message, thus seconds for a thousand.

    :param engine_cpu_ms: of the engine that carries it
    :param worker_cpu_ms: of the workers that send and take it
    :param cpu_ms: of both
    :param cpu_ratio: of both, to that of the first scenario
    :param worker_waits: how often a thread of these workers has to be woken for it
    :param engine_mb: memory of all engines of the scenario, in 10^6 bytes
    """

    cpu_ms: float | None
    cpu_ratio: float | None
    engine_cpu_ms: float | None
    worker_cpu_ms: float | None
    worker_waits: float | None
    engine_mb: float | None


@dataclass(frozen=True)
class Row:
    """The messages of one kind in one scenario, part and load.

    :param rate: answered calls, or arrivals of other messages, per second
    :param ratio: of the rate, to that of the first scenario
    :param latency_ms: until the answer of a call, or the arrival of another message
    """

    scenario: str
    part: str
    load: float | None
    kind: str
    rate: float
    ratio: float | None
    latency_ms: Mapping[str, float]
    account: Account
    cost: Cost

    def value(self, column: str) -> Value:
        """What stands in a column, of `COLUMNS`."""
        value: Value = COLUMNS[column](self)
        return value


def _latency(name: str) -> Callable[[Row], float | None]:
    return lambda row: row.latency_ms.get(name)


#: The columns, and how their values are found.
COLUMNS: dict[str, Callable[[Row], Any]] = {
    **{
        name: attrgetter(name)
        for name in ("scenario", "part", "load", "kind", "rate", "ratio")
    },
    **{name: _latency(name) for name in ("min", "p50", "p90", "p99", "p99.9", "max")},
    **{
        name: attrgetter(f"account.{name}")
        for name in ("sent", "received", "lost", "duplicated", "failed")
    },
    **{
        name: attrgetter(f"cost.{name}")
        for name in (
            *("cpu_ms", "cpu_ratio", "engine_cpu_ms", "worker_cpu_ms"),
            *("worker_waits", "engine_mb"),
        )
    },
}


def rows(result: Result) -> list[Row]:
    """The rows of a result."""
    groups: dict[tuple[Any, ...], list[Measurement]] = {}
    for item in result.measurements:
        for kind in item.kinds:
            key = (item.part, item.load, kind, item.scenario)
            groups.setdefault(key, []).append(item)
    first = result.scenarios[0].name
    found = []
    for (part, load, kind, scenario), items in groups.items():
        base = groups.get((part, load, kind, first), [])
        found.append(
            Row(
                scenario=scenario,
                part=part,
                load=load,
                kind=kind,
                rate=round(statistics.median(item.rate(kind) for item in items), 1),
                ratio=_ratio(items, base, methodcaller("rate", kind)),
                latency_ms=latencies(items, kind).figures(),
                account=sum((item.kinds[kind].account for item in items), Account()),
                cost=_cost(items, base, kind),
            )
        )
    order = [item.name for item in result.scenarios]
    parts = list(dict.fromkeys(item.part for item in result.measurements))
    found.sort(
        key=lambda row: (
            parts.index(row.part),
            row.load or 0,
            KINDS.index(row.kind),
            order.index(row.scenario),
        )
    )
    return found


def table(found: Sequence[Row]) -> tuple[list[str], list[list[Value]]]:
    """Rows as a table: the columns in which there is something, and their values."""
    columns = [
        name for name in COLUMNS if any(row.value(name) is not None for row in found)
    ]
    return columns, [[row.value(name) for name in columns] for row in found]


def to_csv(found: Iterable[Row]) -> str:
    """Rows as CSV, with a line of column names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([row.value(name) for name in COLUMNS] for row in found)
    return text.getvalue()


def latencies(items: Measurements, kind: str) -> Latencies:
    """The latencies of a kind in several measurements."""
    return Latencies.merged(item.side(kind).latency for item in items)


@dataclass(frozen=True)
class CallTrouble:
    """What trouble has done to calls; times are seconds.

    :param wait: the longest that a call took until its answer or its exception
    :param silence: the longest time without any answer since it happened
    """

    sent: int
    failed: int
    wait: float
    silence: int


@dataclass(frozen=True)
class NotificationTrouble:
    """What trouble has done to notifications.

    :param unsent: those that oslo.messaging gave up
    :param delay: the longest time until one arrived, in seconds
    """

    sent: int
    unsent: int
    lost: int
    duplicated: int
    delay: float


@dataclass(frozen=True)
class TroubleRow:
    """What a measurement in which something went wrong has done to its messages.

    :param what: went wrong
    :param took: seconds that it lasted
    """

    scenario: str
    what: str
    took: float
    calls: CallTrouble | None
    notifications: NotificationTrouble | None


def trouble(measurement: Measurement) -> TroubleRow:
    """The row of a measurement in which something went wrong."""
    event = measurement.event
    assert event is not None
    return TroubleRow(
        measurement.scenario,
        event.what,
        event.end - event.begin,
        _call_trouble(measurement.kinds.get("call"), event, measurement.length),
        _notification_trouble(measurement.kinds.get(NOTIFY)),
    )


def _call_trouble(calls: Kind | None, event: Event, end: float) -> CallTrouble | None:
    if calls is None:
        return None
    answered = {item.second for item in calls.sending.seconds}
    longest = current = 0
    for second in range(int(event.begin), int(end)):
        current = 0 if second in answered else current + 1
        longest = max(longest, current)
    return CallTrouble(
        calls.account.sent,
        calls.account.failed,
        _longest([*calls.sending.seconds, *calls.failing.seconds]),
        longest,
    )


def _notification_trouble(notifications: Kind | None) -> NotificationTrouble | None:
    if notifications is None:
        return None
    account = notifications.account
    return NotificationTrouble(
        account.sent,
        account.failed,
        account.lost,
        account.duplicated,
        _longest(notifications.arriving.seconds),
    )


def _longest(seconds: Sequence[Second]) -> float:
    return max((item.longest for item in seconds), default=0.0)


def _ratio(
    items: Measurements,
    base: Measurements,
    figure: Callable[[Measurement], float | None],
) -> float | None:
    """The median, over the rounds, of a figure's ratio to the first scenario's."""
    by_round = {item.round: figure(item) for item in base}
    ratios = [
        ours / theirs
        for item in items
        if (theirs := by_round.get(item.round)) and (ours := figure(item)) is not None
    ]
    return _median(ratios, 2)


def _cost(items: Measurements, base: Measurements, kind: str) -> Cost:
    """What one message costs its engine and its workers."""
    role = NOTIFY if kind == NOTIFY else "rpc"

    def engines(item: Measurement) -> float | None:
        return _spent(item, item.engines, role, lambda use: use.cpu_seconds * 1e3)

    def workers(item: Measurement) -> float | None:
        return _spent(item, item.workers, role, lambda use: use.cpu_seconds * 1e3)

    def waits(item: Measurement) -> float | None:
        return _spent(item, item.workers, role, lambda use: use.waits)

    def whole(item: Measurement) -> float | None:
        parts = (engines(item), workers(item))
        return None if None in parts else sum(filter(None, parts))

    memory = [
        sum(each.rss for each in item.engines.values()) / 1e6
        for item in items
        if item.engines
    ]
    return Cost(
        cpu_ms=_median(map(whole, items), 3),
        cpu_ratio=_ratio(items, base, whole),
        engine_cpu_ms=_median(map(engines, items), 3),
        worker_cpu_ms=_median(map(workers, items), 3),
        worker_waits=_median(map(waits, items), 2),
        engine_mb=_median(memory, 0),
    )


_Use = TypeVar("_Use", EngineUse, WorkerUse)


def _spent(
    measurement: Measurement,
    uses: Mapping[str, _Use],
    role: str,
    amount: Callable[[_Use], float],
) -> float | None:
    """How much of something one message of a transport takes.

    What serves both transports is shared out evenly over the messages of both.
    """
    spent = 0.0
    mine = [use for use in uses.values() if role in use.roles]
    for use in mine:
        messages = sum(
            measurement.rate(kind)
            for kind in measurement.kinds
            if (NOTIFY if kind == NOTIFY else "rpc") in use.roles
        )
        if not messages:
            return None
        spent += amount(use) / (messages * measurement.seconds)
    return round(spent, 6) if mine else None


def _median(values: Iterable[float | None], digits: int) -> float | None:
    there = [value for value in values if value is not None]
    return round(statistics.median(there), digits) if there else None
