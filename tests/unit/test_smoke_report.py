# SPDX-License-Identifier: Apache-2.0
"""Results as people read them."""

from __future__ import annotations

from hybrid_messaging.smoke import report
from hybrid_messaging.smoke.outcome import Result, Status


def test_a_check_is_a_line_with_its_time() -> None:
    result = Result("call", Status.PASSED, 0.126, "answered")
    assert list(report.lines(result, 6)) == ["ok       call     0.13 s  answered"]


def test_a_check_that_was_not_made_has_no_time() -> None:
    result = Result("call", Status.SKIPPED, None, "not here")
    assert list(report.lines(result, 4)) == ["skipped  call           not here"]


def test_a_failure_shows_what_was_found_and_what_to_look_at() -> None:
    many = [f"q{number}" for number in range(report.NAMES + 2)]
    found = {"queues": many, "exchanges": []}
    result = Result("call", Status.FAILED, 1, "wrong", "the log", found)
    head, *rest = report.lines(result, 4)
    assert head == "FAILED   call   1.00 s  wrong"
    assert [line.strip() for line in rest] == [
        "queues:",
        *many[: report.NAMES],
        "and 2 more",
        "exchanges: none",
        "look at: the log",
    ]


def test_the_summary_counts_only_what_there_is() -> None:
    results = [
        Result("a", Status.PASSED, 1, ""),
        Result("b", Status.INFO, 1, ""),
        Result("c", Status.PASSED, 1, ""),
    ]
    assert report.summary(results, 2.04) == "2 passed, 1 info in 2.0 s"
