# SPDX-License-Identifier: Apache-2.0
"""What a process of `zmq` makes of what the matchmaker says."""

from __future__ import annotations

from hybrid_messaging.drivers.zmq.directory import BELIEVED, Listing
from hybrid_messaging.drivers.zmq.matchmaker import Reading, Record

OLD = Record("old", "tcp://127.0.0.1:1", "a")
NEW = Record("new", "tcp://127.0.0.1:2", "b")


def listing(epoch: str, since: float, former: Listing | None, *records: Record):
    return Listing(Reading("", records, epoch), since, former)


def test_a_matchmaker_that_has_lost_its_memory_is_not_believed_at_once() -> None:
    before = listing("one", 0, None, OLD)
    lost = listing("two", 1, before)
    assert lost.records == (OLD,)
    filling = listing("two", 2, lost, NEW)
    assert filling.records == (NEW, OLD)
    # twice is no reason to count it twice
    assert listing("two", 3, filling, NEW, OLD).records == (NEW, OLD)
    later = listing("two", lost.since + BELIEVED, filling, NEW)
    assert later.records == (NEW,)


def test_a_server_that_has_gone_is_gone() -> None:
    before = listing("one", 0, None, OLD, NEW)
    assert listing("one", 1, before, NEW).records == (NEW,)


def test_what_has_not_changed_is_held_once() -> None:
    before = listing("one", 0, None, OLD, NEW)
    assert listing("one", 1, before, OLD, NEW).records is before.records
