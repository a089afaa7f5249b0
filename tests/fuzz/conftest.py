# SPDX-License-Identifier: Apache-2.0
"""How long the fuzzers search, and what the live attacks have in common.

`pytest tests/fuzz` searches for seconds, and always in the same places, so that what
fails once fails again. `--hypothesis-profile=long` searches for hours, elsewhere each
time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.functional.matchmakers import Redis
from tests.functional.routers import Router

_PATIENT = settings.get_profile("patient")
settings.register_profile(
    "ci", _PATIENT, max_examples=100, derandomize=True, database=None
)
settings.register_profile("long", _PATIENT, max_examples=100_000, print_blob=True)
settings.load_profile("ci")


def pytest_configure(config: pytest.Config) -> None:
    """Leave out warnings that show whole examples, which are as large as attacks."""
    config.addinivalue_line(
        "filterwarnings", "ignore::hypothesis.errors.HypothesisWarning"
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers and applications of a module write."""
    return tmp_path_factory.mktemp("attacked")


@pytest.fixture(scope="module")
def router(directory: Path) -> Iterator[Router]:
    """The router of a module."""
    made = Router("embedded", directory).start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def redis(directory: Path) -> Iterator[Redis]:
    """The matchmaker of a module."""
    made = Redis(directory).start()
    try:
        yield made
    finally:
        made.stop()
