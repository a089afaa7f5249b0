# SPDX-License-Identifier: Apache-2.0
"""Everything about a run that a user may choose, but for what is compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

#: What a producer can do over RPC.
RPC_KINDS = ("call", "cast", "fanout")
#: What a producer does on the other transport.
NOTIFY = "notify"
#: All kinds of messages, in the order in which they are shown.
KINDS = (*RPC_KINDS, NOTIFY)


@dataclass(frozen=True)
class Parameters:
    """The load, and how it is measured.

    :param producers: processes that call, and such that notify, together
    :param consumers: processes that serve, and such that listen, together
    :param threads: of each producer; each has one message under way
    :param rpc_share: percentage of RPC among the processes, and among messages
        that are asked for by their number
    :param rpc_mix: weights of call, cast and fanout within RPC
    :param sizes: weights of payload sizes in bytes
    :param warm_up: seconds before the measured interval
    :param duration: seconds of the measured interval
    :param drain: seconds without any arrival after which what is missing is lost
    :param timeout: of a call, in seconds
    :param rounds: how often each measurement is made
    :param cpus: where to place workers, one after the other; none leaves it to
        the system
    """

    producers: int = 4
    consumers: int = 2
    threads: int = 1
    rpc_share: float = 50.0
    rpc_mix: Mapping[str, float] = field(default_factory=lambda: {"call": 1.0})
    sizes: Mapping[int, float] = field(default_factory=lambda: {1000: 1.0})
    warm_up: float = 1.0
    duration: float = 5.0
    drain: float = 10.0
    timeout: float = 30.0
    rounds: int = 2
    cpus: tuple[int, ...] = ()

    @property
    def mix(self) -> dict[str, float]:
        """Weights of all kinds of messages; those that there are none of left out."""
        total = sum(self.rpc_mix.values())
        shares = {
            kind: self.rpc_share * weight / total
            for kind, weight in self.rpc_mix.items()
        }
        shares[NOTIFY] = 100 - self.rpc_share
        return {kind: share for kind, share in shares.items() if share > 0}


def weights(text: str, allowed: Iterable[str] = ()) -> dict[str, float]:
    """Read ``NAME=WEIGHT,…``; a name alone has the weight 1.

    :param allowed: the names that there are; none for any
    :raises ValueError: if it cannot be understood
    """
    found: dict[str, float] = {}
    for item in text.split(","):
        name, equals, number = item.strip().partition("=")
        try:
            weight = float(number) if equals else 1.0
        except ValueError:
            weight = math.nan
        if not name or (allowed and name not in allowed):
            raise ValueError(f"{name!r} is not one of {', '.join(allowed)}")
        if not (weight >= 0 and math.isfinite(weight)):
            raise ValueError(f"{number!r} is not a valid weight")
        found[name] = weight
    if not sum(found.values()):
        raise ValueError("all weights are 0")
    return {name: weight for name, weight in found.items() if weight}
