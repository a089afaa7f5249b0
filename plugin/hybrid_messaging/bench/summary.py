# SPDX-License-Identifier: Apache-2.0
"""A result in rows: one for each scenario, part, load and kind of message.

Rates are medians over the rounds. Histograms of the rounds are added up. Accounts
are added up. How much faster a scenario is than the first one is the median of
the ratios within each round, because only what was measured at nearly the same
time can be compared.
"""

from __future__ import annotations

import csv
import functools
import io
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hybrid_messaging.bench.latency import Latencies
from hybrid_messaging.bench.ledger import Account
from hybrid_messaging.bench.parameters import KINDS, NOTIFY

COLUMNS = (
    "scenario",
    "part",
    "load",
    "kind",
    "rate",
    "ratio",
    "min",
    "p50",
    "p90",
    "p99",
    "p99.9",
    "max",
    "sent",
    "received",
    "lost",
    "duplicated",
    "failed",
    "cpu_ms",
    "cpu_ratio",
    "engine_cpu_ms",
    "worker_cpu_ms",
    "worker_waits",
    "engine_mb",
)

Row = dict[str, Any]
Measurements = Sequence[Mapping[str, Any]]


def rows(result: Mapping[str, Any]) -> list[Row]:
    """The rows of a result.

    `rate` is per second: answered calls, and arrivals of other messages. Latencies
    are milliseconds: of a call until its answer, of others until they arrive.
    CPU time is milliseconds for each message, thus seconds for a thousand, of the
    engine that carries it and of the workers that send and take it; `worker_waits` is
    how often a thread of these workers has to be woken for a message; `engine_mb` is
    the memory of all engines of the scenario in 10^6 bytes.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for item in result["measurements"]:
        for kind in item["kinds"]:
            key = (item["part"], item["load"], kind, item["scenario"])
            groups.setdefault(key, []).append(item)
    first = result["scenarios"][0]["name"]
    found = []
    for (part, load, kind, scenario), items in groups.items():
        base = groups.get((part, load, kind, first), [])
        found.append(
            {
                "scenario": scenario,
                "part": part,
                "load": load,
                "kind": kind,
                "rate": round(statistics.median(rate(item, kind) for item in items), 1),
                "ratio": _ratio(items, base, functools.partial(rate, kind=kind)),
                **{name: None for name in COLUMNS[6:12]},
                **latencies(items, kind).figures(),
                **_account(items, kind),
                **_cost(items, base, kind),
            }
        )
    order = [item["name"] for item in result["scenarios"]]
    parts = list(dict.fromkeys(item["part"] for item in result["measurements"]))
    found.sort(
        key=lambda row: (
            parts.index(row["part"]),
            row["load"] or 0,
            KINDS.index(row["kind"]),
            order.index(row["scenario"]),
        )
    )
    return found


def table(found: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    """Rows as a table: the columns in which there is something, and their values."""
    columns = [name for name in COLUMNS if any(row[name] is not None for row in found)]
    return columns, [[row[name] for name in columns] for row in found]


def to_csv(found: Iterable[Row]) -> str:
    """Rows as CSV, with a line of column names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


def problem(found: Mapping[str, Any]) -> str:
    """A measurement that could not be made, in words."""
    load = "" if found["load"] is None else f" {found['load']:g}/s"
    return (
        f"{found['scenario']} {found['part']}{load}, round {found['round']}: "
        f"{found['text']}"
    )


def side(kind: str) -> str:
    """Where a kind's rate and latency are measured."""
    return "sending" if kind == "call" else "arriving"


def rate(measurement: Mapping[str, Any], kind: str) -> float:
    """Messages of a kind per second in one measurement."""
    return float(measurement["kinds"][kind][side(kind)]["rate"])


def latencies(items: Measurements, kind: str) -> Latencies:
    """The latencies of a kind in several measurements."""
    return Latencies.merged(
        item["kinds"][kind][side(kind)]["latency"] for item in items
    )


def unaccounted(result: Mapping[str, Any]) -> Account:
    """What became of all messages of a run."""
    total = Account()
    for item in result["measurements"]:
        for kind in item["kinds"].values():
            total.add(Account(**kind["account"]))
    return total


def length(measurement: Mapping[str, Any]) -> float:
    """Seconds from the start of the load to its end."""
    return float(measurement["warm_up"] + measurement["seconds"])


