# SPDX-License-Identifier: Apache-2.0
"""`smoke` on the command line: what it is given, what it shows, its exit codes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hybrid_messaging.cli import app
from hybrid_messaging.cli import smoke as command
from hybrid_messaging.smoke import runner
from hybrid_messaging.smoke.outcome import Result, Status

RPC = "amqp://u:secret@127.0.0.1:1/"
NOTIFY = "rabbit://u:secret@127.0.0.1:1/"

GOOD = Result("call", Status.PASSED, 0.5, "answered", found={"queues": ["a", "b"]})
SKIPPED = Result("cast", Status.SKIPPED, None, "not here")
INFO = Result("nobody", Status.INFO, 4.0, "took its time")
BAD = Result("fanout", Status.FAILED, 1.0, "lost", "the log")

Outcome = tuple[int, str, str]
Smoke = Callable[..., Outcome]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the runner is given, and the results that it returns."""
    seen: dict[str, Any] = {"results": [GOOD]}

    def results(setup: Any, checks: Any, begin: Any, progress: Any) -> Iterator[Result]:
        seen.update(setup=setup, checks=[check.name for check in checks])
        try:
            for result in seen["results"]:
                begin(next(iter(checks)))
                yield result() if callable(result) else result
        finally:
            seen["closed"] = True

    monkeypatch.setattr(runner, "results", results)
    return seen


@pytest.fixture
def smoke(
    tmp_path: Path,
    given: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Smoke:
    """Runs the command with URLs in the environment."""
    monkeypatch.setenv("HYBRID_RPC_URL", RPC)
    monkeypatch.setenv("HYBRID_NOTIFY_URL", NOTIFY)

    def run(*words: str) -> Outcome:
        code = app.main(["smoke", "--state-dir", str(tmp_path), *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_lines_for_people_and_json_for_programs(
    smoke: Smoke, given: dict[str, Any]
) -> None:
    given["results"] = [GOOD, SKIPPED, INFO]
    code, output, told = smoke("-f", "json")
    assert code == 0
    assert json.loads(output)[0] == {
        "check": "call",
        "result": "passed",
        "seconds": 0.5,
        "detail": "answered",
        "look_at": "",
        "found": {"queues": ["a", "b"]},
    }
    assert [row["result"] for row in json.loads(output)] == [
        "passed",
        "skipped",
        "info",
    ]
    lines = told.splitlines()
    assert lines[0].startswith("RPC over amqp://u:***@127.0.0.1:1/, notifications")
    assert any(line.startswith("ok       call") for line in lines)
    assert lines[-1].startswith("1 passed, 1 skipped, 1 info in ")
    assert "secret" not in output + told


def test_one_failure_is_an_exit_code(smoke: Smoke, given: dict[str, Any]) -> None:
    given["results"] = [GOOD, BAD, GOOD]
    code, output, told = smoke("-f", "value", "-c", "result")
    assert (code, output.split()) == (1, ["passed", "failed", "passed"])
    assert "look at: the log" in told


def test_a_table_shows_how_many_names_were_found(smoke: Smoke) -> None:
    _, output, _ = smoke()
    assert "2 queues" in output


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_is_terminal", lambda: True)
    monkeypatch.setattr(command._Lines, "is_live", lambda *_: True)


def test_a_terminal_shows_everything_once(smoke: Smoke, terminal: None) -> None:
    code, output, told = smoke()
    assert (code, output) == (0, "")
    assert "rpc-connect …\r\x1b[Kok       call" in told


def test_a_terminal_shows_the_format_that_was_asked_for(
    smoke: Smoke, terminal: None
) -> None:
    assert "| call " in smoke("-f", "table")[1]


def test_quiet_is_quiet(smoke: Smoke, tmp_path: Path, capsys: Any) -> None:
    assert app.main(["-q", "smoke", "--state-dir", str(tmp_path), "-f", "csv"]) == 0
    assert capsys.readouterr().err == ""


def test_some_checks(smoke: Smoke, given: dict[str, Any]) -> None:
    smoke("--only", "call", "--disruptive")
    assert given["checks"] == ["rpc-connect", "servers", "call"]
    assert given["setup"].disruptive


def test_an_unknown_check(smoke: Smoke) -> None:
    code, _, told = smoke("--only", "pigeon")
    assert code == 1
    assert "there is no check 'pigeon'" in told


def test_urls_of_the_command_line_win(smoke: Smoke, given: dict[str, Any]) -> None:
    smoke("--rpc-url", "amqp://other/")
    assert str(given["setup"].rpc) == "amqp://other/"
    assert str(given["setup"].notify) == NOTIFY


def test_a_services_configuration(
    smoke: Smoke, given: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "nova.conf"
    file.write_text(
        "[DEFAULT]\ntransport_url = amqp://of-nova/\n"
        "[oslo_messaging_notifications]\ntransport_url = rabbit://of-nova/\n"
    )
    assert smoke("--config", os.path.relpath(file))[0] == 0
    setup = given["setup"]
    assert str(setup.rpc) == "amqp://of-nova/"
    assert str(setup.notify) == "rabbit://of-nova/"
    assert setup.settings["oslo_messaging_notifications"] == {
        "transport_url": "rabbit://of-nova/"
    }


def test_a_configuration_and_a_url_exclude_each_other(smoke: Smoke) -> None:
    code, _, told = smoke("--config", "nova.conf", "--rpc-url", RPC)
    assert code == 1
    assert "--config excludes --rpc-url" in told


def test_a_configuration_that_is_not_there(smoke: Smoke) -> None:
    code, _, told = smoke("--config", "/no/such/nova.conf")
    assert code == 1
    assert "/no/such/nova.conf" in told


def test_nothing_is_known(smoke: Smoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRID_RPC_URL")
    code, _, told = smoke()
    assert code == 1
    assert "has no deployment" in told and "--rpc-url" in told


def test_sigterm_ends_it_in_order(smoke: Smoke, given: dict[str, Any]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    given["results"] = [GOOD, lambda: os.kill(os.getpid(), signal.SIGTERM), GOOD]
    with pytest.raises(SystemExit) as caught:
        smoke()
    assert caught.value.code == 128 + signal.SIGTERM
    assert given["closed"]
    assert signal.getsignal(signal.SIGTERM) is before
