# SPDX-License-Identifier: Apache-2.0
"""What peers can do to a log."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator

import pytest

from hybrid_messaging import log_safety
from hybrid_messaging.drivers import logs
from hybrid_messaging.log_safety import (
    LONGEST_LINE,
    LONGEST_TEXT,
    MOST_LINES,
    SELDOM,
    Formatter,
    RateLimit,
    Tally,
    block,
    line,
    quoted,
)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("", ""),
        ("nova-compute 5 (Zürich)", "nova-compute 5 (Zürich)"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred\x7f", "\\x1b[31mred\\x7f"),
        ("a\u2028b\u202ec", "a\\u2028b\\u202ec"),
        ("\ud800", "\\ud800"),
        ("x" * LONGEST_TEXT, "x" * LONGEST_TEXT),
        ("x" * (LONGEST_TEXT + 1), "x" * (LONGEST_TEXT - 1) + "…"),
        ("x" * 1_000_000, "x" * (LONGEST_TEXT - 1) + "…"),
        (b"caf\xc3\xa9\xff", "café\ufffd"),
        (ValueError("no\ngood"), "no\\ngood"),
        (None, "None"),
    ],
)
def test_a_text_is_shown_on_one_line_and_cut(said: object, shown: str) -> None:
    assert quoted(said) == shown


@pytest.mark.parametrize("said", ["\n", "\U000e0001", "é"])
def test_a_text_is_no_longer_when_it_is_escaped(said: str) -> None:
    assert len(quoted(said * 1_000_000)) == LONGEST_TEXT
    assert len(quoted((said * 1_000_000).encode())) == LONGEST_TEXT
    assert len(line(said * 1_000_000)) == LONGEST_LINE


def test_a_traceback_keeps_its_ends() -> None:
    shown = block("first\n" + "\x1b[2J\n" * 100_000 + "last" * 1_000_000)
    assert shown.count("\n") == MOST_LINES
    assert shown.startswith("first\n")
    assert "\nlastlast" in shown
    assert "\x1b" not in shown
    assert len(shown) < 2 * LONGEST_LINE + 20 * MOST_LINES


class Log:
    """A log with a limit, as the router has one, and a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("hybrid_messaging.log_safety.time.monotonic", self.clock)
        self.limit = RateLimit(lines=3, period=60.0)
        self._stream = io.StringIO()
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(Formatter("%(levelname)s %(message)s"))
        handler.addFilter(self.limit)
        self.logger = logging.Logger("edge", logging.DEBUG)
        self.logger.addHandler(handler)

    def clock(self) -> float:
        return self.now

    def offend(self, times: int, text: str = "x", level: int = logging.INFO) -> None:
        for number in range(times):
            self.logger.log(level, "offence %d: %s", number, text)

    def sum_up(self) -> None:
        for record in self.limit.summaries():
            self.logger.handle(record)

    def lines(self) -> list[str]:
        """What has been written since the last look."""
        written = self._stream.getvalue()
        self._stream.seek(0)
        self._stream.truncate()
        return written.splitlines()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    yield Log(monkeypatch)


def test_an_offence_that_is_repeated_costs_few_lines(log: Log) -> None:
    log.offend(5000)
    assert log.lines() == [f"INFO offence {number}: x" for number in range(3)]
    log.now += 59
    log.sum_up()
    assert log.lines() == []
    assert log.limit.until_summary() == 1.0
    log.now += 1
    log.sum_up()
    (summary,) = log.lines()
    assert summary == (
        "INFO omitted 4997 more lines like this within 60 s: offence 3: x"
    )
    assert log.limit.until_summary() is None
    log.offend(1)
    assert log.lines() == ["INFO offence 0: x"]


def test_other_lines_are_written_all_the_same(log: Log) -> None:
    log.offend(5000)
    log.logger.warning("another matter")
    assert log.lines()[3:] == ["WARNING another matter"]


def test_lines_that_were_few_count_for_one_period(log: Log) -> None:
    for _ in range(5):
        log.offend(3)
        assert len(log.lines()) == 3
        log.now += 60
    log.sum_up()
    assert log.lines() == []


def test_what_strangers_cause_is_one_line_and_a_count(log: Log) -> None:
    for number in range(5000):
        log.logger.info("stranger %d", number, extra=SELDOM)
    assert log.lines() == ["INFO stranger 0"]
    assert log.limit.until_summary() == 60.0
    log.now += 60
    log.sum_up()
    assert log.lines() == [
        "INFO omitted 4999 more lines like this within 60 s: stranger 1"
    ]
    log.logger.info("stranger", extra=SELDOM)
    log.now += 60
    log.sum_up()
    assert log.lines() == ["INFO stranger"]


