# SPDX-License-Identifier: Apache-2.0
"""Charts as inline SVG: colours and fonts come from the page's style sheet.

A chart is 360 units wide, the width of a phone, and scales with its column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 24, 40
#: So many colours has the style sheet.
COLOURS = 8

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """An axis.

    :param ticks: (value, label) of each line of the grid
    :param place: where a value lies, 0 at the beginning and 1 at the end
    """

    title: str
    ticks: Sequence[tuple[float, str]]
    place: Callable[[float], float]


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    :param index: tells which colour it has
    :param dashed: a second line of the same colour
    :param marks: dots at its points, which tell their values
    """

    name: str
    index: int
    points: Sequence[Point]
    dashed: bool = False
    marks: bool = True


def linear(title: str, values: Iterable[float]) -> Axis:
    """An axis from 0 to the largest value, or beyond it to the next tick."""
    highest = max(values, default=0.0) or 1.0
    size = 10 ** math.floor(math.log10(highest / 4))
    step = next(size * each for each in (1, 2, 5, 10) if size * each * 5 >= highest)
    count = math.ceil(highest / step - 1e-9)
    end = step * count
    ticks = [(step * index, short(step * index)) for index in range(count + 1)]
    return Axis(title, ticks, lambda value: value / end)


def logarithmic(title: str, values: Iterable[float]) -> Axis:
    """An axis over powers of ten that holds all values."""
    known = [value for value in values if value > 0] or [1.0]
    round_ = [step * 10.0**power for power in range(-6, 9) for step in (1, 2, 5)]
    low = max(value for value in round_ if value <= min(known))
    high = min(value for value in round_ if value >= max(known) and value > low)
    between = [value for value in round_ if low <= value <= high]
    if len(between) > 9:
        between = [value for value in between if f"{value:e}".startswith("1")]
    ticks = [(value, short(value)) for value in between]

    def place(value: float) -> float:
        return math.log(max(value, low) / low) / math.log(high / low)

    return Axis(title, ticks, place)


def percentiles(title: str, last: float = 99.9) -> Axis:
    """An axis that gives every further nine the same room."""

    def nines(value: float) -> float:
        return -math.log10(1 - min(value, last) / 100)

    ticks = [(each, f"{each:g}") for each in (0, 50, 90, 99, 99.9) if each <= last]
    return Axis(title, ticks, lambda value: nines(value) / nines(last))


def short(value: float) -> str:
    """A number in as few characters as tell it."""
    if value >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def lines(label: str, x: Axis, y: Axis, shown: Iterable[Line]) -> Markup:
    """A chart of lines.

    :param label: what it shows, for those who cannot see it
    """
    parts = [_grid(x, y, HEIGHT)]
    for line in shown:
        places = [_spot(x, y, HEIGHT, point) for point in line.points]
        path = "M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in places)
        style = f"line c{line.index % COLOURS}" + (" dashed" if line.dashed else "")
        parts.append(
            Markup('<path class="{}" d="{}"><title>{}</title></path>').format(
                style, path, line.name
            )
        )
        if line.marks:
            parts += [
                Markup(
                    '<circle class="dot c{}" cx="{:.1f}" cy="{:.1f}" r="3">'
                    "<title>{}: {} at {}</title></circle>"
                ).format(line.index % COLOURS, left, top, line.name, short(b), short(a))
                for (left, top), (a, b) in zip(places, line.points, strict=True)
            ]
    return _svg(label, HEIGHT, parts)


@dataclass(frozen=True)
class Bar:
    """A bar, its value, and how that is told."""

    name: str
    index: int
    value: float
    told: str


def bars(label: str, shown: Sequence[Bar]) -> Markup:
    """Horizontal bars, each below its name, so that names may be long."""
    highest = max((bar.value for bar in shown), default=0) or 1.0
    parts = []
    for row, bar in enumerate(shown):
        top = 4 + row * 34
        parts.append(
            Markup(
                '<text class="name" x="0" y="{}">{}</text>'
                '<text class="value" x="{}" y="{}">{}</text>'
                '<rect class="track" x="0" y="{}" width="{}" height="9" rx="4.5"/>'
                '<rect class="bar c{}" x="0" y="{}" width="{:.1f}" height="9"'
                ' rx="4.5"/>'
            ).format(
                *(top + 10, bar.name, WIDTH, top + 10, bar.told),
                *(top + 16, WIDTH, bar.index % COLOURS, top + 16),
                max(bar.value / highest * WIDTH, 4),
            )
        )
    return _svg(label, 4 + len(shown) * 34, parts)


