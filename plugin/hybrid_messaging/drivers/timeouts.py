# SPDX-License-Identifier: Apache-2.0
"""The times that callers give, checked: they may be anything that a float can be."""

from __future__ import annotations

from hybrid_messaging.drivers import errors

#: Seconds that stand for ever. It fits into what poll() takes (milliseconds in 31
#: bits) and into a message's time to live (milliseconds in 32 bits).
LONGEST = 20 * 24 * 3600.0


def of_message(seconds: float | None, default: float) -> float:
    """Return the seconds that a message may take in all.

    :param seconds: as the caller gives it; 0: at once; None: the default
    :raises MessageRefused: it is negative or no number
    """
    return _checked("timeout", default if seconds is None else seconds)


def of_monitor(seconds: float | None) -> float | None:
    """Return the seconds between two signs of life of a server.

    :param seconds: as the caller gives it; 0 and None: do not watch for them
    :returns: None if they are not watched for
    :raises MessageRefused: it is negative or no number
    """
    return _checked("call_monitor_timeout", seconds) if seconds else None


def _checked(name: str, seconds: float) -> float:
    if not seconds >= 0:  # nor is NaN
        raise errors.MessageRefused(
            f"{name} is {seconds}, but must be 0 or more seconds; nothing was sent"
        )
    # what float() cannot hold is compared all the same
    return float(seconds) if seconds < LONGEST else LONGEST
