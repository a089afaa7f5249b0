# SPDX-License-Identifier: Apache-2.0
"""The benchmark against real engines: what was sent has come, and nothing is left."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.functional.deployments import NOWHERE, Deployment, deployed
from tests.functional.routers import Router
from tests.functional.waiting import until

from hybrid_messaging.bench import (
    measuring,
    report,
    result,
    run,
    scenarios,
    summary,
    troubles,
)
from hybrid_messaging.bench.buses import Bus
from hybrid_messaging.bench.crew import LocalWorkers
from hybrid_messaging.bench.measurement import Measurement
from hybrid_messaging.bench.parameters import Parameters
from hybrid_messaging.bench.plan import Step, groups
from hybrid_messaging.bench.troubles import TROUBLES
from hybrid_messaging.engines import Options, kinds, rabbitmq_management

TIMEOUT = 280
#: Two scenarios that one deployment serves.
SCENARIOS = """
[durable]
mode = qpid-hybrid
notify = amqp_durable_queues=true

[fleeting]
mode = qpid-hybrid
"""
#: As short as it can be.
SHORT = ("--warm-up", "0.2", "--duration", "2", "--rounds", "1")


EVENTS = {
    "server": "one of the servers hangs and is killed",
    "rpc": "router is restarted",
}


class Outcome(NamedTuple):
    """What a run on the command line has ended with."""

    code: int
    rows: list[dict[str, Any]]
    told: str


def start(*words: object, **env: str) -> subprocess.Popen[str]:
    """Start `bench` in a process of its own, as a user does."""
    program = Path(sys.executable).with_name("hybrid-messaging")
    clean = {key: value for key, value in os.environ.items() if "HYBRID_R" not in key}
    return subprocess.Popen(
        [program, "bench", *map(str, words)],
        env={**clean, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def bench(*words: object, **env: str) -> Outcome:
    process = start(*words, "-f", "json", **env)
    output, told = process.communicate(timeout=TIMEOUT)
    return Outcome(process.returncode, json.loads(output or "[]"), told)


def all_is_accounted_for(outcome: Outcome) -> None:
    """Nothing is lost; a call may fail where the machine is too busy to answer."""
    failed = 0
    for row in outcome.rows:
        assert row["sent"] > 0
        assert row["lost"] == row["duplicated"] == 0, outcome.told
        assert row["received"] + row["failed"] >= row["sent"]
        failed += row["failed"]
    assert outcome.code == bool(failed), outcome.told
    assert f"0 lost, 0 duplicated, {failed} failed" in outcome.told


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A whole `qpid-hybrid`, whose URLs are given to the benchmark."""
    with deployed(tmp_path_factory.mktemp("bench") / "state") as made:
        made.up()
        yield made


@pytest.fixture(scope="module")
def given(hybrid: Deployment) -> dict[str, str]:
    return {
        "HYBRID_RPC_URL": hybrid.engine("router").url,
        "HYBRID_NOTIFY_URL": hybrid.engine("rabbitmq").url,
    }


