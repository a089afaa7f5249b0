# SPDX-License-Identifier: Apache-2.0
"""Options of the ``bench`` commands, and what they take."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hybrid_messaging.cli import defaults, options, types

#: Messages per second that nobody can ask for: noting down how many of them are late
#: would take longer than the run.
_MOST = 100_000


def add_control(parser: argparse.ArgumentParser) -> None:
    """Add ``--control``."""
    parser.add_argument(
        "--control",
        default=defaults.variable("HYBRID_BENCH_CONTROL_URL"),
        metavar="URL",
        help="transport by which the run controls workers on other hosts; not one of"
        " those under test (default: %(default)s, which keeps a password off the"
        " command line)",
    )


def add_scenarios(parser: argparse.ArgumentParser) -> None:
    """Add the scenarios to measure, and ``--scenarios``."""
    action = parser.add_argument(
        "scenario",
        nargs="*",
        help="name or number of a scenario (default: those that `bench scenario list`"
        " marks)",
    )
    options.offer(action, _scenarios)
    add_file(parser)


def add_file(parser: argparse.ArgumentParser) -> None:
    """Add ``--scenarios``."""
    parser.add_argument(
        "--scenarios",
        type=Path,
        metavar="FILE",
        help="file with scenarios (default: those of this release)",
    )


def add_parts(parser: argparse.ArgumentParser) -> None:
    """Add ``--parts``."""
    action = parser.add_argument(
        "--parts",
        type=_part_names,
        default=("load",),
        metavar="PART,…",
        help="parts to measure besides the peak: load (latency at several rates),"
        " separation (RPC beside a growing rate of notifications), trouble (servers"
        " die, engines restart), all, or none (default: load)",
    )
    options.offer(action, _all_parts)


def add_load(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is sent."""
    from hybrid_messaging.bench.parameters import Parameters

    known = Parameters()
    load = parser.add_argument_group("load")

    def add(option: str, type_: Callable[[str], Any], metavar: str, text: str) -> None:
        default = getattr(known, option.removeprefix("--").replace("-", "_"))
        load.add_argument(
            option,
            type=type_,
            default=default,
            metavar=metavar,
            help=f"{text} (default: %(default)g)",
        )

    add("--producers", types.at_least(1), "N", "number of processes that send")
    add("--consumers", types.at_least(1), "N", "number of processes that receive")
    add("--threads", types.at_least(1), "N", "number of threads in each producer")
    add(
        "--rpc-share",
        types.percentage,
        "PERCENT",
        "percentage of processes and messages that are for RPC",
    )
    load.add_argument(
        "--rpc-mix",
        type=_mix,
        default=known.rpc_mix,
        metavar="call=W,cast=W,fanout=W",
        help="weights of calls, casts and fanouts in RPC (default: calls only)",
    )
    load.add_argument(
        "--size",
        type=_sizes,
        default=known.sizes,
        metavar="BYTES[=W],…",
        help="size of the payload in bytes, or several sizes with weights (default:"
        " 1000)",
    )
    load.add_argument(
        "--rate",
        type=_rate,
        action="append",
        default=[],
        metavar="N",
        help="rate for the part load, in messages per second, RPC and notifications"
        " together; can be given several times (default: 30, 60 and 90 percent of the"
        " slowest scenario's peak)",
    )
    add(
        "--warm-up",
        types.seconds,
        "SECONDS",
        "seconds of load before the measured interval",
    )
    add("--duration", types.positive, "SECONDS", "seconds of the measured interval")
    add(
        "--drain",
        types.positive,
        "SECONDS",
        "idle seconds after which messages that have not arrived count as lost",
    )
    add("--timeout", types.positive, "SECONDS", "RPC timeout in seconds")
    add("--rounds", types.at_least(1), "N", "number of repetitions of each measurement")
    load.add_argument(
        "--cpus",
        type=_cpus,
        default=(),
        metavar="N,…",
        help="processors to pin workers to, in turn",
    )


def _scenarios() -> Iterable[str]:
    from hybrid_messaging.bench import scenarios

    return scenarios.load()


def _all_parts() -> Iterable[str]:
    from hybrid_messaging.bench.plan import PARTS

    return (*PARTS, "all", "none")


def _rate(text: str) -> float:
    value = types.positive(text)
    if value > _MOST:
        raise argparse.ArgumentTypeError(f"{text} exceeds {_MOST:,} per second")
    return value


def _mix(text: str) -> dict[str, float]:
    from hybrid_messaging.bench.parameters import RPC_KINDS, weights

    try:
        return weights(text, RPC_KINDS)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _sizes(text: str) -> dict[int, float]:
    from hybrid_messaging.bench.parameters import weights

    try:
        found = weights(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    wrong = [size for size in found if not size.isdecimal()]
    if wrong:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is not a number of bytes")
    return {int(size): weight for size, weight in found.items()}


def _part_names(text: str) -> tuple[str, ...]:
    from hybrid_messaging.bench.plan import PARTS

    if text in ("all", "none"):
        return PARTS if text == "all" else ()
    found = tuple(text.split(","))
    if unknown := set(found) - set(PARTS):
        raise argparse.ArgumentTypeError(
            f"{min(unknown)!r} is not one of {', '.join(PARTS)}, all, none"
        )
    return found


def _cpus(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(item) for item in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of numbers"
        ) from error
    if missing := set(found) - os.sched_getaffinity(0):
        raise argparse.ArgumentTypeError(
            f"processor {min(missing)} does not exist, or this process may not use it"
        )
    return found
