# SPDX-License-Identifier: Apache-2.0
"""The report: one HTML page with everything in it, for screens and for paper."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import jinja2
from markupsafe import Markup

from hybrid_messaging import resources
from hybrid_messaging.bench import charts, plan, summary
from hybrid_messaging.bench.charts import Bar, Event, Line
from hybrid_messaging.bench.measurement import Measurement
from hybrid_messaging.bench.parameters import NOTIFY
from hybrid_messaging.bench.result import Result
from hybrid_messaging.bench.summary import Row, TroubleRow
from hybrid_messaging.bench.troubles import TROUBLES

#: Processes that want each processor, beyond which a machine has other work.
BUSY = 0.5

#: Kinds of messages, as people call several of them.
_NAMES = {
    "call": "calls",
    "cast": "casts",
    "fanout": "fanouts",
    NOTIFY: "notifications",
}
_CALL = "call"


def render(result: Result) -> str:
    """Write the report of a result, or of several that `result.combined` has joined."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resources.TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = _Page(result)
    return environment.get_template("bench.html.j2").render(
        result=result,
        began=datetime.datetime.fromisoformat(result.began),
        parameters=asdict(result.parameters),
        page=page,
        columns=[name for name in summary.COLUMNS if name in _HEADINGS],
        headings=_HEADINGS,
        total=asdict(result.account),
    )


#: Columns of the table, and how they are headed.
_HEADINGS = {
    "scenario": "scenario",
    "load": "asked /s",
    "kind": "kind",
    "rate": "rate /s",
    "ratio": "ratio",
    "p50": "median ms",
    "p90": "90 % ms",
    "p99": "99 % ms",
    "p99.9": "99.9 % ms",
    "max": "max ms",
    "sent": "sent",
    "lost": "lost",
    "duplicated": "twice",
    "failed": "failed",
    "cpu_ms": "CPU ms",
    "cpu_ratio": "ratio",
    "engine_cpu_ms": "engine CPU ms",
    "worker_cpu_ms": "worker CPU ms",
    "worker_waits": "waits",
    "engine_mb": "engines MB",
}

Figure = tuple[str, str, Markup]
"""Title, explanation, chart."""


@dataclass(frozen=True)
class _Trouble:
    """A trouble, and what it has done."""

    title: str
    rows: Sequence[TroubleRow]
    figures: Sequence[Figure]


