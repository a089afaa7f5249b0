# SPDX-License-Identifier: Apache-2.0
"""Latencies, rates, and who begins what when."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import pytest

from hybrid_messaging.bench.assignment import Assignment, Clock, Timing, interleave
from hybrid_messaging.bench.latency import Latencies
from hybrid_messaging.bench.parameters import Parameters, weights
from hybrid_messaging.bench.producer import Producer
from hybrid_messaging.bench.tally import Tally
from hybrid_messaging.bench.worker_reports import Produced, Tallied

TIMING = Timing(start=100.0, warm_up=2.0, duration=10.0)


def latencies(*seconds: float) -> Latencies:
    made = Latencies()
    for each in seconds:
        made.record(each)
    return made


def merged_of(tallied: Tallied) -> Latencies:
    assert tallied.latency is not None
    return Latencies.merged([tallied.latency])


def test_percentiles_have_three_digits() -> None:
    figures = latencies(*(number / 1000 for number in range(1, 1001))).figures()
    assert figures == pytest.approx(
        {
            "min": 1,
            "p50": 500,
            "p90": 900,
            "p99": 990,
            "p99.9": 999,
            "max": 1000,
        },
        rel=2e-3,
    )


def test_histograms_add_up_to_what_one_would_have_held() -> None:
    parts = [latencies(0.001, 0.002), latencies(0.3)]
    merged = Latencies.merged(part.encode() for part in parts)
    assert merged.figures() == latencies(0.001, 0.002, 0.3).figures()


def test_latencies_out_of_range_are_not_dropped() -> None:
    made = latencies(-1.0, 1e9)
    assert made.count == 2
    assert made.figures()["min"] == 0.001


def test_there_are_no_figures_of_nothing() -> None:
    assert Latencies().figures() == {}


def test_a_curve_ends_with_all_of_them() -> None:
    curve = latencies(0.001, 0.002, 0.002).curve()
    assert [round(share) for _, share in curve] == [33, 100]


def test_rates_count_ends_and_latencies_beginnings() -> None:
    tally = Tally(TIMING)
    tally.note("call", 101.0, 103.0)  # begun while warming up
    tally.note("call", 103.0, 104.0)
    tally.note("call", 111.0, 115.0)  # ends too late for the rate
    found = tally.report()["call"]
    assert found.count == 2
    merged = merged_of(found)
    assert merged.count == 2
    assert merged.figures()["max"] == pytest.approx(4000, rel=1e-3)
    assert merged.mean == pytest.approx(2.5, rel=1e-3)
    assert found.seconds == [(3, 1, 2.0), (4, 1, 1.0), (15, 1, 4.0)]


def test_what_was_due_and_never_began_has_waited_until_the_end() -> None:
    tally = Tally(TIMING)
    tally.overdue("call", 105.0)
    found = tally.report()["call"]
    assert found.count == 0
    assert merged_of(found).figures()["min"] == pytest.approx(7000, rel=1e-3)


def test_weights_are_kept_evenly() -> None:
    found = list(itertools.islice(interleave({"a": 3, "b": 1}), 8))
    assert found.count("a") == 6
    assert found[:4].count("b") == found[4:].count("b") == 1


def test_reading_weights() -> None:
    assert weights("call=3,cast", ("call", "cast")) == {"call": 3, "cast": 1}
    assert weights("call=1,cast=0", ("call", "cast")) == {"call": 1}


@pytest.mark.parametrize("text", ["", "shout=1", "call=x", "call=-1", "call=0"])
def test_weights_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        weights(text, ("call", "cast"))


def test_the_shares_of_a_mix() -> None:
    parameters = Parameters(rpc_share=80, rpc_mix={"call": 3, "cast": 1})
    assert parameters.mix == {"call": 60, "cast": 20, "notify": 20}


class Slow(Producer):
    """A producer whose first message takes long, and the others no time."""

    def connect(self) -> None:
        self.sent: list[float] = []
        pauses = itertools.chain([0.4], itertools.repeat(0.0))

        def send(data: dict[str, Any]) -> None:
            self.sent.append(data["sent"])
            time.sleep(next(pauses))

        self._send["call"] = send


def assignment(**values: Any) -> Assignment:
    common = {"name": "p", "token": "t", "rpc_url": "", "notify_url": ""}
    return Assignment(**{**common, "mix": {"call": 1}, "sizes": [(10, 1)], **values})


def produced(rate: float | None) -> tuple[Slow, Produced]:
    clock = Clock()
    producer = Slow(assignment(rate=rate), clock)
    producer.connect()
    done = threading.Event()
    producer.start(Timing(clock.now(), warm_up=0.0, duration=0.6), done.set)
    assert done.wait(30)
    return producer, producer.report()


def test_latencies_count_from_when_a_message_was_due() -> None:
    """One slow call delays those behind it: coordinated omission is corrected."""
    producer, report = produced(rate=50.0)
    merged = merged_of(report.sending["call"])
    # 30 were due, 20 of them within the 0.4 s
    assert len(producer.sent) + report.overdue == 30
    assert merged.count == 30
    assert merged.figures()["p50"] > 30


def test_without_a_rate_one_follows_the_other() -> None:
    producer, report = produced(rate=None)
    merged = merged_of(report.sending["call"])
    assert merged.count == len(producer.sent)
    assert merged.figures()["p50"] < 100
    assert report.overdue == 0


def test_threads_share_a_rate() -> None:
    timing = Timing(start=0.0, warm_up=1.0, duration=1.0)
    first = assignment(rate=5.0, lanes=4, first_lane=0, threads=2)
    second = assignment(rate=5.0, lanes=4, first_lane=2, threads=2)
    dues = [
        list(each.dues(timing, index)) for each in (first, second) for index in (0, 1)
    ]
    assert dues[0] == pytest.approx([0.0, 0.8, 1.6])
    assert sorted(itertools.chain(*dues)) == pytest.approx(
        [index / 5 for index in range(10)]
    )
