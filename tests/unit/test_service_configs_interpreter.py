# SPDX-License-Identifier: Apache-2.0
"""What another Python can import."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid_messaging.service_configs import interpreter
from hybrid_messaging.service_configs.interpreter import InterpreterError, Known, ask


def test_our_own_python_has_our_driver() -> None:
    found = ask(Path(sys.executable))
    assert found.transport["rabbit"] == ""
    assert found.transport["amqp"] == ""
    assert found.notification["messagingv2"] == ""
    assert found.release.split(".")[0].isdecimal()
    rabbit = found.options["oslo_messaging_rabbit"]
    assert rabbit["rabbit_quorum_queue"] == Known()
    assert rabbit["kombu_reconnect_timeout"].name.startswith("kombu_missing")
    assert found.options["DEFAULT"]["transport_url"] == Known()
    assert found.options["oslo_messaging_amqp"]["idle_timeout"] == Known()


def test_a_driver_that_is_broken_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[oslo.messaging.drivers]\nbroken = broken_driver:Driver\n"
    )
    (tmp_path / "broken_driver.py").write_text("import no_such_library\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    drivers = ask(Path(sys.executable))
    assert "No module named 'no_such_library'" in drivers.transport["broken"]


@pytest.mark.parametrize(
    ("python", "reason"),
    [("/nonexistent/python", "cannot run"), ("/bin/true", "printed nothing")],
)
def test_what_is_no_python(python: str, reason: str) -> None:
    with pytest.raises(InterpreterError, match=reason):
        ask(Path(python))


def test_one_that_gives_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 600\n")
    python.chmod(0o755)
    monkeypatch.setattr(interpreter, "_TIMEOUT", 0.1)
    with pytest.raises(InterpreterError) as told:
        ask(python)
    assert str(told.value) == (
        f"{python} did not answer within 0.1 s which drivers it can import"
    )


Script = Callable[[str], Path]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Makes a program of a shell script."""

    def script(text: str) -> Path:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return script


def test_it_has_neither_our_input_nor_our_terminal(script: Script) -> None:
    reader, writer = os.pipe()
    kept = os.dup(0)
    try:
        os.write(writer, b"typed\n")
        os.dup2(reader, 0)
        python = script('read line; echo "<$line> $$ $(cut -d " " -f 6 /proc/$$/stat)"')
        with pytest.raises(InterpreterError, match=r"later: <> (\d+) +\1$"):
            ask(python)
    finally:
        os.dup2(kept, 0)
        for handle in (reader, writer, kept):
            os.close(handle)


def test_one_that_prints_without_end(script: Script) -> None:
    with pytest.raises(InterpreterError, match="printed more than 1000000 bytes"):
        ask(script("exec yes"))


def test_one_whose_child_keeps_its_output_open(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "_TIMEOUT", 0.1)
    with pytest.raises(InterpreterError, match="did not answer within"):
        ask(script("sleep 600 &"))


@pytest.mark.parametrize(
    "answer",
    [
        "{",
        "[]",
        "[1, 2, 3]",
        '[{}, "1", {}]',
        '[{"oslo.messaging.drivers": 1, "oslo.messaging.notify.drivers": {}}, "", {}]',
        "[" * 100_000,
    ],
    ids=["damaged", "empty", "numbers", "no groups", "no drivers", "deep"],
)
def test_odd_answers(script: Script, answer: str) -> None:
    python = script(f"cat <<'END'\n{interpreter._MARK}{answer}\nEND")
    with pytest.raises(InterpreterError, match="something unexpected"):
        ask(python)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_another_user_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hush")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        python = Path(name, "python")
        python.write_text("#!/bin/sh\necho $(id -u) $(id -G) ${SECRET-none} >&2\n")
        python.chmod(0o755)
        user = os.stat_result([0o644, 0, 0, 1, 4711, 4712, 0, 0, 0, 0])
        with pytest.raises(InterpreterError, match=r"later: 4711 4712 none$"):
            ask(python, user)
