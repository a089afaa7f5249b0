# SPDX-License-Identifier: Apache-2.0
"""When the router gives memory back."""

from __future__ import annotations

import pytest

from hybrid_messaging.router import memory


def test_memory_is_given_back_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    gone, now = 0, 1000.0
    given: list[float] = []
    monkeypatch.setattr(memory.time, "monotonic", lambda: now)
    trimmer = memory.Trimmer(lambda: gone)
    monkeypatch.setattr(trimmer, "_trim", lambda pad: given.append(now))
    for gone, now, times in (
        (0, 1000.0, 0),
        (1, 1001.0, 1),
        (1000, 1002.0, 1),
        (1000, 1001.0 + memory.PAUSE, 2),
        (1000, 9000.0, 2),
    ):
        trimmer()
        assert len(given) == times, (gone, now)


def test_a_c_library_without_it_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.Trimmer(lambda: 1)()


def test_glibc_takes_the_call() -> None:
    memory.Trimmer(lambda: 1)()
