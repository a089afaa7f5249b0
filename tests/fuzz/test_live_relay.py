# SPDX-License-Identifier: Apache-2.0
"""Frames that change between an application and the router, and what that leaves.

A failure is repeated with its name: the seed decides what is changed, the machine only
when. `--hypothesis-profile=long` tries a thousand seeds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.functional.routers import HOST, Router
from tests.functional.waiting import until
from tests.fuzz.application import Application
from tests.fuzz.relay import Direction, Relay
from tests.fuzz.siege import ALLOWANCE, ATTEMPTS, BEFORE, MEGABYTE, TRIP, Besieged

#: Frames that are changed with one seed, and seconds after which fewer are enough: an
#: application that has lost its connection does not say much.
FRAMES, LONGEST = 12, 6.0
#: Bytes that either may use besides what it has used before, and may log.
MEMORY, LOG = 48 * MEGABYTE, 64 * 1024


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have as many seeds as the profile of hypothesis has patience for."""
    if "seed" in metafunc.fixturenames:
        seeds = max(1, settings.default.max_examples // 100)
        metafunc.parametrize("seed", range(seeds))


@pytest.fixture(scope="module")
def neighbour(router: Router, directory: Path) -> Iterator[Application]:
    with Application(router.url(), directory / "neighbour.log") as application:
        yield application


@pytest.mark.parametrize("direction", Direction, ids=lambda each: each.value)
def test_after_changed_frames_all_is_as_before(
    direction: Direction,
    seed: int,
    router: Router,
    directory: Path,
    tmp_path: Path,
    neighbour: Application,
) -> None:
    besieged = Besieged(router.pid, directory / "router.log")
    before = besieged.usage()
    slow = 0
    with Relay(router.port, direction, seed) as relay:
        url = f"amqp://{HOST}:{relay.port}/?restart_timeout=1"
        with Application(
            url, tmp_path / "log", topic="changed", patience=3
        ) as disturbed:
            own = Besieged(disturbed.pid, disturbed.log)
            own_before = own.usage()
            neighbour.trips()
            allowed = TRIP + ALLOWANCE * neighbour.trips(more=BEFORE).longest
            relay.change()
            deadline = time.monotonic() + LONGEST
            while relay.changed < FRAMES and time.monotonic() < deadline:
                trips = neighbour.trips(more=20)
                assert trips.failures == {}
                slow += trips.longest > allowed
            relay.behave()
            assert relay.changed, "the application has said nothing"
            assert not disturbed.trips().unannounced
            until(lambda: not disturbed.trips(more=20).failures, "it works again", 60)
            for each, usage in ((besieged, before), (own, own_before)):
                each.assert_recovers(usage, LOG)
                assert each.memory() - usage.memory <= MEMORY
            # a busy machine delays a call now and then
            assert slow < ATTEMPTS
    assert router.running