class _Page:
    """What the template asks for."""

    def __init__(self, result: Result) -> None:
        self._result = result
        self.scenarios = result.scenarios
        self._index = {item.name: i for i, item in enumerate(self.scenarios)}
        self.rows = summary.rows(result)
        self.parts = list(dict.fromkeys(row.part for row in self.rows))

    def colour(self, scenario: str) -> int:
        """Which colour a scenario has."""
        return self._index[scenario] % charts.COLOURS

    def headline(self) -> str:
        """The most remarkable difference between the scenarios."""
        calls = {row.scenario: row for row in self._rows(plan.PEAK, _CALL)}
        first = calls.get(self.scenarios[0].name)
        others = [
            (row.ratio, row)
            for row in calls.values()
            if row is not first and row.ratio is not None
        ]
        if first is None or not others:
            return ""
        ratio, best = max(others, key=lambda pair: pair[0])
        if not first.latency_ms or not best.latency_ms:
            return ""
        told = (
            f"{best.scenario} answers {ratio:.1f} times as many calls as "
            f"{first.scenario}, in {_ms(best.latency_ms['p50'])} instead of "
            f"{_ms(first.latency_ms['p50'])} (median)"
        )
        if best.cost.cpu_ratio is not None:
            told += f", with {best.cost.cpu_ratio:.0%} of the CPU time"
        told += "."
        # no line ends within a name
        return told.replace("-", "\u2011")

    def busy(self) -> bool:
        """Whether the machine was at work before the run began."""
        machine = self._result.machine
        return machine.load_average[0] > BUSY * machine.usable_cpus

    def comparison(self) -> list[tuple[str, list[Figure]]]:
        """The final comparison: for each kind, bars, a chart for each figure."""
        compared: list[tuple[str, list[Figure]]] = []
        for kind, name in _NAMES.items():
            rows = self._rows(plan.PEAK, kind)
            less = "lower is better"
            wanted: list[tuple[str, str, str, Callable[[float], str], str]] = [
                (
                    *("rate", f"{name.capitalize()} per second", "higher is better"),
                    *(_rate, "ratio"),
                ),
                (
                    *("p50", f"Median of {name}", f"{_clock(kind)}, {less}"),
                    *(_ms, ""),
                ),
                ("p99", f"99th percentile of {name}", less, _ms, ""),
                (
                    *("cpu_ms", f"CPU time of a thousand {name}"),
                    *(f"engine and workers; {less}", _seconds, "cpu_ratio"),
                ),
            ]
            found: list[Figure] = []
            for column, title, note, told, ratio in wanted:
                found += self._bars(rows, column, title, note, told, ratio)
            if found:
                compared.append((name, found))
        return compared

    def _bars(
        self,
        rows: Iterable[Row],
        column: str,
        title: str,
        note: str,
        told: Callable[[float], str],
        ratio: str = "",
    ) -> list[Figure]:
        """Bars of a column; `ratio` is the column of its ratio to the first."""
        shown = []
        for row in rows:
            value = _number(row, column)
            times = _number(row, ratio) if ratio else None
            if value is not None:
                text = told(value) + ("" if times is None else f", ratio {times:.2f}")
                index = self._index[row.scenario]
                shown.append(Bar(row.scenario, index, value, text))
        return [(title, note, charts.bars(title, shown))] if shown else []

    def distributions(self) -> list[Figure]:
        """Latencies over percentiles, at the peak."""
        found: list[Figure] = []
        for kind, name in _NAMES.items():
            shown = [
                Line(scenario, index, _percentiles(items, kind), marks=False)
                for scenario, index in self._index.items()
                if (items := self._measured(plan.PEAK, scenario, kind))
            ]
            values = [y for line in shown for _, y in line.points]
            if not values:
                continue
            title = f"How long {name} take"
            chart = charts.lines(
                title,
                charts.percentiles("percentile"),
                charts.logarithmic("ms", values),
                shown,
            )
            found.append((title, "at the peak; lower and flatter is better", chart))
        return found

    def loads(self) -> list[Figure]:
        """Latency over the rate that was asked for."""
        found: list[Figure] = []
        for kind, name in _NAMES.items():
            rows = [
                (row.load, row)
                for row in self._rows(plan.LOAD, kind)
                if row.load is not None
            ]
            shown = [
                line
                for column in ("p50", "p99")
                for line in self._by_scenario(rows, column)
            ]
            found += self._chart(
                f"Latency of {name} under load",
                "solid: median; dashed: 99th percentile",
                "messages per second, RPC and notifications",
                shown,
            )
        return found

    def separation(self) -> list[Figure]:
        """What RPC is left with while notifications grow."""
        calls = self._rows(plan.SEPARATION, _CALL)
        loads = {
            (row.scenario, row.load): row.rate
            for row in self._rows(plan.SEPARATION, NOTIFY)
        }
        rows = [(loads.get((row.scenario, row.load), 0.0), row) for row in calls]
        rows.sort(key=lambda pair: pair[0])
        beside = "notifications per second"
        return [
            *self._chart(
                "Calls beside notifications",
                "calls at full speed; a flat line means that notifications have no"
                " effect",
                beside,
                list(self._by_scenario(rows, "rate")),
                "calls per second",
                log=False,
            ),
            *self._chart(
                "Latency of calls beside notifications",
                "solid: median; dashed: 99th percentile",
                beside,
                [
                    line
                    for column in ("p50", "p99")
                    for line in self._by_scenario(rows, column)
                ],
            ),
        ]

    def troubles(self) -> list[_Trouble]:
        """What happened when something died or restarted."""
        found = []
        for name, trouble in TROUBLES.items():
            part = f"{plan.TROUBLE}-{name}"
            items = [item for item in self._result.measurements if item.part == part]
            if items:
                rows = [summary.trouble(item) for item in items]
                found.append(_Trouble(trouble.title, rows, self._timelines(items)))
        return found

    def timelines(self) -> list[Figure]:
        """What happened in each second of the last round at the peak."""
        last = {
            item.scenario: item
            for item in self._result.measurements
            if item.part == plan.PEAK
        }
        return self._timelines(list(last.values()))

    def _timelines(self, items: Sequence[Measurement]) -> list[Figure]:
        length = max((item.length for item in items), default=1.0)
        highest = max(
            (
                second.messages
                for item in items
                for kind in item.kinds
                for second in item.side(kind).seconds
            ),
            default=1,
        )
        found = []
        for item in items:
            index = self._index[item.scenario]
            shown = [
                Line(
                    f"{_NAMES[kind]} of {item.scenario}",
                    index,
                    _series(item, kind, length),
                    dashed=kind == NOTIFY,
                )
                for kind in (_CALL, NOTIFY)
                if kind in item.kinds
            ]
            failures = [
                (second.second, second.messages)
                for kind in item.kinds.values()
                for second in kind.failing.seconds
            ]
            event = item.event
            title = item.scenario
            chart = charts.timeline(
                title,
                length,
                highest,
                shown,
                failures,
                Event(event.begin, event.end, event.what) if event else None,
            )
            found.append((title, event.what if event else "", chart))
        return found

    def _rows(self, part: str, kind: str) -> list[Row]:
        return [row for row in self.rows if (row.part, row.kind) == (part, kind)]

    def _measured(self, part: str, scenario: str, kind: str) -> list[Measurement]:
        return [
            item
            for item in self._result.measurements
            if (item.part, item.scenario) == (part, scenario) and kind in item.kinds
        ]

    def _by_scenario(
        self, rows: Sequence[tuple[float, Row]], column: str
    ) -> Iterable[Line]:
        """Lines of a column over the numbers that come with the rows."""
        for scenario, index in self._index.items():
            points = [
                (x, y)
                for x, row in rows
                if row.scenario == scenario and (y := _number(row, column)) is not None
            ]
            if points:
                dashed = column == "p99"
                yield Line(f"{scenario}, {column}", index, points, dashed=dashed)

    def _chart(
        self,
        title: str,
        note: str,
        x: str,
        shown: Sequence[Line],
        y: str = "ms",
        log: bool = True,
    ) -> list[Figure]:
        if not shown:
            return []
        xs = [point[0] for line in shown for point in line.points]
        ys = [point[1] for line in shown for point in line.points]
        scale = charts.logarithmic if log else charts.linear
        return [
            (
                title,
                note,
                charts.lines(title, charts.linear(x, xs), scale(y, ys), shown),
            )
        ]


