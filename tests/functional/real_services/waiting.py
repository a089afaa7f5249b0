# SPDX-License-Identifier: Apache-2.0
"""Wait for a condition, and say what was waited for when it does not come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NotYet(Exception):
    """Raised by a probe whose condition does not hold yet; says why."""


def wait_for(what: str, probe: Callable[[], T], seconds: float) -> T:
    """Call ``probe`` until it no longer raises :class:`NotYet`.

    :param what: what is waited for, for the error
    :param probe: returns the result, or raises :class:`NotYet`
    :param seconds: how long to try
    :return: what the probe returned
    :raises TimeoutError: with the last reason the probe gave
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return probe()
        except NotYet as reason:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{what}: not within {seconds:g} s: {reason}"
                ) from None
        time.sleep(0.1)
