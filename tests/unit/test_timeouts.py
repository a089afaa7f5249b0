# SPDX-License-Identifier: Apache-2.0
"""The times that callers give."""

from __future__ import annotations

import math

import pytest

from hybrid_messaging.drivers import errors, timeouts


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (None, 30),
        (0, 0),
        (0.5, 0.5),
        (7, 7),
        (1e10, timeouts.LONGEST),
        (math.inf, timeouts.LONGEST),
        pytest.param(10**400, timeouts.LONGEST, id="no float"),
    ],
)
def test_a_message_gets_the_time_that_its_caller_gives(
    given: float | None, taken: float
) -> None:
    assert timeouts.of_message(given, default=30) == taken


@pytest.mark.parametrize(
    ("given", "taken"),
    [(None, None), (0, None), (0.5, 0.5), (math.inf, timeouts.LONGEST)],
)
def test_signs_of_life_are_watched_for_where_the_caller_wants_them(
    given: float | None, taken: float | None
) -> None:
    assert timeouts.of_monitor(given) == taken


@pytest.mark.parametrize("given", [-1, -0.001, -math.inf, math.nan])
def test_what_is_no_time_is_refused_before_anything_is_sent(given: float) -> None:
    with pytest.raises(errors.MessageRefused, match=r"timeout is .*nothing was sent"):
        timeouts.of_message(given, default=30)
    with pytest.raises(errors.MessageRefused, match="call_monitor_timeout is"):
        timeouts.of_monitor(given)


def test_the_longest_time_fits_where_it_goes() -> None:
    assert timeouts.LONGEST * 1000 < 2**31
