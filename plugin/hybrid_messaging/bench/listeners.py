# SPDX-License-Identifier: Apache-2.0
"""Many listeners of one topic: fanouts, first calls, and the loss of the engine."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from hybrid_messaging.bench import buses
from hybrid_messaging.bench.assignment import Assignment, Clock
from hybrid_messaging.bench.buses import Bus
from hybrid_messaging.bench.crew import Crew, LocalWorkers

#: Listeners of each process, and threads of each listener.
EACH = 50
POOL = 2
#: Seconds that processes may take to start, and their listeners to connect.
START_TIMEOUT = 300.0
#: Seconds that a fanout may take until all listeners have it.
FANOUT_PATIENCE = 60.0
#: Seconds that all servers may take to answer after the engine is back.
ANSWER_PATIENCE = 120.0
#: Seconds for a call.
TIMEOUT = 30.0

#: The clients: one that fans out, those that call and their threads, one that is made
#: after the engine was lost.
FANNING_OUT, FRESH = "fanning-out", "fresh"
CALLING = {"calling": 1, "calling-8": 8}

_WORKER = "hybrid_messaging.bench.listeners_worker"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Figures:
    """What was measured once.

    :param first_fanout_ms: until all listeners have the first fanout of a client; None
        if that did not happen
    :param fanout_ms: the same for those after it, the median
    :param fanout_return_ms: until the sender goes on, of these
    :param missed: listeners that have not got a fanout, over all fanouts
    :param first_calls_per_s: the first calls of a client, one to each server, one
        after the other
    :param first_calls_8_per_s: the same of another client with eight threads
    :param calls_failed: of these
    :param engine_away_s: from the end of the engine until it is ready again
    :param answer_s: from then on, until all servers have answered a client that was
        there before; None if that did not happen
    :param answer_fresh_s: the same for a new client
    """

    first_fanout_ms: float | None
    fanout_ms: float | None
    fanout_return_ms: float
    missed: int
    first_calls_per_s: float
    first_calls_8_per_s: float
    calls_failed: int
    engine_away_s: float
    answer_s: float | None
    answer_fresh_s: float | None


#: The names of all figures.
FIGURES = [item.name for item in fields(Figures)]


def measure(
    bus: Bus, count: int, fanouts: int, bring_up: Callable[[], Any], progress: Progress
) -> Figures:
    """Measure a bus with so many listeners.

    :param count: how many listeners
    :param fanouts: how many fanouts after the first
    :param bring_up: starts the bus' engine again after it was killed
    :raises BenchError: if processes do not start, connect or answer
    """
    common: dict[str, Any] = {
        "token": secrets.token_hex(4),
        "rpc_url": bus.rpc_url,
        "notify_url": "",
        "timeout": TIMEOUT,
    }
    names = [f"listener-{number + 1}" for number in range(count)]
    serving = [
        Assignment(
            f"process-{begin // EACH + 1}",
            **common,
            serve=True,
            servers=names[begin : begin + EACH],
            pool=POOL,
        )
        for begin in range(0, count, EACH)
    ]
    # each is fresh when it begins what it is for
    calling = [
        Assignment(name, **common, mix={"call": 1.0}, directed=names)
        for name in (FANNING_OUT, *CALLING, FRESH)
    ]
    assignments = [*serving, *calling]
    try:
        with LocalWorkers(_WORKER) as local, Crew(assignments, local.start) as crew:
            everybody = [item.name for item in assignments]
            crew.gather(everybody, "awake", START_TIMEOUT, "started")
            processes = [item.name for item in serving]
            crew.tell(processes, "connect")
            crew.gather(processes, "ready", START_TIMEOUT, "connected")
            first, *others = _fan_out(crew, processes, count, 1 + fanouts)
            (alone, of_eight), failed = _call_each(crew, count)
            away, old, fresh = _lose_the_engine(crew, bus, bring_up)
    finally:
        buses.clean_up(assignments, progress)
    whole = [item.seconds for item in others if item.seconds is not None]
    return Figures(
        _ms(first.seconds),
        _ms(statistics.median(whole)) if len(whole) == len(others) else None,
        statistics.median(item.returned for item in others) * 1e3,
        sum(item.missed for item in (first, *others)),
        alone,
        of_eight,
        failed,
        away,
        old,
        fresh,
    )


@dataclass(frozen=True)
class _Fanout:
    """One fanout.

    :param seconds: until all listeners have it; None if that did not happen
    :param returned: seconds until its sender goes on
    :param missed: listeners that have not got it
    """

    seconds: float | None
    returned: float
    missed: int


def _fan_out(
    crew: Crew, processes: list[str], count: int, fanouts: int
) -> Iterator[_Fanout]:
    """Have a fresh client send fanouts, each when all have the one before."""
    _connect(crew, FANNING_OUT)
    for number in range(fanouts):
        crew.tell([FANNING_OUT], "fanout", number=number)
        sent = _gather(crew, FANNING_OUT, "sent", FANOUT_PATIENCE)
        deadline = time.monotonic() + FANOUT_PATIENCE
        while crew.lacking(processes, "all") and time.monotonic() < deadline:
            crew.listen(deadline - time.monotonic())
        crew.tell(processes, "count", number=number)
        counts = crew.gather(processes, "count", START_TIMEOUT, "counted")
        missed = count - sum(event["taken"] for event in counts.values())
        whole = [] if missed else crew.gather(processes, "all", 1.0, "had it").values()
        yield _Fanout(
            max(event["moment"] for event in whole) - sent["begin"] if whole else None,
            sent["end"] - sent["begin"],
            missed,
        )


def _call_each(crew: Crew, count: int) -> tuple[list[float], int]:
    """Have fresh clients call each server; their rates, and how many did not answer."""
    rates, failed = [], 0
    for name, threads in CALLING.items():
        _connect(crew, name)
        crew.tell([name], "call_each", threads=threads)
        called = _gather(crew, name, "called", START_TIMEOUT)
        rates.append((count - called["failed"]) / called["seconds"])
        failed += called["failed"]
    return rates, failed


def _lose_the_engine(
    crew: Crew, bus: Bus, bring_up: Callable[[], Any]
) -> tuple[float, float | None, float | None]:
    """Kill the engine, start it again, and wait until all servers answer.

    :returns: seconds without the engine; seconds from then on for a client that was
        there before, and for a fresh one
    """
    clock = Clock()
    killed = clock.now()
    bus.kill("rpc")
    bring_up()
    ready = clock.now()
    _connect(crew, FRESH)
    both = [next(iter(CALLING)), FRESH]
    crew.tell(both, "await_all", patience=ANSWER_PATIENCE)
    answers = [
        _gather(crew, name, "answered", ANSWER_PATIENCE + TIMEOUT) for name in both
    ]
    old, fresh = (
        None if event["silent"] else event["moment"] - ready for event in answers
    )
    return ready - killed, old, fresh


def _connect(crew: Crew, name: str) -> None:
    crew.tell([name], "connect")
    _gather(crew, name, "ready", START_TIMEOUT)


def _gather(crew: Crew, name: str, event: str, timeout: float) -> dict[str, Any]:
    return crew.gather([name], event, timeout, f"told that it is {event}")[name]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
