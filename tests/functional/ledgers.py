# SPDX-License-Identifier: Apache-2.0
"""Stations on the hosts of a test, and what their ledgers say about a fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.functional.namespaces import Network
from tests.functional.station import FANOUT, KINDS, NOTIFICATION
from tests.functional.waiting import until

ROOT = Path(__file__).parents[2]
#: Seconds that anything may take on a busy machine.
TIMEOUT = 90.0


@dataclass(frozen=True)
class Sent:
    """A message, and how sending it ended.

    :param failure: the exception, '' if there was none
    """

    station: str
    kind: str
    number: str
    began: float
    ended: float
    failure: str

    @property
    def took(self) -> float:
        """Seconds until its sender was told how it ended."""
        return self.ended - self.began


@dataclass
class Ledgers:
    """What all stations have sent and executed."""

    sent: list[Sent] = field(default_factory=list)
    #: stations that have executed a message, by its number
    executed: defaultdict[str, Counter[str]] = field(
        default_factory=lambda: defaultdict(Counter)
    )

    def add(self, station: str, row: dict[str, Any]) -> None:
        """Take a line of a ledger."""
        if "executed" in row:
            self.executed[row["executed"]][station] += 1
        elif "sent" in row:
            self.sent.append(
                Sent(
                    station,
                    row["kind"],
                    row["sent"],
                    row["began"],
                    row["ended"],
                    row["failure"],
                )
            )

    def twice(self) -> list[str]:
        """Messages that were executed twice; a fanout, twice by one station."""
        return [
            number
            for number, by in self.executed.items()
            if max(by.values()) > 1 or (FANOUT not in number and by.total() > 1)
        ]

    def lost(self) -> list[str]:
        """Messages whose sender was told that all is well, and nobody executed them.

        Of a fanout, nobody learns who got it.
        """
        return [
            one.number
            for one in self.sent
            if not one.failure
            and one.kind != FANOUT
            and one.number not in self.executed
        ]

    def failures(self, since: float) -> Counter[str]:
        """How many messages failed, by exception."""
        return Counter(
            one.failure.partition(":")[0]
            for one in self.sent
            if one.failure and one.ended >= since
        )

    def slowest(self, since: float, *kinds: str) -> Sent:
        """What took longest of all that began then or later, or was under way."""
        return max(
            (
                one
                for one in self.sent
                if one.ended >= since and (not kinds or one.kind in kinds)
            ),
            key=lambda one: one.took,
        )

    def slowest_success(self, since: float) -> float:
        """The most seconds that a message took that succeeded."""
        return max(
            (one.took for one in self.sent if one.ended >= since and not one.failure),
            default=0.0,
        )

    def slowest_failure(self, since: float) -> float:
        """The most seconds until a sender was told that its message has failed.

        Those to a target on which nobody listens do not count: the driver waits for
        somebody as long as it may.
        """
        return max(
            (
                one.took
                for one in self.sent
                if one.ended >= since
                and one.failure
                and "Unreachable" not in one.failure
            ),
            default=0.0,
        )

    def silences(self, since: float, till: float) -> dict[tuple[str, str], float]:
        """The longest time without a success, in seconds, by station and kind."""
        moments: dict[tuple[str, str], list[float]] = {
            (one.station, one.kind): [since] for one in self.sent
        }
        for one in sorted(self.sent, key=lambda one: one.ended):
            if not one.failure and since <= one.ended <= till:
                moments[one.station, one.kind].append(one.ended)
        return {
            key: max(
                later - before
                for before, later in zip(found, [*found[1:], till], strict=True)
            )
            for key, found in moments.items()
        }

    def succeeded(self, since: float) -> set[tuple[str, str]]:
        """Stations and kinds of which a message that began later has succeeded."""
        return {
            (one.station, one.kind)
            for one in self.sent
            if one.began >= since and not one.failure
        }


class Stations:
    """One station on each of some hosts.

    :param place: a directory of its own
    :param urls: transport URLs by host
    :param notify: they send notifications
    """

    def __init__(
        self,
        place: Path,
        network: Network,
        urls: Mapping[str, str],
        notify: bool = False,
    ) -> None:
        self._place, self._network, self._urls = place, network, urls
        self._notify = notify
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._read: Counter[str] = Counter()
        self._ledgers = Ledgers()

    def start(self) -> None:
        """Start all, and wait until each reaches all."""
        for host, url in self._urls.items():
            with (self._place / f"{host}.log").open("ab") as log:
                self._processes[host] = subprocess.Popen(
                    [
                        *self._network.enter(host),
                        *(sys.executable, "-m", "tests.functional.station", host),
                        *(str(self._ledger(host)), *self._servers(self._urls)),
                    ],
                    cwd=ROOT,
                    # a URL may contain a password
                    env={**os.environ, "STATION_URL": url, "PYTHONPATH": str(ROOT)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        self.all_reach(self._urls)

    def ledgers(self) -> Ledgers:
        """What they have sent and executed so far."""
        for host in self._urls:
            if not self._ledger(host).exists():
                continue
            with self._ledger(host).open("rb") as file:
                file.seek(self._read[host])
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._read[host] += len(line)
                    self._ledgers.add(host, json.loads(line))
        return self._ledgers

    def all_reach(self, some: Iterable[str], others: Iterable[str] = ()) -> float:
        """Wait until some stations send all kinds with success, and call some or all.

        :returns: how many seconds that took
        """
        some, others = list(some), list(others or some)
        kinds = (NOTIFICATION,) if self._notify else KINDS
        wanted = {
            (one, kind)
            for one in some
            for kind in (*kinds, *(f"call of {o}" for o in self._servers(others)))
        }
        began = time.time()
        until(
            lambda: wanted <= self.ledgers().succeeded(began),
            f"{', '.join(some)} reach {', '.join(others)}",
            TIMEOUT,
            interval=0.1,
        )
        return time.time() - began

    def stop(self) -> Ledgers:
        """End all in order."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(TIMEOUT)
        return self.ledgers()

    def kill(self) -> None:
        """End whatever still runs."""
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def _servers(self, hosts: Iterable[str]) -> list[str]:
        return [] if self._notify else list(hosts)

    def _ledger(self, host: str) -> Path:
        return self._place / f"{host}.ledger"
