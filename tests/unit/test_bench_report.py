# SPDX-License-Identifier: Apache-2.0
"""Results are summed up, compared and shown."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.functional.commands import run as command

from hybrid_messaging.bench import BenchError, charts, report, result, summary
from hybrid_messaging.bench.latency import Latencies
from hybrid_messaging.bench.ledger import Account
from hybrid_messaging.bench.machine import Host
from hybrid_messaging.bench.measurement import (
    EngineUse,
    Event,
    Kind,
    Measurement,
    Moment,
    Problem,
    Second,
    Side,
    WorkerUse,
)
from hybrid_messaging.bench.parameters import Parameters
from hybrid_messaging.bench.result import Result
from hybrid_messaging.bench.scenarios import Scenario, select

HOSTS = {
    "blade-7": Host(
        host="blade-7",
        system="Linux",
        distribution="Debian",
        processor="fast",
        cpus=64,
        usable_cpus=64,
        memory=10**9,
        load_average=(0.0, 0.0, 0.0),
        versions={},
    )
}


def side(rate: float, milliseconds: float, gap: range = range(0)) -> Side:
    """What was measured where messages are sent or arrive, without some seconds."""
    latencies = Latencies()
    for index in range(int(rate)):
        latencies.record(milliseconds / 1e3 * (1 + index / 100))
    return Side(
        latency=latencies.encode(),
        latency_ms=latencies.figures(),
        seconds=tuple(
            Second(second, int(rate), milliseconds / 1e3)
            for second in range(11)
            if rate and second not in gap
        ),
        rate=rate,
    )


def measurement(
    scenario: str,
    rates: dict[str, float],
    part: str = "peak",
    round_: int = 1,
    load: float | None = None,
    gap: range = range(0),
    **account: int,
) -> Measurement:
    kinds = {
        kind: Kind(
            account=replace(Account(sent=100, received=100), **account),
            sending=side(rate, 2.0, gap),
            arriving=side(rate, 3.0, gap),
            failing=side(1.0 if gap else 0.0, 5000.0),
        )
        for kind, rate in rates.items()
    }
    return Measurement(
        scenario=scenario,
        part=part,
        round=round_,
        load=load,
        began="2026-01-02T03:04:05+00:00",
        start=1e9,
        warm_up=1.0,
        seconds=10.0,
        kinds=kinds,
        errors={"call: MessagingTimeout": 1},
        event=Event("router is restarted", 3.0, 5.0) if gap else None,
        overdue=0,
        machine_busy=0.9,
        engines={
            "router": EngineUse(("rpc",), 2.0, 50_000_000, (Moment(1.0, 0.1, 2000),))
        },
        workers={"worker-1": WorkerUse("client", ("rpc",), 1.0, 4000, 1)},
    )


def made(*measurements: Measurement) -> Result:
    found = result.new(select(["1", "4"]), Parameters(), HOSTS)
    return replace(found, complete=True, measurements=measurements)


def document(found: Result) -> dict[str, Any]:
    """What is saved of a result."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "result.json")
        result.save(path, found)
        saved: dict[str, Any] = json.loads(path.read_text())
    return saved


def both(call: float, notify: float) -> dict[str, float]:
    return {"call": call, "notify": notify}


WHOLE = made(
    measurement("1-single", both(100, 50)),
    measurement("4-hybrid", both(300, 60)),
    *(
        measurement(name, both(load / 2, load / 2), "load", load=load)
        for load in (20, 40)
        for name in ("1-single", "4-hybrid")
    ),
    *(
        measurement(name, {"call": 90.0}, "separation", load=0.0)
        for name in ("1-single", "4-hybrid")
    ),
    *(
        measurement(name, both(80, 40), "separation", load=load)
        for load in (40.0, None)
        for name in ("1-single", "4-hybrid")
    ),
    *(
        measurement(
            name, both(30, 30), "trouble-rpc", load=60, gap=range(4, 8), failed=2
        )
        for name in ("1-single", "4-hybrid")
    ),
)


