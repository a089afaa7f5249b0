# SPDX-License-Identifier: Apache-2.0
"""An attack on a process, what it may cost that process, and what its neighbours."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from tests.functional.waiting import until
from tests.fuzz.application import Application

MEGABYTE = 1024 * 1024
#: Seconds that no call of a neighbour takes unless the machine has far too much to do:
#: calls take a while before the attack, too, then, and some times as long is allowed.
#: An attack that has an effect costs ten seconds and more, and does so each time.
TRIP, ALLOWANCE, ATTEMPTS = 5.0, 10, 3
#: Calls from which it is known what they take before the attack.
BEFORE = 20
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


class Usage(NamedTuple):
    """What a process uses.

    :param memory: in bytes
    :param descriptors: files and sockets that it has open
    :param logged: bytes of its log
    """

    memory: int
    descriptors: int
    logged: int


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

    def usage(self) -> Usage:
        """What it uses now."""
        return Usage(
            self.memory(), int(self._process.num_fds()), self._log.stat().st_size
        )

    def assert_recovers(self, before: Usage, log: int) -> None:
        """See that its connections are closed, that it rests, and what it has logged.

        :param before: what it used when all was well
        :param log: bytes that it may have logged since
        """
        until(
            lambda: self._process.num_fds() <= before.descriptors + 2,
            "its connections are closed",
            RECOVERY,
        )
        until(
            lambda: self._process.cpu_percent(0.5) < 100 * AT_REST,
            "it is at rest again",
            RECOVERY,
        )
        said = self._log.read_bytes()[before.logged :].decode(errors="replace")
        assert "Traceback" not in said, said[:4000]
        assert "internal error" not in said, said[:4000]
        assert len(said) <= log, f"{len(said)} bytes of log: {said[:1000]}"

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
    slow = []
    for _ in range(ATTEMPTS):
        before, during = _attempt(attack, target, besieged, neighbour)
        if during < TRIP + ALLOWANCE * before:
            return
        slow.append(f"{during:.3f} s after {before:.3f} s")
    raise AssertionError(f"{attack.name}: a call took {', '.join(slow)}")


def _attempt(
    attack: Attack, target: Any, besieged: Besieged, neighbour: Application
) -> tuple[float, float]:
    """Attack once.

    :returns: seconds that the slowest call of the neighbour took before it, and during
    """
    neighbour.trips()
    usual = neighbour.trips(more=BEFORE).longest
    before = besieged.usage()
    with besieged.watched() as most:
        attack.carry_out(target)
        trips = neighbour.trips(more=3)
        used = most() - before.memory
    assert trips.failures == {}, trips.failures
    besieged.assert_recovers(before, attack.log)
    assert used <= attack.memory, f"{used / MEGABYTE:.0f} MiB of memory"
    return usual, trips.longest
