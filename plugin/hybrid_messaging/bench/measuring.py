# SPDX-License-Identifier: Apache-2.0
"""One measurement: workers start, warm up, are measured, drained and accounted for."""

from __future__ import annotations

import contextlib
import datetime
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hybrid_messaging.bench import buses, ledger
from hybrid_messaging.bench.assignment import Assignment, Clock, Timing
from hybrid_messaging.bench.buses import Bus
from hybrid_messaging.bench.crew import Crew, Start
from hybrid_messaging.bench.latency import Latencies
from hybrid_messaging.bench.measurement import (
    EngineUse,
    Event,
    Kind,
    Measurement,
    Moment,
    Second,
    Side,
    WorkerUse,
)
from hybrid_messaging.bench.parameters import KINDS, NOTIFY, Parameters
from hybrid_messaging.bench.plan import Group, Step, split
from hybrid_messaging.bench.troubles import TROUBLES
from hybrid_messaging.bench.usage import Sample, Watch, machine_cpu
from hybrid_messaging.bench.worker_reports import Consumed, Produced, Tallied, Usage
from hybrid_messaging.workers import Event as WorkerEvent

#: Seconds that workers may take to start, and then to connect.
START_TIMEOUT = 120.0
#: Seconds between telling the workers when to start and that time.
LEAD = 0.5
#: Seconds beyond the timeout of a call that producers may take to end.
END_GRACE = 10.0
REPORT_TIMEOUT = 60.0
#: Seconds between two looks at the engines.
TICK = 1.0
#: How much of the measured interval has passed when there is trouble.
TROUBLE_AFTER = 0.2

Progress = Callable[[str], None]
WorkerEvents = dict[str, WorkerEvent]


def measure(
    step: Step,
    bus: Bus,
    progress: Progress,
    start: Start,
) -> Measurement:
    """Make one measurement.

    :param progress: takes lines about what goes wrong on the way
    :param start: starts a worker
    :raises BenchError: if workers do not start, connect or answer
    """
    parameters = step.parameters
    assignments = staff(step, bus)
    producers = [item.name for item in assignments if item.mix]
    consumers = [item.name for item in assignments if not item.mix]
    everybody = consumers + producers
    watch, clock = Watch(bus), Clock()
    began = datetime.datetime.now(datetime.timezone.utc)
    try:
        buses.prepare(assignments)
        with Crew(assignments, start) as crew:
            crew.gather(everybody, "awake", START_TIMEOUT, "started")
            # servers first: a call wants one
            for group in (consumers, producers):
                crew.tell(group, "connect")
                crew.gather(group, "ready", START_TIMEOUT, "connected")
            timing = Timing(clock.now() + LEAD, parameters.warm_up, parameters.duration)
            crew.tell(everybody, "start", **asdict(timing))
            with _trouble(step, crew, assignments, bus, timing, clock) as events:
                observed = _observe(crew, watch, timing, clock)
            _await_end(crew, producers, parameters.timeout + END_GRACE)
            reports = _report(crew, producers)
            produced = [Produced.read(item["measured"]) for item in reports.values()]
            _drain(crew, consumers, assignments, produced, parameters.drain)
            reports |= _report(crew, consumers)
    finally:
        buses.clean_up(assignments, progress)
    consumed = {
        name: Consumed.read(reports[name]["measured"])
        for name in consumers
        if name in reports
    }
    return Measurement(
        scenario=step.scenario.name,
        part=step.part,
        round=step.round,
        load=step.load,
        began=began.isoformat(timespec="seconds"),
        start=round(timing.start, 3),
        warm_up=parameters.warm_up,
        seconds=parameters.duration,
        kinds=_kinds(assignments, produced, consumed, parameters),
        errors=_sum(report.errors for report in produced),
        event=next(iter(events), None),
        overdue=sum(report.overdue for report in produced),
        engines={
            item.name: _engine(item.roles, observed.engines[item.name])
            for item in bus.engines()
            if item.name in observed.engines
        },
        machine_busy=observed.machine_busy,
        workers={
            item.name: WorkerUse(
                task=item.task,
                roles=item.roles,
                **asdict(Usage(**reports[item.name]["usage"])),
            )
            for item in assignments
            if item.name in reports
        },
    )