def test_ratios_are_taken_within_a_round() -> None:
    found = summary.rows(
        made(
            measurement("1-single", {"call": 100}, round_=1),
            measurement("4-hybrid", {"call": 300}, round_=1),
            # the machine is busy with something else
            measurement("1-single", {"call": 10}, round_=2),
            measurement("4-hybrid", {"call": 20}, round_=2),
        )
    )
    assert [(row.scenario, row.rate, row.ratio) for row in found] == [
        ("1-single", 55, 1),
        ("4-hybrid", 160, 2.5),
    ]
    assert [row.account.sent for row in found] == [200, 200]


def test_cpu_time_belongs_to_what_it_carries() -> None:
    rows = {row.kind: row.cost for row in summary.rows(WHOLE) if row.part == "peak"}
    call = next(row.cost for row in summary.rows(WHOLE) if row.scenario == "1-single")
    assert call.engine_cpu_ms == pytest.approx(2.0)  # 2 s for 1000 calls
    assert call.worker_cpu_ms == pytest.approx(1.0)
    assert call.cpu_ms == pytest.approx(3.0)
    assert call.worker_waits == 4
    # three times as many calls in the same CPU time
    assert rows["call"].cpu_ratio == pytest.approx(1 / 3, abs=0.01)
    assert rows["notify"].engine_cpu_ms is rows["notify"].cpu_ms is None


def test_trouble_in_words() -> None:
    row = summary.trouble(WHOLE.measurements[-1])
    assert row.calls == summary.CallTrouble(sent=100, failed=2, wait=5.0, silence=4)
    assert row.took == 2.0
    assert row.notifications is not None
    assert row.notifications.unsent == 2


def test_all_of_a_run_is_in_the_csv(tmp_path: Path) -> None:
    rows = summary.rows(WHOLE)
    found = list(csv.DictReader(summary.to_csv(rows).splitlines()))
    assert len(found) == len(rows)
    assert found[0]["p99.9"]


def test_the_report_has_everything_and_loads_nothing() -> None:
    page = report.render(WHOLE)
    for heading in (
        *("Side by side", "How latencies are distributed", "Under load"),
        *(
            "Is RPC independent of notifications?",
            "What happens in a failure?",
            "All figures",
        ),
    ):
        assert f"<h2>{heading}</h2>" in page
    assert "blade-7" in page
    assert "hybrid answers 3.0 times as many calls as" in page
    assert not re.findall(r"(?:src|href|url)\s*[=(]", page)
    drawn = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawn) > 10
    for drawing in drawn:
        for element in ElementTree.fromstring(drawing).iter():
            assert "nan" not in " ".join(element.attrib.values()).lower().split()


@pytest.mark.parametrize(("load", "told"), [(0.2, False), (9.5, True)])
def test_a_busy_machine_is_told(load: float, told: bool) -> None:
    machine = replace(WHOLE.machine, usable_cpus=2, load_average=(load, 0.0, 0.0))
    page = report.render(replace(WHOLE, machine=machine))
    assert ("was busy when" in page) is told
    assert ("load average of 9.5 on 2 CPUs" in page) is told


def test_names_are_text_and_no_html() -> None:
    scenario = "<script>"
    page = report.render(
        replace(
            made(measurement(scenario, {"call": 5})),
            scenarios=[Scenario(scenario, "<em>", "rabbit")],
        )
    )
    assert "<script>" not in page and "<em>" not in page


@pytest.mark.parametrize(
    "measurements",
    [
        [],
        [measurement("1-single", {"notify": 0.0})],
        [measurement("4-hybrid", {"call": 10.0})],
    ],
)
def test_a_report_of_little(measurements: list[Measurement]) -> None:
    page = report.render(replace(made(*measurements), complete=False))
    assert "ended early" in page