def _number(row: Row, column: str) -> float | None:
    """What stands in a column of numbers."""
    value = row.value(column)
    assert not isinstance(value, str)
    return value


def _percentiles(items: Sequence[Measurement], kind: str) -> list[tuple[float, float]]:
    """(percentile, milliseconds), as many as a line needs."""
    curve = summary.latencies(items, kind).curve()
    found: list[tuple[float, float]] = []
    for milliseconds, share in curve:
        if not found:
            found.append((0.0, milliseconds))
        # beyond it, one in a thousand decides where the line goes
        if share > 99.9:
            found.append((99.9, milliseconds))
            break
        if share - found[-1][0] > (100 - share) / 25:
            found.append((share, milliseconds))
    return found


def _series(item: Measurement, kind: str, length: float) -> list[tuple[float, float]]:
    """(second, how many) for each second, those without any too."""
    counts = {each.second: each.messages for each in item.side(kind).seconds}
    return [(second + 0.5, counts.get(second, 0)) for second in range(int(length))]


def _clock(kind: str) -> str:
    return "until the answer" if kind == _CALL else "until they arrive"


def _rate(value: float) -> str:
    return f"{value:,.0f}/s"


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _ms(value: float) -> str:
    # no line ends between a number and its unit
    return f"{value:.3g}\u00a0ms" if value < 1000 else f"{value / 1000:.3g}\u00a0s"
