#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""See that a call over the router still costs a fraction of one over RabbitMQ.

    tools/check_ratios.py

Runs the benchmark, RPC alone, over both in turn, and compares what hardly depends
on what else the machine does: CPU time of client, server and engine for a call, and
how often a thread has to be woken for it. Rates are shown and decide nothing. The
bounds are generous: what is beyond them has changed, and not by chance. The exit
code is 1 then.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

OTHER, OURS = "1-single", "4-hybrid"
#: Shown, and what it is in words.
COLUMNS = {
    "rate": "calls per second",
    "cpu_ms": "ms of CPU time for a call",
    "worker_waits": "waits for a call",
}


class Bound(NamedTuple):
    """At most this part of what a call over RabbitMQ takes."""

    threads: int
    column: str
    most: float


BOUNDS = [
    Bound(1, "cpu_ms", 0.6),
    Bound(1, "worker_waits", 0.6),
    Bound(8, "cpu_ms", 0.6),
    Bound(8, "worker_waits", 0.7),
]


def measure(threads: int) -> dict[str, dict[str, float]]:
    """The figures of a call by scenario and column."""
    program = Path(sys.executable).with_name("hybrid-messaging")
    with tempfile.TemporaryDirectory() as directory:
        done = subprocess.run(
            [
                *(program, "bench", "run", OTHER, OURS, "--router", "embedded"),
                *("--parts", "none", "--rounds", "3", "--duration", "4"),
                *("--rpc-share", "100", "--producers", "1", "--consumers", "1"),
                *("--threads", str(threads), "--output", f"{directory}/result"),
                *("--state-dir", f"{directory}/engines", "-f", "json"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
    if done.returncode:
        sys.exit("the benchmark has failed")
    return {row["scenario"]: row for row in json.loads(done.stdout)}


def main() -> int:
    found = {
        threads: measure(threads) for threads in sorted({b.threads for b in BOUNDS})
    }
    beyond = []
    for threads, rows in found.items():
        for column, words in COLUMNS.items():
            ours, other = rows[OURS][column], rows[OTHER][column]
            bound = next((b for b in BOUNDS if b[:2] == (threads, column)), None)
            ratio = ours / other
            text = (
                f"{threads} threads: {ours:g} to {other:g} {words}, ratio {ratio:.2f}"
            )
            if bound is not None:
                text += f", at most {bound.most:g}"
                if ratio > bound.most:
                    beyond.append(text)
            print(text)
    for text in beyond:
        print(f"beyond its bound: {text}", file=sys.stderr)
    return int(bool(beyond))


if __name__ == "__main__":
    sys.exit(main())