def test_ticks_of_axes() -> None:
    assert [text for _, text in charts.linear("", [0, 430]).ticks][-1] == "500"
    axis = charts.logarithmic("", [0.7, 12])
    assert [text for _, text in axis.ticks] == ["0.5", "1", "2", "5", "10", "20"]
    assert (axis.place(0.5), axis.place(20)) == (0, 1)
    nines = charts.percentiles("")
    assert nines.place(99.9) == pytest.approx(1)
    assert nines.place(90) == pytest.approx(1 / 3)
    assert charts.linear("", []).place(0) == charts.linear("", [0.0]).place(0) == 0


def test_results_of_several_runs_stand_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        result.save(tmp_path / name / "result.json", WHOLE)
    page = tmp_path / "both.html"
    found = command(
        capsys,
        *("bench", "report", tmp_path / "before", tmp_path / "after" / "result.json"),
        *("--html", page, "-f", "json"),
    )
    assert found.code == 0
    names = {row["scenario"] for row in found.rows}
    assert names == {
        *("before: 1-single", "before: 4-hybrid"),
        *("after: 1-single", "after: 4-hybrid"),
    }
    assert "after: 4-hybrid" in page.read_text()


def test_an_old_result_is_rendered_beside_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result.save(tmp_path / "result.json", WHOLE)
    assert command(capsys, "bench", "report", tmp_path).code == 0
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "damaged: it is not valid JSON"),
        ("[]", "not a result"),
        (json.dumps({**document(WHOLE), "format": 99}), "another release"),
    ],
)
def test_files_that_are_no_results(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(BenchError, match=problem):
        result.load(path)


@pytest.mark.parametrize(
    "damage",
    [
        {"measurements": [{}]},
        {"machine": None},
        {"measurements": None},
        {"more": 1},
        {"parameters": {**vars(Parameters()), "sizes": {"-1": 1.0}}},
    ],
)
def test_a_damaged_result(tmp_path: Path, damage: dict[str, Any]) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**document(WHOLE), **damage}))
    with pytest.raises(BenchError, match="damaged"):
        result.load(path)


def test_a_result_in_json_is_as_it_was() -> None:
    """Programs of users read it."""
    found = document(WHOLE)
    assert {key: type(value) for key, value in found.items()} == {
        **{"format": int, "began": str, "complete": bool, "machine": dict},
        **{"versions": dict, "hosts": dict, "parameters": dict, "scenarios": list},
        **{"engines": dict, "measurements": list, "problems": list},
    }
    trouble = found["measurements"][-1]
    assert trouble["event"] == {"what": "router is restarted", "begin": 3, "end": 5}
    calls = trouble["kinds"]["call"]
    assert list(calls) == ["account", "sending", "failing", "arriving"]
    assert list(calls["sending"]) == ["latency", "latency_ms", "seconds", "rate"]
    assert calls["failing"]["seconds"][0] == [0, 1, 5.0]
    assert trouble["engines"] == {
        "router": {
            **{"roles": ["rpc"], "cpu_seconds": 2.0, "rss": 50_000_000},
            "seconds": [[1.0, 0.1, 2000]],
        }
    }


def test_what_could_not_be_measured_is_told() -> None:
    problem = Problem("4-hybrid", "load", 2, 30.0, "it <died>")
    page = report.render(replace(WHOLE, problems=[problem]))
    assert "4-hybrid load 30/s, round 2: it &lt;died&gt;" in page


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    result.save(path, made())
    with full_disk(), pytest.raises(BenchError, match="cannot write"):
        result.save(path, WHOLE)
    assert [item.name for item in tmp_path.iterdir()] == ["result.json"]
    assert result.load(path).measurements == ()


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    result.save(path, WHOLE)
    with pytest.raises(TypeError):
        result.save(path, replace(WHOLE, versions={"x": object()}))  # type: ignore[dict-item]
    with pytest.raises(BenchError, match="cannot write"):
        result.save(tmp_path / "none" / "result.json", WHOLE)
    assert [item.name for item in tmp_path.iterdir()] == ["result.json"]
    found = result.load(path)
    assert found.measurements == WHOLE.measurements
    assert found.parameters == WHOLE.parameters
    assert document(found) == document(WHOLE)