def test_engines_of_its_own(tmp_path: Path) -> None:
    table = tmp_path / "scenarios"
    table.write_text(SCENARIOS)
    engines, output = tmp_path / "engines", tmp_path / "result"
    outcome = bench(
        *("run", "--scenarios", table, "--router", "embedded", "--parts", "none"),
        *("--state-dir", engines, "--output", output, *SHORT),
    )
    all_is_accounted_for(outcome)
    assert not engines.exists()

    shown = {(row["scenario"], row["part"], row["kind"]) for row in outcome.rows}
    assert shown == {
        (scenario, "peak", kind)
        for scenario in ("durable", "fleeting")
        for kind in ("call", "notify")
    }
    for row in outcome.rows:
        assert 0 < row["min"] <= row["p50"] <= row["p99.9"] <= row["max"]
        assert row["engine_cpu_ms"] is not None and row["engine_mb"] > 10
        assert row["worker_cpu_ms"] is not None and row["worker_waits"] > 0

    result = json.loads((output / "result.json").read_text())
    assert result["complete"]
    assert result["engines"]["qpid-hybrid"]["rabbitmq"]
    assert result["parameters"]["duration"] == 2
    assert result["versions"]["oslo.messaging"]
    assert len(result["measurements"]) == 2
    with (output / "result.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(outcome.rows)
    assert "<h2>Side by side</h2>" in (output / "report.html").read_text()


def test_servers_of_ones_own_are_left_as_they_were(
    hybrid: Deployment, given: dict[str, str], tmp_path: Path
) -> None:
    outcome = bench(
        *("run", "--output", tmp_path, "--state-dir", tmp_path / "none", *SHORT),
        *("--parts", "none", "--rpc-mix", "call=2,cast,fanout", "--size", "10=9,20000"),
        *("--producers", "1", "--consumers", "3"),
        **given,
    )
    all_is_accounted_for(outcome)
    rows = {row["kind"]: row for row in outcome.rows}
    assert list(rows) == ["call", "cast", "fanout", "notify"]
    # each fanout is for both servers
    assert rows["fanout"]["sent"] % 2 == 0
    broker = hybrid.engine("rabbitmq")
    names = [item["name"] for item in rabbitmq_management.queues(broker)]
    names += [item["name"] for item in rabbitmq_management.exchanges(broker)]
    assert not [name for name in names if "bench" in name]
    for secret in (broker.details.password, broker.url):
        assert secret not in (tmp_path / "result.json").read_text()
        assert secret not in outcome.told


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    outcome = bench(
        *("run", "--output", tmp_path, "--rpc-share", "100", *SHORT),
        *("--state-dir", tmp_path / "none", "--rpc-url", "amqp://127.0.0.1:1/"),
        *("--notify-url", NOWHERE["notify"]),
    )
    assert outcome.code == 1
    assert "127.0.0.1:1" in outcome.told
    assert json.loads((tmp_path / "result.json").read_text())["complete"] is False


@pytest.mark.parametrize("trouble", ["server", "rpc"])
def test_trouble(hybrid: Deployment, trouble: str) -> None:
    """Even then every message is accounted for, and no notification is lost."""
    parameters = Parameters(
        producers=2, consumers=4, warm_up=0.2, duration=3.0, drain=20.0, timeout=10.0
    )
    step = Step(
        scenarios.select(["4"])[0],
        f"trouble-{trouble}",
        1,
        groups(parameters, 60),
        parameters,
        60,
        trouble,
    )
    before = hybrid.engine("router").pid
    bus = Bus(hybrid.engine("router").url, hybrid.engine("rabbitmq").url, hybrid.dir)
    with LocalWorkers() as local:
        found = measuring.measure(step, bus, lambda line: None, local.start)
    calls = found.kinds["call"].account
    assert calls.sent == (
        calls.received + calls.lost + calls.failed - calls.failed_received
    )
    notifications = found.kinds["notify"].account
    assert notifications.sent == notifications.received > 0
    assert found.event is not None
    assert found.event.what == EVENTS[trouble]
    assert (hybrid.engine("router").pid != before) is (trouble == "rpc")
    row = summary.trouble(found)
    assert row.calls is not None
    assert row.calls.sent == calls.sent > 0


def test_workers_on_other_hosts(
    given: dict[str, str], tmp_path: Path, own_control: str
) -> None:
    """Two hosts, which are this one, steered over a bus that is not under test."""
    names = ("first", "second")
    control = ("--control", own_control)
    hosts = [start("worker", *control, "--name", name) for name in names]
    try:
        outcome = bench(
            *("run", "--output", tmp_path, "--state-dir", tmp_path / "none", *SHORT),
            *("--parts", "none", *control, "--hosts", "2"),
            **given,
        )
        all_is_accounted_for(outcome)
        result = json.loads((tmp_path / "result.json").read_text())
        assert set(result["hosts"]) == set(names)
        tasks = [item["task"] for item in result["measurements"][0]["workers"].values()]
        assert len(tasks) == 6
    finally:
        for process in hosts:
            process.terminate()
            process.communicate(timeout=TIMEOUT)
    assert [process.returncode for process in hosts] == [128 + signal.SIGTERM] * 2


@pytest.fixture
def own_control(tmp_path: Path) -> Iterator[str]:
    """The control bus."""
    directory = tmp_path / "control"
    directory.mkdir()
    router = Router("embedded", directory)
    router.start()
    yield router.url()
    router.stop()


def test_ended_from_outside(given: dict[str, str], tmp_path: Path) -> None:
    """Nobody goes on, and what was measured until then is there to look at."""
    output = tmp_path / "result"
    process = start(
        *("run", "--output", output, "--warm-up", "0.1", "--duration", "1"),
        *("--rounds", "500", "--state-dir", tmp_path / "none"),
        **given,
        HYBRID_BENCH_TEST=str(tmp_path),
    )

    def measured() -> list[Any]:
        if not (output / "result.json").exists():
            return []
        return json.loads((output / "result.json").read_text())["measurements"]

    until(measured, "something is measured", timeout=120)
    until(lambda: _workers(tmp_path), "the next workers have started", timeout=120)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + signal.SIGTERM
    assert "ended early" in told
    # one that was just being started learns of the end when it first reads
    until(lambda: not _workers(tmp_path), "the workers have ended")
    assert "This run ended early" in (output / "report.html").read_text()
    with (output / "result.csv").open() as file:
        assert {row["part"] for row in csv.DictReader(file)} == {"peak"}


class Told(run.Watcher):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.ended: list[str] = []

    def end(self, step: Step, measurement: Measurement) -> None:
        self.ended.append(step.part)

    def fail(self, step: Step, problem: str) -> None:
        self.failed.append(step.part)


def test_an_engine_that_does_not_come_back(
    hybrid: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and the rest goes on with an engine that is started anew."""
    restart = TROUBLES["rpc"]

    def fail(*args: Any) -> str:
        with monkeypatch.context() as impatient:
            router = kinds.get("router")
            impatient.setattr(router, "is_ready", lambda engine: False)
            impatient.setattr(router, "start_timeout", 0.0)
            return restart.happen(*args)

    shown = {
        name: replace(TROUBLES["rpc"], duration=1.0, happen=happen)
        for name, happen in (("fails", fail), ("works", restart.happen))
    }
    monkeypatch.setattr(troubles, "TROUBLES", shown)
    monkeypatch.setattr(measuring, "TROUBLES", shown)
    told = Told()
    setup = run.Setup(
        scenarios.select(["4"]),
        Parameters(
            producers=1, consumers=1, rpc_share=100, warm_up=0.1, duration=1, rounds=1
        ),
        tmp_path / "engines",
        tmp_path,
        parts=["trouble"],
        given={"notify": hybrid.engine("rabbitmq").url},
        options=Options(router="embedded"),
    )
    with LocalWorkers() as local:
        found = run.run(setup, told, local.start)
    assert told.failed == ["trouble-fails"]
    assert told.ended == ["peak", "trouble-works"]
    (problem,) = found.problems
    assert "router was not ready" in str(problem)
    assert found.complete
    assert result.load(tmp_path / run.RESULT_FILE).problems == (problem,)
    assert "router was not ready" in report.render(found)


def _workers(mark: Path) -> list[int]:
    """The pids of the workers that a test has started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if b"bench.worker" in command and f"TEST={mark}".encode() in environment:
            found.append(int(entry.name))
    return found
