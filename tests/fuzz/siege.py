# SPDX-License-Identifier: Apache-2.0
"""An attack on a process, what it may cost that process, and what its neighbours."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from tests.functional.waiting import until
from tests.fuzz.application import Application

MEGABYTE = 1024 * 1024
#: Seconds that no call of a neighbour takes. A busy machine exceeds that now and then,
#: an attack that has an effect does each time: so many attempts are made.
TRIP, ATTEMPTS = 1.0, 3
#: A process at rest uses no more of a core, while its neighbour goes on calling.
AT_REST = 0.3
#: Seconds after which a process is at rest again, its connections closed.
RECOVERY = 60.0


@dataclass(frozen=True)
class Attack:
    """Something that a stranger does.

    :param name: in a few words
    :param carry_out: does it to the target; returns when the target has dealt with it
    :param memory: bytes that the target may use meanwhile, besides what it used before
    :param log: bytes that the target may write into its log
    """

    name: str
    carry_out: Callable[[Any], None]
    memory: int = 48 * MEGABYTE
    log: int = 64 * 1024


class Besieged:
    """A process under attack.

    :param log: its log
    """

    def __init__(self, pid: int, log: Path) -> None:
        self._process = psutil.Process(pid)
        self._log = log

    def memory(self) -> int:
        """Bytes of memory that it uses."""
        return int(self._process.memory_info().rss)

    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return int(self._process.num_fds())

    def logged(self) -> int:
        """Bytes of its log."""
        return self._log.stat().st_size

    def log_since(self, start: int) -> str:
        """What it has logged after so many bytes."""
        return self._log.read_bytes()[start:].decode(errors="replace")

    def at_rest(self) -> bool:
        """Say whether it uses next to no CPU time."""
        return bool(self._process.cpu_percent(0.5) < 100 * AT_REST)

    @contextlib.contextmanager
    def watched(self) -> Iterator[Callable[[], int]]:
        """Look at its memory all the time.

        :returns: what returns the most bytes that it has used
        """
        most = self.memory()
        over = threading.Event()

        def watch() -> None:
            nonlocal most
            while not over.wait(0.02):
                with contextlib.suppress(psutil.Error):
                    most = max(most, self.memory())

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            yield lambda: max(most, self.memory())
        finally:
            over.set()
            watching.join()


def withstand(
    attack: Attack, target: Any, besieged: Besieged, neighbour: Application
) -> None:
    """Attack a process, and see that it costs neither it nor its neighbour much.

    :param target: what the attack is told of its aim
    :param neighbour: calls by way of the process, or calls it
    """
    slowest = []
    for _ in range(ATTEMPTS):
        slowest.append(_attempt(attack, target, besieged, neighbour))
        if slowest[-1] < TRIP:
            return
    raise AssertionError(f"{attack.name}: calls of others took {slowest} s")


def _attempt(
    attack: Attack, target: Any, besieged: Besieged, neighbour: Application
) -> float:
    """Attack once.

    :returns: seconds that the slowest call of the neighbour took meanwhile
    """
    descriptors, logged = besieged.descriptors(), besieged.logged()
    before = besieged.memory()
    neighbour.trips()
    with besieged.watched() as most:
        attack.carry_out(target)
        trips = neighbour.trips(more=3)
        used = most() - before
    assert trips.failures == {}, trips.failures
    assert trips.count >= 3
    until(
        lambda: besieged.descriptors() <= descriptors + 2,
        f"{attack.name}: its connections are closed",
        RECOVERY,
    )
    until(besieged.at_rest, f"{attack.name}: it is at rest again", RECOVERY)
    said = besieged.log_since(logged)
    assert "Traceback" not in said, said[:4000]
    assert "internal error" not in said, said[:4000]
    assert len(said) <= attack.log, f"{len(said)} bytes of log: {said[:1000]}"
    assert used <= attack.memory, f"{used / MEGABYTE:.0f} MiB of memory"
    return trips.longest