@dataclass(frozen=True)
class Event:
    """Something that happened: from when to when, in seconds."""

    begin: float
    end: float
    what: str


def timeline(
    label: str,
    seconds: float,
    highest: float,
    shown: Sequence[Line],
    failures: Sequence[Point] = (),
    event: Event | None = None,
) -> Markup:
    """What happened in each second.

    :param seconds: length of the axis
    :param highest: value at the top, the same for charts that are to be compared
    :param shown: the first is drawn as an area
    :param failures: (second, how many)
    """
    height = 140
    x, y = linear("seconds", [seconds]), linear("per second", [highest])
    x = Axis(x.title, [t for t in x.ticks if t[0] <= seconds], lambda v: v / seconds)
    parts = []
    if event is not None:
        begin, _ = _spot(x, y, height, (event.begin, 0))
        end, _ = _spot(x, y, height, (max(event.end, event.begin + 0.2), 0))
        parts.append(
            Markup(
                '<rect class="event" x="{:.1f}" y="{}" width="{:.1f}" height="{}">'
                "<title>{}</title></rect>"
            ).format(begin, _TOP, end - begin, height - _TOP - _BOTTOM, event.what)
        )
    parts.append(_grid(x, y, height))
    for number, line in enumerate(shown):
        spots = [_spot(x, y, height, point) for point in line.points]
        if not spots:
            continue
        path = "L".join(f"{left:.1f} {top:.1f}" for left, top in spots)
        colour = f"c{line.index % COLOURS}"
        if not number:
            floor = height - _BOTTOM
            parts.append(
                Markup('<path class="area {}" d="M{:.1f} {}L{}L{:.1f} {}Z"/>').format(
                    colour, spots[0][0], floor, path, spots[-1][0], floor
                )
            )
        style = "line thin" + (" dashed" if line.dashed else "")
        parts.append(
            Markup('<path class="{} {}" d="M{}"><title>{}</title></path>').format(
                style, colour, path, line.name
            )
        )
    for second, count in failures:
        left, _ = _spot(x, y, height, (second + 0.5, 0))
        parts.append(
            Markup(
                '<path class="failure" d="M{:.1f} {}v7"><title>{} failed in second {}'
                "</title></path>"
            ).format(left, height - _BOTTOM - 7, count, second)
        )
    return _svg(label, height, parts)


def _spot(x: Axis, y: Axis, height: int, point: Point) -> Point:
    width = WIDTH - _LEFT - _RIGHT
    tall = height - _TOP - _BOTTOM
    across = min(max(x.place(point[0]), 0.0), 1.0)
    up = min(max(y.place(point[1]), 0.0), 1.0)
    return _LEFT + across * width, height - _BOTTOM - up * tall


def _grid(x: Axis, y: Axis, height: int) -> Markup:
    floor, right = height - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for value, text in y.ticks:
        _, top = _spot(x, y, height, (x.ticks[0][0], value))
        parts.append(
            Markup(
                '<path class="grid" d="M{} {:.1f}H{}"/>'
                '<text class="tick end" x="{}" y="{:.1f}">{}</text>'
            ).format(_LEFT, top, right, _LEFT - 5, top + 3.5, text)
        )
    for value, text in x.ticks:
        left, _ = _spot(x, y, height, (value, 0))
        parts.append(
            Markup(
                '<path class="grid" d="M{:.1f} {}v4"/>'
                '<text class="tick middle" x="{:.1f}" y="{}">{}</text>'
            ).format(left, floor, left, floor + 15, text)
        )
    parts.append(
        Markup(
            '<text class="axis middle" x="{}" y="{}">{}</text>'
            '<text class="axis" x="0" y="9">{}</text>'
        ).format((_LEFT + right) / 2, height - 8, x.title, y.title)
    )
    return _joined(parts)


def _svg(label: str, height: int, parts: Iterable[Any]) -> Markup:
    return Markup(
        '<svg role="img" aria-label="{}" viewBox="0 0 {} {}">{}</svg>'
    ).format(label, WIDTH, height, _joined(parts))


def _joined(parts: Iterable[Any]) -> Markup:
    return Markup("").join(escape(part) for part in parts)
