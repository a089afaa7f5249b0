# SPDX-License-Identifier: Apache-2.0
"""The tools for maintainers that measure and wear out: what they report is true."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.functional.deployments import Deployment, deployed

from hybrid_messaging.bench import soak

TIMEOUT = 280
TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A whole `qpid-hybrid`."""
    with deployed(tmp_path_factory.mktemp("bench") / "state") as made:
        made.up()
        yield made


def test_many_calls_grow_nobody(hybrid: Deployment) -> None:
    """A short look; the documentation tells of a long one."""
    router = hybrid.engine("router")
    done = subprocess.run(
        [
            *(
                sys.executable,
                TOOLS / "soak_rpc.py",
                router.url,
                "--watch",
                f"router={router.pid}",
            ),
            *("--calls", "4000", "--threads", "4", "--tolerance", "20", "--json"),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["calls"] == 4000
    assert found["memory"].keys() == {"client", "server", "router"}


def tool(name: str, *words: str) -> tuple[int, Any, str]:
    """Run a tool for a script: its exit code, JSON and standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", TOOLS / name, *words, "-f", "json"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


@pytest.mark.parametrize("scenario", ["4-hybrid", "5-zmq"])
def test_a_short_soak(scenario: str) -> None:
    """Servers and the engine die, hang and restart, and every promise is kept."""
    code, found, told = tool(
        *("soak.py", scenario, "--duration", "20", "--engine", "--seed", "1"),
        *("--threads", "10", "--rate", "60", "--servers", "3"),
        *("--pause", "1", "2", "--hang", "1", "3"),
    )
    assert code == 0, told
    assert found["kept"] and not found["hung"]
    assert sum(found["disturbances"].values()) > 1
    for kind in found["kinds"].values():
        assert kind["begun"] > 10 and kind["succeeded"] > 0
        assert kind["executed"] <= kind["begun"]


def test_a_soak_that_sees_a_duplicate(hybrid: Deployment, tmp_path: Path) -> None:
    ledgers = tmp_path / "ledgers"

    def execute_one_twice() -> None:
        # the first bytes say how often something was ticked off once more
        with (ledgers / "server-1.1/received/client-1 call").open("r+b") as page:
            page.write(b"\x01")

    told: list[str] = []
    outcome = soak.run(
        soak.Setup(
            hybrid.engine("router").url,
            ledgers,
            duration=8.0,
            servers=1,
            clients=1,
            threads=4,
            rate=40.0,
            pause=(3.0, 4.0),
            ways=(),
            engine={"a call is executed twice": execute_one_twice},
            report_every=2.0,
        ),
        told.append,
    )
    assert outcome.disturbances["a call is executed twice"] >= 1
    assert outcome.kinds["call"].duplicated == 1
    assert not outcome.kept
    assert outcome.kinds["cast"].kept and outcome.kinds["cast"].lost == 0
    assert "1 twice" in told[-1]


def test_many_listeners() -> None:
    """Few of them: what is measured is there, and nobody is left out."""
    code, rows, told = tool(
        *("compare_listeners.py", "4", "5", "--listeners", "60"),
        *("--rounds", "1", "--fanouts", "2"),
    )
    assert code == 0, told
    assert [row["scenario"] for row in rows] == ["4-hybrid", "5-zmq"]
    for row in rows:
        assert row["listeners"] == 60 and row["missed"] == row["calls_failed"] == 0
        assert row["first_fanout_ms"] > 0 and row["fanout_ms"] > 0
        assert row["first_calls_per_s"] > 0 and row["first_calls_8_per_s"] > 0
        assert row["answer_s"] > 0 and row["answer_fresh_s"] > 0
    assert {rows[0][name] for name in rows[0] if name.endswith("_ratio")} == {1.0}