@contextlib.contextmanager
def _trouble(
    step: Step,
    crew: Crew,
    assignments: Sequence[Assignment],
    bus: Bus,
    timing: Timing,
    clock: Clock,
) -> Iterator[list[Event]]:
    """Have a step's trouble happen meanwhile, and tell what and when it was."""
    events: list[Event] = []
    problems: list[Exception] = []

    def happen() -> None:
        assert step.trouble is not None
        clock.sleep_until(timing.begin + TROUBLE_AFTER * timing.duration)
        begin = clock.now() - timing.start
        try:
            what = TROUBLES[step.trouble].happen(crew, assignments, bus)
        except Exception as error:
            problems.append(error)
            return
        end = clock.now() - timing.start
        events.append(Event(what, round(begin, 2), round(end, 2)))

    thread = threading.Thread(target=happen, daemon=True)
    if step.trouble:
        thread.start()
    yield events
    if step.trouble:
        thread.join()
        if problems:
            raise problems[0]


def staff(step: Step, bus: Bus) -> list[Assignment]:
    """Who does what: consumers first."""
    parameters = step.parameters
    made: list[dict[str, Any]] = _consumers(step.groups, parameters)
    for group in step.groups:
        made += [
            {
                "mix": dict(group.mix),
                "sizes": list(parameters.sizes.items()),
                "rate": group.rate,
                "lanes": group.producers * parameters.threads,
                "first_lane": index * parameters.threads,
                "threads": parameters.threads,
                "timeout": parameters.timeout,
            }
            for index in range(group.producers)
        ]
    common: dict[str, Any] = {
        "token": secrets.token_hex(4),
        "rpc_url": bus.rpc_url,
        "notify_url": bus.notify_url,
    }
    cpus = parameters.cpus
    return [
        Assignment(
            name=f"worker-{index + 1}",
            **common,
            **values,
            cpu=cpus[index % len(cpus)] if cpus else None,
        )
        for index, values in enumerate(made)
    ]


def _consumers(groups: Sequence[Group], parameters: Parameters) -> list[dict[str, Any]]:
    """Servers and listeners; one process that is alone is both."""
    # the same ones whether there are notifications at the moment or not
    kinds = {kind for group in groups for kind in group.mix} | parameters.mix.keys()
    both = {"serve": bool(kinds - {NOTIFY}), "listen": NOTIFY in kinds}
    needed = [role for role, wanted in both.items() if wanted]
    if parameters.consumers < len(needed):
        return [dict(both)]
    share = parameters.rpc_share / 100
    counts = split(parameters.consumers, [share, 1 - share][: len(needed)])
    return [
        {role: True}
        for role, count in zip(needed, counts, strict=True)
        for _ in range(count)
    ]


@dataclass(frozen=True)
class _Observed:
    """What was seen of this machine.

    :param engines: looks at each, at seconds since the start of the load
    :param machine_busy: part of the processor time that was used by anybody
    """

    engines: Mapping[str, Sequence[tuple[float, Sample]]]
    machine_busy: float | None


def _observe(crew: Crew, watch: Watch, timing: Timing, clock: Clock) -> _Observed:
    """Look at the engines until the load is over."""
    series: dict[str, list[tuple[float, Sample]]] = {}
    busy, idle = 0.0, 0.0
    moment = timing.begin
    while True:
        _listen_until(crew, clock, moment)
        for name, sample in watch.look().items():
            series.setdefault(name, []).append((clock.now() - timing.start, sample))
        if moment == timing.begin:
            busy, idle = machine_cpu()
        if moment >= timing.end:
            break
        moment = min(moment + TICK, timing.end)
    more_busy, more_idle = machine_cpu()
    passed = (more_busy - busy) + (more_idle - idle)
    share = round((more_busy - busy) / passed, 3) if passed else None
    return _Observed(series, share)


