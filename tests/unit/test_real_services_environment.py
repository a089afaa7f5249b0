# SPDX-License-Identifier: Apache-2.0
"""Environments of other software that the tests keep in the user's cache."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from tests.functional.real_services import environment


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of pins; an environment is built without anything to fetch."""

    def build(python: str, root: Path, pins: object, report: object) -> None:
        root.mkdir()

    monkeypatch.setattr(environment, "_build", build)
    pins = tmp_path / "pins.txt"
    pins.write_text("one==1\n")
    return pins


def test_environments_of_former_pins_go_when_nobody_uses_them(
    pins: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    cache = tmp_path / "cache"

    def ensure() -> Path:
        return environment.ensure(cache, told.append, [pins], sys.executable).root

    former = ensure()
    pins.write_text("one==2\n")
    other = ensure()
    assert former.exists() and other.exists()

    long_ago = time.time() - environment.KEPT - 60
    for each in (former, other):
        os.utime(each / "complete", (long_ago, long_ago))
    assert ensure() == other
    assert other.exists()
    assert not former.exists()
    assert told == [f"removing {former}, which has not been used for long"]
