# SPDX-License-Identifier: Apache-2.0
"""What a worker is told to do; it travels to the worker as JSON."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import oslo_messaging
from oslo_config import cfg

from hybrid_messaging.bench.parameters import NOTIFY

#: Everything that a run makes on a bus has a name that starts with this.
PREFIX = "hybrid-bench"

# by the only transport that a worker uses
_PRODUCERS = {"rpc": "client", "notify": "notifier", "": "producer"}
_CONSUMERS = {"rpc": "server", "notify": "listener", "": "consumer"}


@dataclass(frozen=True)
class Timing:
    """When a measurement begins, measures and ends.

    All times are seconds since the epoch, on a clock that does not step while it
    is used: on one machine it is the same for all processes.
    """

    start: float
    warm_up: float
    duration: float

    @property
    def begin(self) -> float:
        """Begin of the measured interval."""
        return self.start + self.warm_up

    @property
    def end(self) -> float:
        """End of the measured interval, and of the load."""
        return self.begin + self.duration

    def measures(self, moment: float) -> bool:
        """Whether a moment lies in the measured interval."""
        return self.begin <= moment < self.end


class Clock:
    """Seconds since the epoch that go on evenly, whatever sets the system's time."""

    def __init__(self) -> None:
        self._epoch = time.time() - time.monotonic()

    def now(self) -> float:
        """What time it is."""
        return time.monotonic() + self._epoch

    def sleep_until(self, moment: float) -> None:
        """Return at that time."""
        while (left := moment - self.now()) > 0:
            time.sleep(left)


@dataclass(frozen=True)
class Assignment:
    """One worker's part in a measurement.

    :param name: of the worker, unlike any other's
    :param token: tells this measurement's names on a bus from all others
    :param rpc_url: transport URL, with its password
    :param notify_url: transport URL, with its password
    :param serve: be an RPC server
    :param listen: take notifications
    :param mix: weights of the kinds of messages to produce; none for a consumer
    :param sizes: (bytes, weight) of payloads
    :param rate: messages per second of all lanes together; None for as many as go
    :param lanes: how many threads of all producers share this rate
    :param first_lane: the place of this worker's first thread among them
    :param threads: this worker's
    :param timeout: of a call, in seconds
    :param cpu: where to run, None for anywhere
    :param servers: names under which it serves; none for its own
    :param pool: threads of each server; None for as many as oslo.messaging has
    :param work: seconds that methods take, by the number of the message in turn
    :param directed: servers that calls and casts go to, by the number of the message:
        to any server, to the first of these, the second, and so on
    :param timeouts: of calls in seconds, by their number when all servers have had
        their turn; none for `timeout` alone
    :param ledger: directory where to keep its ledgers; '' keeps them in memory
    """

    name: str
    token: str
    rpc_url: str
    notify_url: str
    serve: bool = False
    listen: bool = False
    mix: Mapping[str, float] = field(default_factory=dict)
    sizes: Sequence[tuple[int, float]] = ()
    rate: float | None = None
    lanes: int = 1
    first_lane: int = 0
    threads: int = 1
    timeout: float = 30.0
    cpu: int | None = None
    servers: Sequence[str] = ()
    pool: int | None = None
    work: Sequence[float] = ()
    directed: Sequence[str] = ()
    timeouts: Sequence[float] = ()
    ledger: str = ""

    @property
    def topic(self) -> str:
        """Topic of the servers."""
        return f"{PREFIX}-{self.token}"

    @property
    def notify_topic(self) -> str:
        """Topic of the notifications."""
        return f"{PREFIX}-notify-{self.token}"

    @property
    def roles(self) -> list[str]:
        """The transports that it uses: `rpc`, `notify`."""
        wanted = {
            "rpc": self.serve or bool(self.mix.keys() - {NOTIFY}),
            "notify": self.listen or NOTIFY in self.mix,
        }
        return [role for role, used in wanted.items() if used]

    @property
    def task(self) -> str:
        """What people call a worker that does this."""
        tasks = _PRODUCERS if self.mix else _CONSUMERS
        return tasks[self.roles[0] if len(self.roles) == 1 else ""]

    def ledger_dir(self, what: str) -> Path | None:
        """Where to keep a ledger; None for in memory.

        :param what: is ticked off there
        """
        return Path(self.ledger, self.name, what) if self.ledger else None

    def conf(self) -> cfg.ConfigOpts:
        """The configuration with which to make transports."""
        # oslo.messaging registers some of its options with the global object only
        conf = cfg.CONF
        conf(
            args=[],
            project=PREFIX,
            default_config_files=[],
            default_config_dirs=[],
            use_env=False,
        )
        # the exchange of the notifications
        oslo_messaging.set_transport_defaults(self.notify_topic)
        return conf

    def rpc_target(self, **more: Any) -> oslo_messaging.Target:
        """The servers of this measurement."""
        return oslo_messaging.Target(
            exchange=f"{self.topic}-rpc", topic=self.topic, **more
        )

    def dues(self, timing: Timing, thread: int) -> Iterator[float | None]:
        """When the messages of a thread are due; None for one after the other.

        :param thread: its place among the threads of this worker
        """
        if self.rate is None:
            yield from itertools.repeat(None)
            return
        for number in itertools.count():
            place = self.first_lane + thread + number * self.lanes
            due = timing.start + place / self.rate
            if due >= timing.end:
                return
            yield due

    def to_json(self) -> str:
        """The assignment as one line; it holds passwords."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Assignment:
        """The assignment that `to_json` has written."""
        return cls(**json.loads(line))


def interleave(weights: Mapping[str, float]) -> Iterator[str]:
    """Return names as often as their weights want, as evenly as that goes.

    With a random choice, the shares would differ from run to run.
    """
    credit = dict.fromkeys(weights, 0.0)
    total = sum(weights.values())
    while True:
        for name, weight in weights.items():
            credit[name] += weight
        chosen = max(credit, key=lambda name: credit[name])
        credit[chosen] -= total
        yield chosen