def trouble(measurement: Mapping[str, Any]) -> Row:
    """What a measurement in which something went wrong has done to its messages.

    `failed` are calls, `wait` is the longest that a call took until its answer or
    its exception, `silence` the longest time without any answer since it
    happened, in whole seconds. The others are about notifications: `unsent` are
    those that oslo.messaging gave up, `delay` is the longest time until one
    arrived. Times are seconds.
    """
    kinds = measurement["kinds"]
    row: Row = {
        "scenario": measurement["scenario"],
        "what": measurement["event"]["what"],
        "took": measurement["event"]["end"] - measurement["event"]["begin"],
    }
    if "call" in kinds:
        row["calls"] = kinds["call"]["account"]["sent"]
        row["failed"] = kinds["call"]["account"]["failed"]
        row["wait"] = _longest(kinds["call"], "sending", "failing")
        row["silence"] = _silence(measurement)
    if NOTIFY in kinds:
        row["notifications"] = kinds[NOTIFY]["account"]["sent"]
        row["unsent"] = kinds[NOTIFY]["account"]["failed"]
        row["delay"] = _longest(kinds[NOTIFY], "arriving")
        for name in ("lost", "duplicated"):
            row[name] = kinds[NOTIFY]["account"][name]
    return row


def _longest(kind: Mapping[str, Any], *sides: str) -> float:
    return max(
        (longest for side_ in sides for _, _, longest in kind[side_]["seconds"]),
        default=0.0,
    )


def _silence(measurement: Mapping[str, Any]) -> int:
    answered = {
        second for second, _, _ in measurement["kinds"]["call"]["sending"]["seconds"]
    }
    longest = current = 0
    for second in range(int(measurement["event"]["begin"]), int(length(measurement))):
        current = 0 if second in answered else current + 1
        longest = max(longest, current)
    return longest


def _ratio(
    items: Measurements,
    base: Measurements,
    figure: Callable[[Mapping[str, Any]], float | None],
) -> float | None:
    """The median, over the rounds, of a figure's ratio to the first scenario's."""
    by_round = {item["round"]: figure(item) for item in base}
    ratios = [
        ours / theirs
        for item in items
        if (theirs := by_round.get(item["round"]))
        and (ours := figure(item)) is not None
    ]
    return _median(ratios, 2)


def _account(items: Measurements, kind: str) -> dict[str, int]:
    total = Account()
    for item in items:
        total.add(Account(**item["kinds"][kind]["account"]))
    return {
        "sent": total.sent,
        "received": total.received,
        "lost": total.lost,
        "duplicated": total.duplicated,
        "failed": total.failed,
    }


def _cost(
    items: Measurements, base: Measurements, kind: str
) -> dict[str, float | None]:
    """What one message costs its engine and its workers: CPU time, and memory."""
    role = NOTIFY if kind == NOTIFY else "rpc"

    def whole(item: Mapping[str, Any]) -> float | None:
        parts = [cpu(item, who) for who in ("engines", "workers")]
        return None if None in parts else sum(filter(None, parts))

    def cpu(item: Mapping[str, Any], who: str) -> float | None:
        return _spent(item, who, role, "cpu_seconds", 1e3)

    memory = [
        sum(each["rss"] for each in item["engines"].values()) / 1e6
        for item in items
        if item["engines"]
    ]
    return {
        "cpu_ms": _median(map(whole, items), 3),
        "cpu_ratio": _ratio(items, base, whole),
        "engine_cpu_ms": _median((cpu(item, "engines") for item in items), 3),
        "worker_cpu_ms": _median((cpu(item, "workers") for item in items), 3),
        "worker_waits": _median(
            (_spent(item, "workers", role, "waits") for item in items), 2
        ),
        "engine_mb": _median(memory, 0),
    }


def _spent(
    measurement: Mapping[str, Any], who: str, role: str, what: str, unit: float = 1.0
) -> float | None:
    """How much of something one message of a transport takes.

    What serves both transports is shared out evenly over the messages of both.

    :param unit: how many of the wanted units make one of `what`
    """
    spent = 0.0
    mine = [item for item in measurement[who].values() if role in item["roles"]]
    for item in mine:
        messages = sum(
            rate(measurement, kind)
            for kind in measurement["kinds"]
            if (NOTIFY if kind == NOTIFY else "rpc") in item["roles"]
        )
        # older releases did not look at everything
        if not messages or what not in item:
            return None
        spent += item[what] * unit / (messages * measurement["seconds"])
    return round(spent, 6) if mine else None


def _median(values: Iterable[float | None], digits: int) -> float | None:
    there = [value for value in values if value is not None]
    return round(statistics.median(there), digits) if there else None
