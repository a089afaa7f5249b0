#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many listeners of one topic over several transports, as ratios, measured in turn.

    tools/compare_listeners.py
    tools/compare_listeners.py 1 4 5 --listeners 100 200 400 --rounds 3 -f json

Each measurement starts the listeners (one process for each 50, two threads for each)
and measures

* how long a fanout takes until all of them have it, and until its sender goes on: the
  first of a client, and those after it
* how many servers a fresh client calls in a second, each for the first time, with one
  thread and with eight
* how long it takes until all servers answer a client that was there before, and a fresh
  one, after the engine that carries RPC (RabbitMQ, the router, or the Redis of zmq://)
  was killed with SIGKILL and is ready again.

Scenarios are those of `hybrid-messaging bench scenario list`. Their engines are
brought up for this. Each round measures all of them, one after the other, with each
number of listeners; ratios are taken within a round, to the first scenario. Ratios
above 1 are better, of times as of rates. The exit code is 1 if a listener has missed
a fanout, has not answered, or is not back at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hybrid_messaging.bench import BenchError, buses, listeners, scenarios
from hybrid_messaging.bench.listeners import Figures
from hybrid_messaging.cli import ending
from hybrid_messaging.engines import EngineError, Options
from hybrid_messaging.state_directory import StateError

#: Where notifications would go, if there were any: so nothing is started for them.
NOWHERE = "rabbit://127.0.0.1:1/"
#: Figures of which more is better; of the others in `RATIOS`, less is.
RATES = {"first_calls_per_s", "first_calls_8_per_s"}
RATIOS = [
    *("first_fanout_ms", "fanout_ms", "fanout_return_ms"),
    *("first_calls_per_s", "first_calls_8_per_s", "answer_s", "answer_fresh_s"),
]

#: By scenario and number of listeners: what each round has measured.
Measured = dict[tuple[str, int], list[Figures]]


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def measure(arguments: argparse.Namespace, directory: Path) -> Measured:
    chosen = scenarios.select(arguments.scenario)
    given = {"notify": NOWHERE}
    options = Options(router=arguments.router)
    found: Measured = {}
    with buses.brought_up(chosen, directory, given, options, say) as ready:
        for number in range(arguments.rounds):
            for count in arguments.listeners:
                for item in chosen:
                    say(
                        f"round {number + 1} of {arguments.rounds}, {item.name}, "
                        f"{count} listeners …"
                    )
                    figures = listeners.measure(
                        ready[item.name],
                        count,
                        arguments.fanouts,
                        lambda item=item: buses.bring_up(
                            item, directory, given, options, lambda line: None
                        ),
                        say,
                    )
                    say(", ".join(told(asdict(figures))))
                    found.setdefault((item.name, count), []).append(figures)
    return found


def told(figures: Mapping[str, Any]) -> list[str]:
    return [f"{name} {shown(value)}" for name, value in figures.items()]


def shown(value: float | None) -> str:
    return "never" if value is None else f"{value:.3g}"


def rows(found: Measured) -> list[dict[str, Any]]:
    """Medians over the rounds, and of the ratios within each round."""
    first = next(iter(found))[0]
    return [
        {
            "listeners": count,
            "scenario": name,
            **{figure: median(column(rounds, figure)) for figure in listeners.FIGURES},
            **{
                f"{figure}_ratio": median(
                    ratio(figure, base, mine)
                    for base, mine in zip(
                        column(found[first, count], figure),
                        column(rounds, figure),
                        strict=True,
                    )
                )
                for figure in RATIOS
            },
        }
        for (name, count), rounds in found.items()
    ]


def column(rounds: Sequence[Figures], figure: str) -> list[float | None]:
    return [getattr(each, figure) for each in rounds]


def ratio(figure: str, base: float | None, mine: float | None) -> float | None:
    """How many times better than the first scenario; None where one has no figure."""
    if not base or not mine:
        return None
    return mine / base if figure in RATES else base / mine


def median(values: Any) -> float | None:
    """The median; None if a round has no figure."""
    known = list(values)
    return None if None in known else statistics.median(known)


def table(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each figure and number of listeners, ratios in parentheses."""
    names = list(dict.fromkeys(row["scenario"] for row in found))
    lines = [f"{'figure':<20}{'listeners':>10}" + "".join(f"{n:>18}" for n in names)]
    for figure in listeners.FIGURES:
        for count in dict.fromkeys(row["listeners"] for row in found):
            line = f"{figure:<20}{count:>10}"
            for row in (row for row in found if row["listeners"] == count):
                cell = shown(row[figure])
                if row.get(f"{figure}_ratio") is not None:
                    cell += f" ({row[f'{figure}_ratio']:.1f})"
                line += f"{cell:>18}"
            lines.append(line)
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario", nargs="*", default=["1", "4", "5"])
    parser.add_argument("--listeners", nargs="+", type=int, default=[100, 200, 400])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--fanouts", type=int, default=10, help="after the first")
    parser.add_argument("--router", default="embedded", help="as for `up`")
    parser.add_argument("-f", "--format", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    with ending.by_signal(), tempfile.TemporaryDirectory(prefix="listeners-") as there:
        try:
            found = measure(arguments, Path(there, "engines"))
        except (BenchError, EngineError, StateError) as error:
            sys.exit(f"the run has failed: {error}")
    result = rows(found)
    if arguments.format == "json":
        print(json.dumps(result, indent=2))
    else:
        print("\n".join(table(result)))
    return int(
        any(
            each.missed
            or each.calls_failed
            or None in (each.answer_s, each.answer_fresh_s)
            for rounds in found.values()
            for each in rounds
        )
    )


if __name__ == "__main__":
    sys.exit(main())
