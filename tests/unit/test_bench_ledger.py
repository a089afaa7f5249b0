# SPDX-License-Identifier: Apache-2.0
"""Every message is accounted for, whatever became of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from hybrid_messaging.bench.ledger import Account, Ledger, read, settle, total


def ledger(*ticks: tuple[str, str, int]) -> list[list[object]]:
    made = Ledger()
    for producer, kind, number in ticks:
        made.tick(producer, kind, number)
    return made.encode()


def calls(*numbers: int, kind: str = "notify", producer: str = "p") -> list[object]:
    return ledger(*((producer, kind, number) for number in numbers))


def test_all_is_well() -> None:
    sent = calls(*range(20))
    assert settle("notify", [sent], [sent], [sent]) == Account(sent=20, received=20)


def test_what_was_sent_and_never_came_is_lost() -> None:
    sent = calls(0, 1, 2, 9)
    account = settle("notify", [sent], [sent], [calls(0, 2)])
    assert account == Account(sent=4, received=2, lost=2)


def test_what_failed_is_not_lost_and_may_have_come() -> None:
    account = settle("notify", [calls(0, 1, 2)], [calls(0)], [calls(0, 1)])
    assert account == Account(sent=3, received=2, failed=2, failed_received=1)
    assert account.sent == (
        account.received + account.lost + account.failed - account.failed_received
    )


def test_duplicates_at_one_consumer_and_across_two() -> None:
    sent = calls(0, 1)
    account = settle("notify", [sent], [sent], [calls(0, 0, 1), calls(1)])
    assert account == Account(sent=2, received=2, duplicated=2)


def test_producers_and_kinds_number_their_messages_by_themselves() -> None:
    first, second = calls(0, 1), calls(0, producer="q")
    casts = calls(0, 1, 2, kind="cast")
    account = settle("notify", [first, second, casts], [first, second, casts], [first])
    assert account == Account(sent=3, received=2, lost=1)


def test_an_answer_proves_a_call_whose_server_is_dead() -> None:
    begun = calls(0, 1, 2, kind="call")
    answered = calls(0, 1, kind="call")
    account = settle("call", [begun], [answered], [])
    assert account == Account(sent=3, received=2, failed=1)


def test_producers_of_which_one_side_knows_nothing() -> None:
    begun, other = calls(1, kind="call"), calls(0, kind="call", producer="q")
    account = settle("call", [begun, other], [begun], [])
    assert account == Account(sent=2, received=1, failed=1)


def test_a_call_that_was_executed_twice() -> None:
    sent = calls(0, kind="call")
    account = settle("call", [sent], [sent], [sent, sent])
    assert account.duplicated == 1


def test_a_fanout_is_for_every_server() -> None:
    sent = calls(0, 1, kind="fanout")
    account = settle("fanout", [sent], [sent], [sent, calls(1, kind="fanout")])
    assert account == Account(sent=4, received=3, lost=1)


def test_ticks_are_counted_by_kind() -> None:
    made = Ledger()
    for kind in ("call", "call", "cast"):
        made.tick("p", kind, 1000)
    assert made.ticks() == {"call": 2, "cast": 1}


def test_a_ledger_in_files_can_be_read_at_any_time(tmp_path: Path) -> None:
    made = Ledger(tmp_path / "ledger")
    assert read(tmp_path / "ledger") == []
    far = 100_000
    for number in (0, 7, 8, far, 7):
        made.tick("producer 1", "cast", number)
    made.tick("producer 2", "call", 3)
    found = read(tmp_path / "ledger")
    assert total("cast", [found]) == ({"producer 1": 1 | 1 << 7 | 1 << 8 | 1 << far}, 5)
    assert total("call", [found]) == ({"producer 2": 1 << 3}, 1)
    assert sorted(found) == sorted(made.encode())


def test_a_ledger_survives_its_process(tmp_path: Path) -> None:
    code = f"""
import os, pathlib, signal
from hybrid_messaging.bench.ledger import Ledger
made = Ledger(pathlib.Path({str(tmp_path / "ledger")!r}))
for number in range(100_000):
    made.tick("p", "call", number)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code])
    assert done.returncode == -signal.SIGKILL
    assert total("call", [read(tmp_path / "ledger")]) == (
        {"p": (1 << 100_000) - 1},
        100_000,
    )


def test_a_page_grows_when_a_number_is_beyond_it(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "ledger"
    in_files, in_memory = Ledger(directory), Ledger()
    # the first number beyond the first page, and those around it
    beyond = (4096 - 8) * 8
    for number in (beyond - 1, beyond, beyond + 1):
        for made in (in_files, in_memory):
            made.tick("p", "cast", number)
        there = sum(1 << each for each in range(beyond - 1, number + 1))
        assert total("cast", [in_memory.encode()])[0] == {"p": there}
        assert in_files.encode() == in_memory.encode() == read(directory)
    assert (directory / "p cast").stat().st_size == 2 * 4096
