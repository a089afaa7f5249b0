#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure the same buses with `hybrid-messaging bench` and with ombt, at once.

    tools/compare_ombt.py OMBT/bin/python --rounds 5

ombt is in an environment of its own, beside hybrid-messaging. The buses are
$HYBRID_RPC_URL and $HYBRID_NOTIFY_URL; what ombt's processes have to tell each
other goes over $HYBRID_BENCH_CONTROL_URL, else over the bus that is not measured.
Either has one process that calls or notifies, one message after the other, and one
that answers or listens. CPU times are those of both for one message.

The two run at the same time: what disturbs the machine disturbs both. Our rate is
that of the interval that ombt has measured, which has to lie in ours.

ombt patches its processes with eventlet, ours are native threads. To tell what is
a difference of the measuring from one of the threads, ombt runs a second time with
its patching left out. Rates are medians of the rounds, ratios are taken within one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from hybrid_messaging.bench import result, summary
from hybrid_messaging.bench.latency import Latencies

#: How a process of ombt starts: URLs with passwords stay off its command line.
_OMBT = """
import eventlet, json, os, sys
if os.environ["OMBT_THREADS"] == "native":
    eventlet.monkey_patch = lambda: None
sys.argv = json.loads(os.environ["OMBT_ARGUMENTS"])
from ombt._main import main
main()
"""
#: By kind of message: who takes it and who sends it, the test, and how many messages
#: are asked for, in ombt's words.
KINDS: dict[str, tuple[str, str, str, str]] = {
    "call": ("rpc-server", "rpc-client", "rpc-call", "--calls"),
    "notify": ("listener", "notifier", "notify", "--events"),
}
#: What the controller of ombt says of the senders, and then of the takers.
_RATE = re.compile(r"^Aggregate throughput: (\S+)", re.M)
_LATENCY = re.compile(r"Average (\S+) StdDev \S+ Min (\S+) Max (\S+)")
_INTERVAL = re.compile(r"^Test Interval: (\S+) - (\S+)", re.M)
#: Seconds in which the controller of ombt finds the others, and they end.
IDLE = 3
TIMEOUT = 300.0

#: How often a round is repeated in which ombt has measured while we did not.
ATTEMPTS = 3

Figures = dict[str, float]