def _engine(roles: Sequence[str], points: Sequence[tuple[float, Sample]]) -> EngineUse:
    first, last = points[0][1], points[-1][1]
    return EngineUse(
        roles=roles,
        cpu_seconds=round(last.cpu - first.cpu, 3),
        rss=max(sample.rss for _, sample in points),
        seconds=[
            Moment(round(moment, 2), sample.cpu, sample.rss)
            for moment, sample in points
        ],
    )


def _listen_until(crew: Crew, clock: Clock, moment: float) -> None:
    while (left := moment - clock.now()) > 0:
        crew.listen(left)


def _await_end(crew: Crew, producers: Sequence[str], timeout: float) -> None:
    """Wait for producers; what one still has under way then counts as failed."""
    deadline = time.monotonic() + timeout
    while crew.lacking(producers, "done") and time.monotonic() < deadline:
        crew.listen(deadline - time.monotonic())


def _report(crew: Crew, names: Sequence[str]) -> WorkerEvents:
    crew.tell(names, "report")
    return crew.gather(names, "report", REPORT_TIMEOUT, "reported")


def _drain(
    crew: Crew,
    consumers: Sequence[str],
    assignments: Iterable[Assignment],
    produced: Sequence[Produced],
    patience: float,
) -> None:
    """Wait until everything has come, or nothing more for `patience` seconds."""
    ledgers = [report.succeeded for report in produced]
    servers = sum(item.serve for item in assignments)
    expected = {
        kind: ledger.settle(kind, ledgers, ledgers, [[]]).sent
        * (servers if kind == "fanout" else 1)
        for kind in KINDS
        if kind != "call"
    }
    before: Mapping[str, int] = {}
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        now = _sum(crew.counts.get(name, {}) for name in consumers)
        if all(now.get(kind, 0) >= number for kind, number in expected.items()):
            return
        if now != before:
            before, deadline = now, time.monotonic() + patience
        crew.listen(deadline - time.monotonic())


def _kinds(
    assignments: Sequence[Assignment],
    produced: Sequence[Produced],
    consumed: Mapping[str, Consumed],
    parameters: Parameters,
) -> dict[str, Kind]:
    """By kind of message: its account, its rates and its latencies."""
    listening = {item.name for item in assignments if item.listen}
    serving = {item.name for item in assignments if item.serve}
    kinds = {kind for item in assignments for kind in item.mix}

    def side(kind: str, tallies: Iterable[Mapping[str, Tallied]]) -> Side:
        parts = [tally[kind] for tally in tallies if kind in tally]
        return _side(parts, parameters.duration)

    return {
        kind: Kind(
            account=ledger.settle(
                kind,
                [report.begun for report in produced],
                [report.succeeded for report in produced],
                [
                    consumed[name].received
                    for name in (listening if kind == NOTIFY else serving)
                    if name in consumed
                ],
            ),
            sending=side(kind, (report.sending for report in produced)),
            failing=side(kind, (report.failing for report in produced)),
            arriving=side(kind, (report.arriving for report in consumed.values())),
        )
        for kind in KINDS
        if kind in kinds
    }


def _side(parts: Sequence[Tallied], duration: float) -> Side:
    """Add up what several workers have measured of one kind."""
    seconds: dict[int, Second] = {}
    for part in parts:
        for item in part.seconds:
            before = seconds.get(item.second, Second(item.second, 0, 0.0))
            seconds[item.second] = Second(
                item.second,
                before.messages + item.messages,
                max(before.longest, item.longest),
            )
    latencies = Latencies.merged(part.latency for part in parts if part.latency)
    return Side(
        latency=latencies.encode(),
        latency_ms=latencies.figures(),
        seconds=[seconds[second] for second in sorted(seconds)],
        rate=round(sum(part.count for part in parts) / duration, 2),
    )


def _sum(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total
