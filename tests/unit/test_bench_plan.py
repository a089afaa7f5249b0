# SPDX-License-Identifier: Apache-2.0
"""Scenarios are data, and a run alternates between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.test_bench_report import measurement

from hybrid_messaging import modes
from hybrid_messaging.bench import BenchError, scenarios, troubles
from hybrid_messaging.bench.buses import Bus
from hybrid_messaging.bench.measurement import Measurement
from hybrid_messaging.bench.measuring import staff
from hybrid_messaging.bench.parameters import Parameters
from hybrid_messaging.bench.plan import (
    OVERHEAD,
    TROUBLE_TIMEOUT,
    Step,
    _level,
    _separated,
    groups,
    pace,
    split,
    steps,
)
from hybrid_messaging.engines import kinds

BUS = Bus("amqp://h/", "rabbit://h/", Path("/nowhere"))


def scenario_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scenarios"
    path.write_text(text)
    return path


def test_the_scenarios_that_come_along() -> None:
    names = [item.name for item in scenarios.select([])]
    assert names[:4] == ["1-single", "2-durable", "3-dual", "4-hybrid"]
    for item in scenarios.load().values():
        for engine in modes.get(item.mode).engines:
            assert kinds.is_available(engine.kind)


def test_scenarios_are_chosen_by_name_or_number() -> None:
    chosen = scenarios.select(["4", "1-single", "4-hybrid"])
    assert [item.name for item in chosen] == ["4-hybrid", "1-single"]


def test_an_unknown_scenario_is_told_those_there_are() -> None:
    with pytest.raises(BenchError, match=r"no scenario 'x'.*1-single"):
        scenarios.select(["x"])


def test_options_of_a_scenario_and_of_a_url() -> None:
    item = scenarios.Scenario("a", "", "rabbit", rpc={"k": "1", "l": "2"})
    assert item.url("rpc", "rabbit://h:1/?k=3") == "rabbit://h:1/?k=3&l=2"
    assert item.url("notify", "rabbit://h:1/") == "rabbit://h:1/"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nothing", "cannot read"),
        ("[a]\ntitle = x", "names no mode"),
        ("[a]\nmode = x", "scenario a: there is no mode 'x'"),
        ("[a]\nmode = rabbit\nrpc = x", "key=value"),
        ("[a]\nmode = rabbit\nnotfy = x=y", "unknown keys: notfy"),
        ("[a]\nmode = rabbit\ndefault = perhaps", "scenario a: Not a boolean"),
    ],
)
def test_files_that_have_no_scenarios(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(BenchError, match=problem):
        scenarios.load(scenario_file(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="cannot read"):
        scenarios.load(tmp_path / "none")


def test_a_file_of_ones_own_is_measured_whole(tmp_path: Path) -> None:
    path = scenario_file(tmp_path, "[a]\nmode = rabbit\n[b]\nmode = rabbit-dual\n")
    assert [item.name for item in scenarios.select([], path)] == ["a", "b"]


def test_scenarios_alternate() -> None:
    both = scenarios.select(["1", "4"])
    planned = list(steps(both, Parameters(rounds=2), ["load"], [50.0], []))
    assert [(step.scenario.name[0], step.load, step.round) for step in planned] == [
        ("1", None, 1),
        ("4", None, 1),
        ("1", None, 2),
        ("4", None, 2),
        ("1", 50, 1),
        ("4", 50, 1),
        ("1", 50, 2),
        ("4", 50, 2),
    ]


def at_peak(name: str, call: float, notify: float) -> Measurement:
    return measurement(name, {"call": call, "notify": notify})


def test_rates_suit_the_slowest_scenario() -> None:
    both = scenarios.select(["1", "4"])
    measured = [at_peak("1-single", 200, 100), at_peak("4-hybrid", 900, 150)]
    parameters = Parameters(rounds=1)
    parts = ["load", "separation", "trouble"]
    found: dict[str, list[float | None]] = {}
    for step in steps(both, parameters, parts, [], measured):
        loads = found.setdefault(step.part, [])
        if step.load not in loads:
            loads.append(step.load)
    assert found == {
        "peak": [None],
        "load": [60, 120, 180],
        # of the notifications
        "separation": [0, 25, 50, 75, None],
        "trouble-server": [60],
        "trouble-rpc": [60],
        "trouble-notify": [60],
    }


def test_how_many_there_will_be_is_known_before() -> None:
    both = scenarios.select(["1", "4"])
    parts = ["load", "separation", "trouble"]
    measured = [at_peak("1-single", 200, 100), at_peak("4-hybrid", 900, 150)]
    before = list(steps(both, Parameters(), parts, [], []))
    assert len(before) == len(list(steps(both, Parameters(), parts, [], measured)))


def test_trouble_that_a_mode_can_have() -> None:
    both = scenarios.select(["1", "4", "external"])
    planned = steps(both, Parameters(), ["trouble"], [], [])
    found = {(step.scenario.name[0], step.trouble) for step in planned if step.trouble}
    # the broker of scenario 1 carries both: it has restarted already
    assert found == {
        *(("1", "server"), ("1", "rpc")),
        *(("4", "server"), ("4", "rpc"), ("4", "notify")),
        ("e", "server"),
    }


@pytest.mark.parametrize(
    ("count", "parts", "expected"),
    [
        (4, [1, 1], [2, 2]),
        (2, [99, 1], [1, 1]),
        (10, [4, 1], [8, 2]),
        (3, [1], [3]),
    ],
)
def test_sharing_out_processes(
    count: int, parts: list[float], expected: list[int]
) -> None:
    assert split(count, parts) == expected


def test_a_rate_is_shared_out() -> None:
    rpc, notify = groups(Parameters(rpc_share=75), 100)
    assert (rpc.rate, rpc.producers) == (75, 3)
    assert (notify.rate, dict(notify.mix)) == (25, {"notify": 1})


def peak(parameters: Parameters) -> Step:
    scenario = scenarios.select(["4"])[0]
    return Step(scenario, "peak", 1, groups(parameters), parameters)


def tasks(**values: object) -> list[str]:
    parameters = Parameters(**values)  # type: ignore[arg-type]
    return [item.task for item in staff(peak(parameters), BUS)]


def test_who_does_what() -> None:
    assert tasks() == [
        *("server", "listener"),
        *("client", "client", "notifier", "notifier"),
    ]
    assert tasks(producers=1, consumers=1) == ["consumer", "producer"]
    assert tasks(rpc_share=100, consumers=3, producers=1) == ["server"] * 3 + ["client"]
    assert tasks(rpc_share=0, consumers=1, producers=2) == [
        *("listener", "notifier", "notifier")
    ]


def test_workers_are_placed_one_after_the_other() -> None:
    parameters = Parameters(cpus=(1, 3))
    assert [item.cpu for item in staff(peak(parameters), BUS)] == [1, 3] * 3


def test_a_step_says_what_it_is_and_how_long_it_takes() -> None:
    step = peak(Parameters(warm_up=1, duration=3))
    assert str(step) == "4-hybrid peak, round 1"
    assert str(replace(step, load=12.5)) == "4-hybrid peak 12.5/s, round 1"
    assert step.seconds == 1 + 3 + OVERHEAD


def test_only_what_is_asked_for_is_measured_beside_the_peak() -> None:
    both = scenarios.select(["4"])
    planned = list(steps(both, Parameters(rounds=1), [], [50.0], []))
    assert [step.part for step in planned] == ["peak"]


def test_trouble_leaves_one_server_and_ends_within_the_measurement() -> None:
    scenario = scenarios.select(["4"])

    def planned(**values: object) -> list[Step]:
        parameters = Parameters(**values)  # type: ignore[arg-type]
        found = steps(scenario, parameters, ["trouble"], [], [])
        return [step for step in found if step.trouble]

    for step in planned(consumers=2, timeout=60, duration=1):
        assert step.round == 1
        assert step.parameters.consumers == 4
        assert step.parameters.timeout == TROUBLE_TIMEOUT
        assert step.parameters.duration == troubles.TROUBLES[step.trouble].duration
    for step in planned(consumers=6, timeout=3, duration=1000):
        assert step.parameters.consumers == 6
        assert step.parameters.timeout == 3
        assert step.parameters.duration == 1000


def test_the_pace_is_that_of_the_peak_and_of_the_kinds_that_were_measured() -> None:
    assert pace([]) == 0
    other = replace(at_peak("1-single", 1, 1), part="load")
    assert pace([at_peak("1-single", 200, 100), other]) == 100
    assert pace([at_peak("1-single", 100, 200)], ["notify"]) == 200
    calls_only = measurement("4-hybrid", {"call": 50})
    assert pace([calls_only, at_peak("1-single", 300, 80)], ["notify"]) == 80
    # the median of the rounds, of the slowest
    rounds = [at_peak("1-single", rate, 900) for rate in (10, 500, 30)]
    assert pace(rounds) == 30


@pytest.mark.parametrize(
    ("part", "rate", "level"),
    [
        (0.3, 200, 60),
        (0.3, 41, 10),
        # 10 and more by fives, less by ones, and never nothing
        (0.5, 20, 10),
        (0.5, 25, 10),
        (0.5, 26, 15),
        (0.5, 21, 10),
        (0.3, 10, 3),
        (0.3, 32, 10),
        (0.3, 31, 9),
        (0.1, 107, 10),
        (0.3, 1, 1),
        (0.0, 200, 0),
    ],
)
def test_rates_are_numbers_that_people_like(
    part: float, rate: float, level: float
) -> None:
    assert _level(part, rate) == level


def test_a_producer_for_each_side_is_enough() -> None:
    assert [group.producers for group in groups(Parameters(producers=2))] == [1, 1]
    assert [group.producers for group in groups(Parameters(producers=1))] == [1]
    assert split(2, [1, 99]) == [1, 1]
    assert split(3, [1, 99]) == [1, 2]


@pytest.mark.parametrize(
    ("producers", "expected"), [(1, (1, 1)), (2, (1, 1)), (4, (2, 2)), (5, (2, 3))]
)
def test_calls_and_notifications_are_sent_side_by_side(
    producers: int, expected: tuple[int, int]
) -> None:
    parameters = Parameters(producers=producers)
    for rate in (1, None):
        rpc, notify = _separated(parameters, rate)
        assert (rpc.producers, notify.producers) == expected
        assert (rpc.mix, rpc.rate) == (parameters.rpc_mix, None)
        assert (notify.mix, notify.rate) == ({"notify": 1.0}, rate)
    # beside none at all, calls are alone
    [alone] = _separated(parameters, 0)
    assert (alone.producers, alone.mix) == (expected[0], parameters.rpc_mix)
