# SPDX-License-Identifier: Apache-2.0
"""What another Python can import."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hybrid_messaging.service_configs import interpreter
from hybrid_messaging.service_configs.interpreter import InterpreterError, drivers_of


def test_our_own_python_has_our_driver() -> None:
    drivers = drivers_of(Path(sys.executable))
    assert drivers.transport["rabbit"] == ""
    assert drivers.transport["amqp"] == ""
    assert drivers.notification["messagingv2"] == ""


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
    drivers = drivers_of(Path(sys.executable))
    assert "No module named 'no_such_library'" in drivers.transport["broken"]


@pytest.mark.parametrize(
    ("python", "reason"),
    [("/nonexistent/python", "cannot run"), ("/bin/true", "printed nothing")],
)
def test_what_is_no_python(python: str, reason: str) -> None:
    with pytest.raises(InterpreterError, match=reason):
        drivers_of(Path(python))


def test_one_that_gives_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 600\n")
    python.chmod(0o755)
    monkeypatch.setattr(interpreter, "_TIMEOUT", 0.1)
    with pytest.raises(InterpreterError) as told:
        drivers_of(python)
    assert str(told.value) == (
        f"{python} has not said within 0.1 s which drivers it can import"
    )
