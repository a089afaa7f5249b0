# SPDX-License-Identifier: Apache-2.0
"""A run: engines up, one measurement after the other, each saved as it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hybrid_messaging import state_directory
from hybrid_messaging.bench import BenchError, buses, measuring, plan, result
from hybrid_messaging.bench.crew import Start
from hybrid_messaging.bench.machine import Host
from hybrid_messaging.bench.measurement import Measurement, Problem
from hybrid_messaging.bench.parameters import Parameters
from hybrid_messaging.bench.plan import Step
from hybrid_messaging.bench.result import Result
from hybrid_messaging.bench.scenarios import Scenario
from hybrid_messaging.engines import EngineError, Options

#: The file of a run's directory that holds its result.
RESULT_FILE = "result.json"
#: The file for people, beside it.
REPORT_FILE = "report.html"
#: The file for spreadsheets.
TABLE_FILE = "result.csv"
#: What can go wrong in one measurement without ending the others.
FAILURES = (BenchError, EngineError, state_directory.StateError)


@dataclass(frozen=True)
class Setup:
    """What to run, and where.

    :param parts: what to measure besides the peak, of `plan.PARTS`
    :param rates: messages per second for the part `plan.LOAD`; none for such as
        suit the peak
    :param given: transport URLs by role, for modes that take any
    :param engines: where the engines keep their state
    :param output: a directory, which is there
    """

    scenarios: Sequence[Scenario]
    parameters: Parameters
    engines: Path
    output: Path
    parts: Sequence[str] = ()
    rates: Sequence[float] = ()
    given: Mapping[str, str] = field(default_factory=dict)
    options: Options = field(default_factory=Options)


class Watcher:
    """Is told how a run goes; here it does not care."""

    progress: Callable[[str], None] = staticmethod(lambda line: None)

    def plan(self, steps: Sequence[Step]) -> None:
        """So many measurements are going to be made."""

    def begin(self, step: Step, number: int, total: int) -> None:
        """A measurement begins."""

    def end(self, step: Step, measurement: Measurement) -> None:
        """A measurement has ended."""

    def fail(self, step: Step, problem: str) -> None:
        """A measurement could not be made."""


def run(
    setup: Setup,
    watcher: Watcher,
    start: Start,
    hosts: Mapping[str, Host] | None = None,
) -> Result:
    """Make all measurements.

    The result is saved after each of them: whatever ends the run, what was
    measured is there. One that cannot be made is noted as a problem, and the
    others go on, unless nothing can be compared any more.

    :param start: starts a worker
    :param hosts: what is known about the hosts on which that is, by name
    :raises BenchError: if there is no scenario left that can be measured
    :raises EngineError: if an engine does not start in the beginning
    :raises StateError: if another benchmark is at work
    """
    found = result.new(setup.scenarios, setup.parameters, hosts or {})
    path = setup.output / RESULT_FILE
    result.save(path, found)

    def steps(measurements: Sequence[Measurement]) -> Iterator[Step]:
        return plan.steps(
            setup.scenarios, setup.parameters, setup.parts, setup.rates, measurements
        )

    planned = list(steps([]))
    # grows while the steps are made, which depend on it
    measurements: list[Measurement] = []
    watcher.plan(planned)
    with buses.brought_up(
        setup.scenarios, setup.engines, setup.given, setup.options, watcher.progress
    ) as ready:
        found = replace(found, engines=_versions(setup.scenarios, ready))
        for number, step in enumerate(steps(measurements), start=1):
            bus = ready.get(step.scenario.name)
            if bus is None:
                continue
            watcher.begin(step, number, len(planned))
            try:
                measurement = measuring.measure(step, bus, watcher.progress, start)
            except FAILURES as error:
                problems = (*found.problems, _problem(step, error))
                found = replace(found, problems=problems)
                result.save(path, found)
                watcher.fail(step, str(error))
                _mend(setup, step, ready, watcher.progress)
            else:
                measurements.append(measurement)
                found = replace(found, measurements=tuple(measurements))
                result.save(path, found)
                watcher.end(step, measurement)
    found = replace(found, complete=True)
    result.save(path, found)
    return found


def _problem(step: Step, error: Exception) -> Problem:
    # what follows the first line is the end of a log
    text = str(error).partition("\n")[0]
    return Problem(step.scenario.name, step.part, step.round, step.load, text)


def _mend(
    setup: Setup, step: Step, ready: dict[str, buses.Bus], progress: buses.Progress
) -> None:
    """After a failure, have the engines run again, or give up who needs them.

    A scenario without a peak is given up too: it cannot be compared.

    :raises BenchError: if no scenario is left
    """
    if step.part == plan.PEAK:
        del ready[step.scenario.name]
    for item in setup.scenarios:
        if item.mode == step.scenario.mode and item.name in ready:
            try:
                ready[item.name] = buses.bring_up(
                    item, setup.engines, setup.given, setup.options, progress
                )
            except FAILURES as error:
                progress(f"giving up {item.name}: {error}")
                del ready[item.name]
    if not ready:
        raise BenchError("no scenario could be measured")


def _versions(
    scenarios: Iterable[Scenario], ready: Mapping[str, buses.Bus]
) -> dict[str, dict[str, str]]:
    by_mode = {item.mode: ready[item.name] for item in scenarios}
    return {mode: bus.versions() for mode, bus in by_mode.items()}
