#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Send for a long time while servers die, hang and restart, and account for it all.

    tools/soak.py env:RPC_URL
    tools/soak.py 4 --duration 300 --engine
    tools/soak.py 5 --duration 300 --engine -f json

Fifty threads make calls, casts and fanouts to some server processes over a transport:
a URL (env:NAME names an environment variable, which keeps a password off the command
line), or a scenario of `hybrid-messaging bench scenario list`, whose engine for RPC is
brought up for this. One server at a time, chosen at random, is killed and started
anew, hangs for a while (SIGSTOP), or is stopped in good order and started again at
once. With --engine, the engine of a scenario is restarted, and killed and started
again, as well.

Every message has a number, which clients and servers tick off. These break a promise:

    lost        calls that were answered and casts that returned, and no server has
                executed them
    twice       executed more than once
    broken      executed, though its sender was told that it is not: TargetUnreachable,
                ServersBusy, BusUnavailable, MessageRefused; a cast that has run out of
                time and does not say that a server may have acted; a call that has run
                out of time and says that it has not begun

These do not: casts that a server had confirmed and not begun when it was killed, at
most its credit each time (killed); and fanouts that a server which listened all the
time has not got (missed), since one without room misses them.

The exit code is 1 if a promise was broken or a client hangs, 2 if the run has failed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import compare_rpc

from hybrid_messaging.bench import BenchError, buses, scenarios, soak
from hybrid_messaging.cli import ending
from hybrid_messaging.engines import EngineError, Options
from hybrid_messaging.state_directory import StateError

#: Where notifications would go, if there were any: so nothing is started for them.
NOWHERE = "rabbit://127.0.0.1:1/"

COLUMNS = {
    "begun": "begun",
    "succeeded": "succeeded",
    "refused": "refused",
    "unknown": "unknown",
    "executed": "executed",
    "lost": "lost",
    "duplicated": "twice",
    "broken": "broken",
    "lost_with_server": "killed",
    "missed": "missed",
}


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def target(
    arguments: argparse.Namespace, directory: Path
) -> Iterator[tuple[str, dict[str, soak.Disrupt]]]:
    """The transport URL, and what can happen to its engine."""
    if "://" in arguments.target:
        yield arguments.target, {}
        return
    (scenario,) = scenarios.select([arguments.target])
    chosen = dict(arguments.options)
    scenario = dataclasses.replace(scenario, rpc={**scenario.rpc, **chosen})
    given = {"notify": NOWHERE}
    options = Options(router=arguments.router)

    def bring_up() -> buses.Bus:
        return buses.bring_up(scenario, directory, given, options, say)

    with buses.brought_up([scenario], directory, given, options, say) as ready:
        bus = ready[scenario.name]

        def kill() -> None:
            bus.kill("rpc")
            bring_up()

        disrupt = {
            "the engine restarts": lambda: bus.restart("rpc"),
            "the engine is killed and started again": kill,
        }
        yield bus.rpc_url, disrupt if arguments.engine else {}


def option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def table(outcome: soak.Outcome) -> Iterator[str]:
    yield "kind    " + "".join(f"{title:>10}" for title in COLUMNS.values())
    for kind, verdict in outcome.kinds.items():
        cells = {**vars(verdict), "missed": sum(verdict.missed.values())}
        yield f"{kind:<8}" + "".join(f"{cells[column]:>10}" for column in COLUMNS)
    missed = {
        name: number
        for verdict in outcome.kinds.values()
        for name, number in verdict.missed.items()
    }
    for title, counts in (
        ("disturbances", outcome.disturbances),
        ("errors", outcome.errors),
        ("fanouts missed by", missed),
    ):
        told = ", ".join(f"{what} {number}" for what, number in sorted(counts.items()))
        yield f"{title}: {told or 'none'}"
    yield from outcome.broken
    if outcome.hung:
        yield f"did not end: {', '.join(outcome.hung)}"
    yield "every promise was kept" if outcome.kept else "promises were broken"


def main() -> int:
    known = soak.Setup("", Path())
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "target", type=compare_rpc.given, help="transport URL, env:NAME, or scenario"
    )
    parser.add_argument(
        "--engine", action="store_true", help="disturb the scenario's engine as well"
    )
    parser.add_argument(
        "--options",
        nargs="+",
        default=[],
        type=option,
        metavar="KEY=VALUE",
        help="of the scenario's transport URL",
    )
    parser.add_argument("--router", default="embedded", help="as for `up`")
    parser.add_argument("--duration", type=float, default=known.duration, metavar="S")
    parser.add_argument("--servers", type=int, default=known.servers, metavar="N")
    parser.add_argument("--threads", type=int, default=known.threads, metavar="N")
    parser.add_argument(
        "--rate", type=float, default=known.rate, help="messages per second; 0: all"
    )
    parser.add_argument("--timeout", type=float, default=known.timeout, metavar="S")
    for name, text in (
        ("pause", "between two disturbances"),
        ("hang", "that a server hangs"),
    ):
        parser.add_argument(
            f"--{name}",
            nargs=2,
            type=float,
            default=getattr(known, name),
            metavar="S",
            help=f"seconds {text}, shortest and longest",
        )
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("-f", "--format", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    if arguments.engine and "://" in arguments.target:
        parser.error("--engine wants a scenario, whose engine this starts itself")
    say(f"seed {arguments.seed}")
    with ending.by_signal(), tempfile.TemporaryDirectory(prefix="soak-") as scratch:
        try:
            with target(arguments, Path(scratch, "engines")) as (url, engine):
                outcome = soak.run(
                    soak.Setup(
                        url,
                        Path(scratch, "ledgers"),
                        duration=arguments.duration,
                        servers=arguments.servers,
                        threads=arguments.threads,
                        rate=arguments.rate or None,
                        timeout=arguments.timeout,
                        pause=tuple(arguments.pause),
                        hang=tuple(arguments.hang),
                        credit=buses.credit(url),
                        engine=engine,
                        seed=arguments.seed,
                    ),
                    say,
                )
        except (BenchError, EngineError, StateError) as error:
            print(f"the run has failed: {error}", file=sys.stderr)
            return 2
    if arguments.format == "json":
        print(json.dumps(outcome.to_json(), indent=2))
    else:
        print("\n".join(table(outcome)))
    return int(not outcome.kept)


if __name__ == "__main__":
    sys.exit(main())
