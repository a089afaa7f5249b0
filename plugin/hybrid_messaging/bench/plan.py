# SPDX-License-Identifier: Apache-2.0
"""Which measurements make a run, and in which order.

Scenarios alternate: each round measures all of them, one after the other, so that
what disturbs the machine for a while disturbs all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hybrid_messaging.bench.parameters import NOTIFY, Parameters
from hybrid_messaging.bench.scenarios import Scenario

#: As much as goes, one message after the other in each thread of each producer.
PEAK = "peak"
#: So many messages per second, whatever becomes of them.
LOAD = "load"


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
    :param load: where on the axis of that question, None if it has none
    """

    scenario: Scenario
    part: str
    round: int
    groups: tuple[Group, ...]
    load: float | None = None

    def __str__(self) -> str:
        load = "" if self.load is None else f" {self.load:g}/s"
        return f"{self.scenario.name} {self.part}{load}, round {self.round}"


def steps(
    scenarios: Sequence[Scenario], parameters: Parameters, rates: Sequence[float]
) -> Iterator[Step]:
    """All measurements of a run.

    :param rates: messages per second for `LOAD`; none for `PEAK` alone
    """
    for round_ in range(1, parameters.rounds + 1):
        for rate in (None, *rates):
            for scenario in scenarios:
                part = PEAK if rate is None else LOAD
                yield Step(scenario, part, round_, groups(parameters, rate), rate)


def groups(parameters: Parameters, rate: float | None = None) -> tuple[Group, ...]:
    """Producers of RPC and of notifications, each in processes of their own.

    So neither waits for the other. A producer that is alone does both.

    :param rate: of both together; None for as many as go
    """
    share = parameters.rpc_share / 100
    sides = [
        (parameters.rpc_mix, share),
        ({NOTIFY: 1.0}, 1 - share),
    ]
    wanted = [(mix, part) for mix, part in sides if part]
    if parameters.producers < len(wanted):
        return (Group(parameters.producers, parameters.mix, rate),)
    return tuple(
        Group(producers, mix, None if rate is None else rate * part)
        for (mix, part), producers in zip(
            wanted,
            split(parameters.producers, [part for _, part in wanted]),
            strict=True,
        )
    )


def split(count: int, parts: Sequence[float]) -> list[int]:
    """Share out processes in proportion to one or two parts, at least one each."""
    if len(parts) == 1:
        return [count]
    first = min(max(round(count * parts[0] / sum(parts)), 1), count - 1)
    return [first, count - first]
