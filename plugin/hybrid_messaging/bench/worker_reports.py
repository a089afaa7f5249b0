# SPDX-License-Identifier: Apache-2.0
"""What workers report when the load is over; it travels to the controller as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hybrid_messaging.bench.ledger import Encoded
from hybrid_messaging.bench.measurement import Second


@dataclass(frozen=True)
class Tallied:
    """Messages of one kind where one worker sends or takes them.

    :param count: how many ended in the measured interval
    :param latency: the histogram of those that began in it; None without any
    """

    count: int
    latency: str | None
    seconds: Sequence[Second]


class Refusal(NamedTuple):
    """A message whose sender was told that it is not executed.

    :param moment: when, in seconds since the epoch
    """

    kind: str
    number: int
    moment: float
    text: str


@dataclass(frozen=True)
class Produced:
    """What a producer has done; what is still under way has not succeeded.

    :param begun: ledger of what it has begun to send
    :param succeeded: ledger of what ended without an error
    :param sending: what has succeeded, by kind
    :param failing: what has failed, by kind
    :param errors: how often each error was raised
    :param overdue: messages that were due and not begun when the load ended
    :param refusals: the last ones
    """

    begun: Encoded
    succeeded: Encoded
    sending: Mapping[str, Tallied]
    failing: Mapping[str, Tallied]
    errors: Mapping[str, int]
    overdue: int
    refusals: Sequence[Refusal]

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Produced:
        """What a producer's report says."""
        return cls(
            **{
                **values,
                "sending": _tallied(values["sending"]),
                "failing": _tallied(values["failing"]),
                "refusals": [Refusal(*item) for item in values["refusals"]],
            }
        )


@dataclass(frozen=True)
class Consumed:
    """What a consumer has taken.

    :param received: ledger of what has come
    :param arriving: the same by kind
    """

    received: Encoded
    arriving: Mapping[str, Tallied]

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Consumed:
        """What a consumer's report says."""
        return cls(values["received"], _tallied(values["arriving"]))


@dataclass(frozen=True)
class Usage:
    """What a worker took in the measured interval; see `measurement.WorkerUse`."""

    cpu_seconds: float
    waits: int
    rss: int


def _tallied(values: Mapping[str, Any]) -> dict[str, Tallied]:
    return {
        kind: Tallied(
            item["count"], item["latency"], [Second(*row) for row in item["seconds"]]
        )
        for kind, item in values.items()
    }