def test_strangers_who_go_on_cause_a_line_and_a_count_each_minute(log: Log) -> None:
    for _ in range(5):
        for number in range(5000):
            log.logger.info("stranger %d", number, extra=SELDOM)
        log.now += 60
        log.sum_up()
        assert log.lines() == [
            "INFO stranger 0",
            "INFO omitted 4999 more lines like this within 60 s: stranger 1",
        ]


def test_a_tally_names_the_most_frequent_once_in_a_while(log: Log) -> None:
    tally = Tally()
    assert tally.add([]) == ""
    assert tally.add(["a"]) == "a 1 times"
    for number in range(5000):
        assert tally.add(["b", f"c{number}"]) == ""
    log.now += 60
    assert tally.add([]).startswith("b 5000 times, c0 1 times, ")
    assert tally.add([]) == ""


def test_a_tally_counts_so_many_names(log: Log) -> None:
    tally = Tally()
    tally.add(["first"])
    tally.add(map(str, range(5000)))
    log.now += 60
    assert tally.add([]).endswith(" and 990 others")


def test_debug_lines_are_not_counted(log: Log) -> None:
    log.offend(100, level=logging.DEBUG)
    assert len(log.lines()) == 100


def test_what_a_line_forgets_to_quote_is_bounded(log: Log) -> None:
    log.offend(1, "\x1b[2J\n" + "x" * 1_000_000)
    (written,) = log.lines()
    assert len(written) == LONGEST_LINE
    assert written.startswith("INFO offence 0: \\x1b[2J\\nxxx")
    try:
        raise ValueError("\x1b[2J\n" * 1_000_000)
    except ValueError:
        log.logger.exception("failed")
    written = "\n".join(log.lines())
    assert "Traceback" in written
    assert "\x1b" not in written
    assert len(written) < LONGEST_LINE * MOST_LINES


def test_nothing_large_is_kept_of_what_is_left_out(log: Log) -> None:
    log.offend(10, "\n" + "x" * 1_000_000)
    log.lines()
    log.now += 60
    log.sum_up()
    (summary,) = log.lines()
    assert "omitted 7 more lines" in summary
    assert "offence 3: \\nxxx" in summary
    assert len(summary) < 2 * LONGEST_TEXT


def test_the_drivers_lines_are_limited_and_summed_up_without_another_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer = logs.Writer()
    monkeypatch.setattr(writer, "_rate_limit", RateLimit(lines=3, period=0.2))
    monkeypatch.setattr(logs, "_writer", writer)
    records: list[logging.LogRecord] = []
    summed_up = logs.Waiter()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)
            if "omitted" in record.getMessage():
                summed_up.wake()

    plain = logging.getLogger(f"{__name__}.drivers")
    handler = Handler()
    plain.addHandler(handler)
    plain.setLevel(logging.INFO)
    plain.propagate = False
    logger = logs.get(plain.name)
    try:
        for number in range(1000):
            logger.warning("offence %d\n%s", number, "x" * 1_000_000)
        assert summed_up.wait(60)
        logger.warning("a stranger", extra=SELDOM)
        assert writer.flush(60)
    finally:
        plain.removeHandler(handler)
    assert [each.msg for each in records if hasattr(each, "most_lines")] == [
        "a stranger"
    ]
    written = [record.getMessage() for record in records]
    # a machine that is busy may need several periods for a thousand lines
    assert written[0].startswith("offence 0\\nxxx")
    assert max(map(len, written)) <= LONGEST_LINE
    assert any(
        "more lines like this within 0.2 s: offence " in each for each in written
    )


def test_a_line_of_a_signal_handler_may_interrupt_another(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = log_safety._Count

    def interrupted(*values: float) -> log_safety._Count:
        monkeypatch.setattr(log_safety, "_Count", count)
        log.logger.info("SIGTERM")
        return count(*values)

    monkeypatch.setattr(log_safety, "_Count", interrupted)
    writing = threading.Thread(target=log.offend, args=(1,), daemon=True)
    writing.start()
    writing.join(60)
    assert not writing.is_alive()
    assert log.lines() == ["INFO SIGTERM", "INFO offence 0: x"]
