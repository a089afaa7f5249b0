# SPDX-License-Identifier: Apache-2.0
"""Whether a transport has kept its promises, from what was ticked off in ledgers.

A promise is broken by a message that was reported sent and is never executed, that is
executed twice, or that is executed although its sender was told that it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hybrid_messaging.bench.ledger import Encoded, Numbers, total


@dataclass(frozen=True)
class Killing:
    """A server was killed, and what it had confirmed and not begun went with it.

    :param confirmed: casts that returned before and may have been for this server
    :param credit: the most that a server confirms before it begins them
    """

    confirmed: Numbers
    credit: int


@dataclass
class Verdict:
    """What became of the messages of one kind.

    :param begun: what clients have begun to send
    :param succeeded: calls that were answered, casts and fanouts that returned
    :param refused: raised an exception that promises that they are not executed
    :param unknown: raised another exception, or did not end
    :param executed: different messages whose execution has begun in any server
    :param lost: succeeded, and no server has begun them; of fanouts, none
    :param lost_with_server: casts that were lost when their server was killed
    :param duplicated: executions beyond the first; of fanouts, in the same process
    :param broken: refused, and executed all the same
    :param missed: by server process, fanouts that returned while it listened, and that
        it has not executed; one without room misses them
    """

    begun: int = 0
    succeeded: int = 0
    refused: int = 0
    unknown: int = 0
    executed: int = 0
    lost: int = 0
    lost_with_server: int = 0
    duplicated: int = 0
    broken: int = 0
    missed: dict[str, int] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.duplicated or self.broken)


@dataclass(frozen=True)
class Books:
    """The ledgers of a run.

    :param begun: what clients have begun to send
    :param succeeded: what ended without an exception
    :param refused: what raised an exception that promises that it is not executed
    :param received: what each server process has begun to execute
    """

    begun: Encoded
    succeeded: Encoded
    refused: Encoded
    received: Mapping[str, Encoded]


def judge(
    kind: str,
    books: Books,
    killings: Iterable[Killing] = (),
    due: Mapping[str, Numbers] | None = None,
) -> Verdict:
    """Judge the messages of one kind.

    :param killings: the servers that were killed, in their order
    :param due: fanouts that a server process has to have got, by its name
    """
    (begun, _), (succeeded, _), (refused, _) = (
        total(kind, [each]) for each in (books.begun, books.succeeded, books.refused)
    )
    each_received = {name: total(kind, [it]) for name, it in books.received.items()}
    executed, ticks = total(kind, books.received.values())
    verdict = Verdict(
        begun=count(begun),
        succeeded=count(succeeded),
        refused=count(refused),
        unknown=count(without(without(begun, succeeded), refused)),
        executed=count(executed),
        broken=count(both(refused, executed)),
    )
    if kind == "fanout":
        verdict.duplicated = sum(
            ticks - count(numbers) for numbers, ticks in each_received.values()
        )
        verdict.missed = {
            name: missed
            for name, numbers in (due or {}).items()
            if (missed := count(without(numbers, each_received[name][0])))
        }
        return verdict
    verdict.duplicated = ticks - verdict.executed
    lost = without(succeeded, executed)
    beyond = 0
    for killing in killings if kind == "cast" else ():
        excused = both(lost, killing.confirmed)
        lost = without(lost, excused)
        verdict.lost_with_server += min(count(excused), killing.credit)
        beyond += max(count(excused) - killing.credit, 0)
    verdict.lost = count(lost) + beyond
    return verdict


def executed_by(books: Books, client: str, kind: str, number: int) -> list[str]:
    """The server processes that have executed a message."""
    return [
        process
        for process, received in books.received.items()
        if total(kind, [received])[0].get(client, 0) >> number & 1
    ]


def count(numbers: Numbers) -> int:
    """How many messages there are."""
    return sum(bits.bit_count() for bits in numbers.values())


def every(numbers: Numbers, turn: int, period: int) -> Numbers:
    """Those messages whose number has a place in each so many.

    :param turn: the place
    :param period: how many places there are
    """
    length = max((bits.bit_length() for bits in numbers.values()), default=0)
    pattern = "1".rjust(period - turn, "0").ljust(period, "0")
    mask = int(pattern * (length // period + 1), 2)
    return {name: bits & mask for name, bits in numbers.items()}


def both(some: Numbers, others: Numbers) -> Numbers:
    """The messages that are in both."""
    return {name: bits & others.get(name, 0) for name, bits in some.items()}


def without(some: Numbers, others: Numbers) -> Numbers:
    """The messages that are in the first only."""
    return {name: bits & ~others.get(name, 0) for name, bits in some.items()}
