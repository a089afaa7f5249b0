# SPDX-License-Identifier: Apache-2.0
"""Whether promises were kept, from ledgers: each way to break one is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import oslo_messaging
import pytest

from hybrid_messaging.bench.ledger import Encoded, Ledger
from hybrid_messaging.bench.producer import not_begun
from hybrid_messaging.bench.verdict import (
    Books,
    Killing,
    Verdict,
    every,
    executed_by,
    judge,
)
from hybrid_messaging.drivers import errors


def ledger(numbers: Sequence[int], kind: str) -> Encoded:
    made = Ledger()
    for number in numbers:
        made.tick("c", kind, number)
    return made.encode()


def judged(
    kind: str,
    begun: Sequence[int],
    succeeded: Sequence[int],
    received: Mapping[str, Sequence[int]],
    refused: Sequence[int] = (),
    killings: Sequence[Killing] = (),
    due: Mapping[str, int] | None = None,
) -> Verdict:
    books = Books(
        ledger(begun, kind),
        ledger(succeeded, kind),
        ledger(refused, kind),
        {name: ledger(numbers, kind) for name, numbers in received.items()},
    )
    wanted = {name: {"c": bits} for name, bits in (due or {}).items()}
    return judge(kind, books, killings, wanted)


@pytest.mark.parametrize("kind", ["call", "cast"])
def test_all_is_well(kind: str) -> None:
    verdict = judged(kind, [0, 1, 2, 3], [0, 1], {"a": [0], "b": [1, 3]}, refused=[2])
    assert verdict == Verdict(begun=4, succeeded=2, refused=1, unknown=1, executed=3)
    assert verdict.kept


@pytest.mark.parametrize("kind", ["call", "cast"])
def test_what_succeeded_and_was_not_executed_is_lost(kind: str) -> None:
    verdict = judged(kind, [0, 1], [0, 1], {"a": [0]})
    assert verdict.lost == 1 and not verdict.kept


@pytest.mark.parametrize("received", [{"a": [0, 0]}, {"a": [0], "b": [0]}])
@pytest.mark.parametrize("kind", ["call", "cast"])
def test_what_is_executed_twice(kind: str, received: Mapping[str, list[int]]) -> None:
    verdict = judged(kind, [0], [0], received)
    assert verdict.duplicated == 1 and not verdict.kept


@pytest.mark.parametrize("kind", ["call", "cast", "fanout"])
def test_what_was_refused_and_executed(kind: str) -> None:
    verdict = judged(kind, [0], [], {"a": [0]}, refused=[0])
    assert verdict.broken == 1 and not verdict.kept


def test_what_a_killed_server_may_take_along() -> None:
    """What was confirmed shortly before, and no more than its credit."""
    casts = range(10)
    lately = Killing({"c": 0b1111100000}, credit=3)
    verdict = judged("cast", casts, casts, {"a": range(7)}, killings=[lately])
    assert (verdict.lost, verdict.lost_with_server) == (0, 3)
    assert verdict.kept
    verdict = judged("cast", casts, casts, {"a": range(6)}, killings=[lately])
    assert (verdict.lost, verdict.lost_with_server) == (1, 3)
    verdict = judged("cast", casts, casts, {"a": range(1, 10)}, killings=[lately])
    assert (verdict.lost, verdict.lost_with_server) == (1, 0)
    verdict = judged("call", casts, casts, {"a": range(7)}, killings=[lately])
    assert (verdict.lost, verdict.lost_with_server) == (3, 0)


def test_a_fanout_is_for_each_server_once() -> None:
    verdict = judged("fanout", [0, 1], [0, 1], {"a": [0, 1], "b": [0, 1]})
    assert verdict == Verdict(begun=2, succeeded=2, executed=2)
    verdict = judged("fanout", [0, 1], [0, 1], {"a": [0, 1, 1], "b": []})
    assert verdict.duplicated == 1 and not verdict.kept


def test_a_fanout_that_a_server_has_missed() -> None:
    verdict = judged(
        *("fanout", [0, 1, 2], [0, 1, 2], {"a": [0], "b": [0, 1, 2]}),
        due={"a": 0b011, "b": 0b111},
    )
    assert verdict.missed == {"a": 1} and verdict.kept


def test_who_has_executed_a_message() -> None:
    received = {"a": ledger([0, 2], "call"), "b": ledger([2], "call")}
    books = Books([], [], [], received)
    assert executed_by(books, "c", "call", 0) == ["a"]
    assert executed_by(books, "c", "call", 1) == []
    assert executed_by(books, "c", "call", 2) == ["a", "b"]
    assert (
        executed_by(books, "d", "call", 0) == executed_by(books, "c", "cast", 0) == []
    )


@pytest.mark.parametrize(("turn", "wanted"), [(0, [0, 5]), (3, [3]), (4, [4, 9])])
def test_those_whose_turn_it_was(turn: int, wanted: list[int]) -> None:
    bits = sum(1 << number for number in (0, 1, 3, 4, 5, 9))
    assert every({"c": bits, "d": 0}, turn, 5) == {
        "c": sum(1 << number for number in wanted),
        "d": 0,
    }


TIMEOUT = oslo_messaging.MessagingTimeout


@pytest.mark.parametrize(
    ("kind", "error", "promises"),
    [
        ("call", errors.TargetUnreachable("nobody"), True),
        ("call", errors.BusUnavailable("no bus"), True),
        ("call", errors.MessageRefused("too large"), True),
        ("call", TIMEOUT("no reply within 3 s"), False),
        ("call", TIMEOUT("no reply within 3 s; it has not begun"), True),
        ("call", errors.ServersBusy("no server had room for it"), True),
        ("call", errors.ServerLost("gone; it may have acted on it"), False),
        ("cast", TIMEOUT("no confirmation within 3 s"), True),
        ("cast", TIMEOUT("no confirmation; the server may still execute it"), False),
        ("cast", errors.ServersBusy("no server had room for it"), True),
        ("cast", errors.BusLost("lost, the server may have acted on it"), False),
        ("cast", ValueError(), False),
        ("fanout", errors.TargetUnreachable("nobody"), True),
        ("fanout", errors.FanoutIncomplete("some listeners did not confirm it"), False),
    ],
)
def test_which_errors_promise_that_nothing_is_executed(
    kind: str, error: Exception, promises: bool
) -> None:
    assert not_begun(kind, error) is promises
