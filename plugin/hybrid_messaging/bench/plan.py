# SPDX-License-Identifier: Apache-2.0
"""Which measurements make a run, and in which order.

Scenarios alternate: each round measures all of them, one after the other, so that
what disturbs the machine for a while disturbs all of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hybrid_messaging import modes
from hybrid_messaging.bench import troubles
from hybrid_messaging.bench.measurement import Measurement
from hybrid_messaging.bench.parameters import NOTIFY, Parameters
from hybrid_messaging.bench.scenarios import Scenario

#: As much as goes, one message after the other in each thread of each producer.
PEAK = "peak"
#: So many messages per second, whatever becomes of them.
LOAD = "load"
#: As many calls as go, beside more and more notifications.
SEPARATION = "separation"
#: Something dies or restarts meanwhile; such parts are called `trouble-…`.
TROUBLE = "trouble"
#: What a user can ask for besides the peak.
PARTS = (LOAD, SEPARATION, TROUBLE)

#: Rates for `LOAD`, as parts of what the slowest scenario does at its peak.
LOAD_LEVELS = (0.3, 0.6, 0.9)
#: Rates of notifications for `SEPARATION`, as parts of the slowest scenario's peak;
#: what comes after them is as many as go.
SEPARATION_LEVELS = (0.0, 0.25, 0.5, 0.75)
#: The rate beside which there is trouble: light, so that what is seen is trouble.
TROUBLE_LEVEL = 0.3
#: Seconds that a measurement takes beside its load: workers start, connect and end.
OVERHEAD = 5.0
#: Timeout of calls when there is trouble: it has to end within the measurement.
TROUBLE_TIMEOUT = 10.0


@dataclass(frozen=True)
class Group:
    """Producers that do the same.

    :param producers: how many processes
    :param mix: weights of the kinds of messages
    :param rate: messages per second of all together; None for as many as go
    """

    producers: int
    mix: Mapping[str, float] = field(default_factory=dict)
    rate: float | None = None


@dataclass(frozen=True)
class Step:
    """One measurement.

    :param part: which question it belongs to
    :param load: messages per second that are asked for, of `SEPARATION` only the
        notifications; None for as many as go
    :param trouble: what happens meanwhile, a name of `troubles.TROUBLES`
    """

    scenario: Scenario
    part: str
    round: int
    groups: tuple[Group, ...]
    parameters: Parameters
    load: float | None = None
    trouble: str | None = None

    @property
    def seconds(self) -> float:
        """How long it takes, more or less, on a machine that does nothing else."""
        return self.parameters.warm_up + self.parameters.duration + OVERHEAD

    def __str__(self) -> str:
        load = "" if self.load is None else f" {self.load:g}/s"
        return f"{self.scenario.name} {self.part}{load}, round {self.round}"


Load = tuple[float | None, tuple[Group, ...]]


def steps(
    scenarios: Sequence[Scenario],
    parameters: Parameters,
    parts: Sequence[str],
    rates: Sequence[float],
    measurements: Sequence[Measurement],
) -> Iterator[Step]:
    """All measurements of a run.

    :param parts: some of `PARTS`; the peak is measured always, as the others
        depend on it
    :param rates: messages per second for `LOAD`; none for those that suit the peak
    :param measurements: what has been measured when the next step is asked for
    """
    yield from _rounds(scenarios, parameters, PEAK, [(None, groups(parameters))])
    if LOAD in parts:
        asked = rates or [_level(part, 2 * pace(measurements)) for part in LOAD_LEVELS]
        loads: list[Load] = [(rate, groups(parameters, rate)) for rate in asked]
        yield from _rounds(scenarios, parameters, LOAD, loads)
    if SEPARATION in parts:
        fastest = pace(measurements, (NOTIFY,))
        beside = [_level(part, fastest) for part in SEPARATION_LEVELS]
        loads = [(rate, _separated(parameters, rate)) for rate in (*beside, None)]
        yield from _rounds(scenarios, parameters, SEPARATION, loads)
    if TROUBLE in parts:
        rate = _level(TROUBLE_LEVEL, 2 * pace(measurements))
        yield from _troubles(scenarios, parameters, rate)


def _rounds(
    scenarios: Sequence[Scenario],
    parameters: Parameters,
    part: str,
    loads: Sequence[Load],
) -> Iterator[Step]:
    for round_ in range(1, parameters.rounds + 1):
        for load, who in loads:
            for scenario in scenarios:
                yield Step(scenario, part, round_, who, parameters, load)


def _troubles(
    scenarios: Sequence[Scenario], parameters: Parameters, rate: float
) -> Iterator[Step]:
    """Once each: what recovers does so in the same way every time."""
    for name, trouble in troubles.TROUBLES.items():
        changed = replace(
            parameters,
            # one server or listener goes, another one stays
            consumers=max(parameters.consumers, 4),
            timeout=min(parameters.timeout, TROUBLE_TIMEOUT),
            duration=max(parameters.duration, trouble.duration),
        )
        for scenario in scenarios:
            if trouble.concerns(modes.get(scenario.mode)):
                who = groups(changed, rate)
                part = f"{TROUBLE}-{name}"
                yield Step(scenario, part, 1, who, changed, rate, name)


def pace(measurements: Sequence[Measurement], kinds: Sequence[str] = ()) -> float:
    """Messages per second that even the slowest scenario does at its peak.

    :param kinds: of what; none for each kind that there is
    """
    rates: dict[tuple[str, str], list[float]] = {}
    for item in measurements:
        if item.part == PEAK:
            for kind in kinds or item.kinds:
                if kind in item.kinds:
                    rates.setdefault((item.scenario, kind), []).append(item.rate(kind))
    return min(map(statistics.median, rates.values()), default=0.0)


def _level(part: float, rate: float) -> float:
    """A part of a rate, as a number that people like to read."""
    wanted = part * rate
    step = 5.0 if wanted >= 10 else 1.0
    return max(round(wanted / step) * step, step if part else 0.0)


def groups(parameters: Parameters, rate: float | None = None) -> tuple[Group, ...]:
    """Producers of RPC and of notifications, each in processes of their own.

    So neither waits for the other. A producer that is alone does both.

    :param rate: of both together; None for as many as go
    """
    share = parameters.rpc_share / 100
    sides = [(parameters.rpc_mix, share), ({NOTIFY: 1.0}, 1 - share)]
    wanted = [(mix, part) for mix, part in sides if part]
    if parameters.producers < len(wanted):
        return (Group(parameters.producers, parameters.mix, rate),)
    counts = split(parameters.producers, [part for _, part in wanted])
    return tuple(
        Group(producers, mix, None if rate is None else rate * part)
        for (mix, part), producers in zip(wanted, counts, strict=True)
    )


def _separated(parameters: Parameters, rate: float | None) -> tuple[Group, ...]:
    """As many calls as go, and so many notifications."""
    clients, notifiers = split(max(parameters.producers, 2), [1, 1])
    rpc = Group(clients, parameters.rpc_mix)
    return (rpc,) if rate == 0 else (rpc, Group(notifiers, {NOTIFY: 1.0}, rate))


def split(count: int, parts: Sequence[float]) -> list[int]:
    """Share out processes in proportion to one or two parts, at least one each."""
    if len(parts) == 1:
        return [count]
    first = min(max(round(count * parts[0] / sum(parts)), 1), count - 1)
    return [first, count - first]