class Ombt:
    """ombt as it is, or without eventlet."""

    def __init__(self, python: Path, threads: str, count: int, size: int) -> None:
        self._python = python
        self._threads = threads
        self._count = count
        self._size = size

    def measure(
        self, kind: str, url: str, control: str, ours: Ours
    ) -> tuple[Figures, Figures] | None:
        """Our figures and those of ombt, from one run of both.

        :returns: None if ombt has measured while we did not
        """
        taker, sender, test, asked = KINDS[kind]
        common = ["ombt", "--url", url, "--control", control]
        common += ["--topic", f"check-{os.getpid()}-{time.monotonic_ns()}"]
        load = [test, asked, str(self._count), "--length", str(self._size)]
        if kind == "notify":
            load += ["--severity", "info"]
        started = []
        try:
            for task in (taker, sender):
                started.append(self._start([*common, task]))
            before = _settled(started)
            with ours.running(kind) as beside:
                started.append(
                    self._start([*common, "controller", "--idle", str(IDLE), *load])
                )
                output, _ = started[-1].communicate(timeout=TIMEOUT)
                spent = _cpu(started[:2]) - before
        finally:
            for process in started:
                process.kill()
                process.wait()
        rates, latencies = _RATE.findall(output), _LATENCY.findall(output)
        if len(rates) != 2:
            sys.exit(f"ombt has failed:\n{output}")
        side = 0 if kind == "call" else 1
        mean, least, most = map(float, latencies[side])
        begin, end = map(float, _INTERVAL.findall(output)[side])
        found = beside.figures(begin, end)
        return found and (
            found,
            {
                "rate": float(rates[side]),
                "min": least,
                "mean": mean,
                "max": most,
                "cpu": spent / self._count * 1e3,
            },
        )

    def _start(self, words: Sequence[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self._python, "-W", "ignore", "-c", _OMBT],
            env={
                **os.environ,
                "OMBT_ARGUMENTS": json.dumps(words),
                "OMBT_THREADS": self._threads,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


def _cpu(processes: Sequence[subprocess.Popen[str]]) -> float:
    """Seconds of CPU time that they have taken."""
    times = [psutil.Process(process.pid).cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def _settled(processes: Sequence[subprocess.Popen[str]]) -> float:
    """Wait until they have started and wait; their CPU time until then."""
    before = -1.0
    while (now := _cpu(processes)) - before > 0.02:
        before = now
        time.sleep(2.0)
    return now


class Ours:
    """`hybrid-messaging bench run`."""

    def __init__(self, seconds: float, size: int) -> None:
        self._seconds = seconds
        self._size = size

    @contextlib.contextmanager
    def running(self, kind: str) -> Iterator[Run]:
        """Let it run; afterwards it has ended."""
        program = Path(sys.executable).with_name("hybrid-messaging")
        with tempfile.TemporaryDirectory() as directory:
            command: list[str | Path] = [
                *(program, "bench", "run", "--quiet", "--parts", "none"),
                *("--rounds", "1", "--producers", "1", "--consumers", "1"),
                *("--rpc-share", "100" if kind == "call" else "0"),
                *("--duration", str(self._seconds), "--size", str(self._size)),
                *("--output", directory, "--state-dir", f"{directory}/engines"),
            ]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            run = Run(kind)
            try:
                # its two workers; the controller of ombt takes longer from here on
                while len(psutil.Process(process.pid).children()) < 2:
                    time.sleep(0.05)
                yield run
                if process.wait(TIMEOUT):
                    sys.exit("hybrid-messaging bench has failed")
                run.result = result.load(Path(directory, "result.json"))
            finally:
                process.terminate()
                process.wait()


class Run:
    """One run of ours."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        #: what it has written, once it has ended
        self.result: result.Result | None = None

    def figures(self, begin: float, end: float) -> Figures | None:
        """What it has measured, its rate between two moments since the epoch.

        :returns: None if it has not measured all that time
        """
        assert self.result is not None
        (row,) = summary.rows(self.result)
        (measurement,) = self.result.measurements
        found = measurement.side(self._kind)
        begin, end = begin - measurement.start, end - measurement.start
        if begin < measurement.warm_up or end > measurement.length:
            return None
        count = sum(
            item.messages * max(0, min(end, item.second + 1) - max(begin, item.second))
            for item in found.seconds
        )
        return {
            "rate": count / (end - begin),
            "min": found.latency_ms["min"],
            "mean": Latencies.merged([found.latency]).mean * 1e3,
            "max": found.latency_ms["max"],
            "cpu": row.cost.worker_cpu_ms,
        }


def compare(
    ours: Ours,
    subjects: Mapping[str, Ombt],
    buses: Mapping[str, tuple[str, str]],
    count: int,
) -> list[dict[str, Any]]:
    """Rows of medians; ratios are those of the rates to ours beside them."""
    rows = []
    for kind, (url, control) in buses.items():
        pairs: dict[str, list[tuple[Figures, Figures]]] = {}
        for number in range(count):
            for name, subject in subjects.items():
                for _ in range(ATTEMPTS):
                    if found := subject.measure(kind, url, control, ours):
                        break
                else:
                    sys.exit(f"{name} did not measure while we did: more --seconds")
                pairs.setdefault(name, []).append(found)
                print(
                    f"{kind}, round {number + 1} of {count}, {name}:"
                    f" {found[1]['rate']:.0f}/s beside our {found[0]['rate']:.0f}/s",
                    file=sys.stderr,
                )
        for name, measured in pairs.items():
            mine, theirs = zip(*measured, strict=True)
            ratios = [
                other["rate"] / own["rate"]
                for own, other in zip(mine, theirs, strict=True)
            ]
            rows.append({"kind": kind, "subject": f"bench beside {name}", **_of(mine)})
            rows.append(
                {
                    "kind": kind,
                    "subject": name,
                    **_of(theirs),
                    "ratio": statistics.median(ratios),
                    "ratios": f"{min(ratios):.2f} to {max(ratios):.2f}",
                }
            )
    return rows


def _of(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    return {
        name: statistics.median(each[name] for each in rounds) for name in rounds[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("python", type=Path, help="interpreter that has ombt")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=2000, help="of ombt")
    parser.add_argument("--seconds", type=float, default=25.0, help="of ours")
    parser.add_argument("--size", type=int, default=1000, help="bytes of payload")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        rpc, notify = os.environ["HYBRID_RPC_URL"], os.environ["HYBRID_NOTIFY_URL"]
    except KeyError as error:
        parser.error(f"{error.args[0]} is not in the environment")
    control = os.environ.get("HYBRID_BENCH_CONTROL_URL")
    load = (arguments.messages, arguments.size)
    rows = compare(
        Ours(arguments.seconds, arguments.size),
        {
            "ombt, native threads": Ombt(arguments.python, "native", *load),
            "ombt, eventlet": Ombt(arguments.python, "eventlet", *load),
        },
        {
            kind: buses
            for kind, buses in {
                "call": (rpc, control or notify),
                "notify": (notify, control or rpc),
            }.items()
            if kind in arguments.kinds
        },
        arguments.rounds,
    )
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print(
        f"{'kind':7} {'subject':34} {'per s':>7} {'min ms':>7} {'mean ms':>8}"
        f" {'max ms':>7} {'CPU ms':>7}  ratio"
    )
    for row in rows:
        print(
            f"{row['kind']:7} {row['subject']:34} {row['rate']:7.0f} {row['min']:7.2f}"
            f" {row['mean']:8.2f} {row['max']:7.1f} {row['cpu']:7.2f}"
            + (f"  {row['ratio']:.2f} ({row['ratios']})" if "ratio" in row else "")
        )


if __name__ == "__main__":
    main()
