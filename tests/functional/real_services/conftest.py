# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests with real services."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def progress(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return what prints a line at once, past pytest's capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{line}", end="", flush=True)

    return say
