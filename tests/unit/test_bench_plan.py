# SPDX-License-Identifier: Apache-2.0
"""Scenarios are data, and a run alternates between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_messaging import engines, modes
from hybrid_messaging.bench import BenchError, scenarios
from hybrid_messaging.bench.buses import Bus
from hybrid_messaging.bench.measuring import staff
from hybrid_messaging.bench.parameters import Parameters
from hybrid_messaging.bench.plan import Step, groups, split, steps

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
            assert engines.is_available(engine.kind)


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


def at_peak(name: str, call: float, notify: float) -> dict[str, object]:
    return {
        "scenario": name,
        "part": "peak",
        "kinds": {
            "call": {"sending": {"rate": call}},
            "notify": {"arriving": {"rate": notify}},
        },
    }


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
