# SPDX-License-Identifier: Apache-2.0
"""Log lines that another thread writes."""

from __future__ import annotations

import logging
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator

import pytest

from hybrid_messaging.drivers import logs

LOG = logs.get(__name__)
#: far beyond what anything here takes
PLENTY = 60.0


class Handler(logging.Handler):
    """Calls a function with each record, and keeps the records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.act: Callable[[logging.LogRecord], None] = lambda record: None

    def emit(self, record: logging.LogRecord) -> None:
        self.act(record)
        self.records.append(record)


@pytest.fixture
def handler() -> Iterator[Handler]:
    found = Handler()
    logger = logging.getLogger(__name__)
    logger.addHandler(found)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(found)


def test_a_line_says_where_it_comes_from(handler: Handler) -> None:
    LOG.warning("lost %s", ["a"])
    assert logs.flush(PLENTY)
    (record,) = handler.records
    assert record.getMessage() == "lost ['a']"
    assert (record.name, record.levelno) == (__name__, logging.WARNING)
    assert record.funcName == "test_a_line_says_where_it_comes_from"
    assert record.threadName == threading.current_thread().name


def test_no_line_of_a_level_that_is_off(handler: Handler) -> None:
    LOG.debug("nothing")
    LOG.info("something")
    assert logs.flush(PLENTY)
    assert [record.msg for record in handler.records] == ["something"]


def test_an_exception_is_written_as_text(handler: Handler) -> None:
    try:
        raise ValueError("no good")
    except ValueError:
        LOG.exception("failed")
    assert logs.flush(PLENTY)
    (record,) = handler.records
    assert record.exc_info is None
    assert "ValueError: no good" in logging.Formatter().format(record)


def test_a_handler_that_hangs_holds_up_nobody(handler: Handler) -> None:
    LOG.logger.setLevel(logging.DEBUG)  # at which lines are not counted
    hangs = threading.Event()
    handler.act = lambda record: assert_true(hangs.wait(PLENTY))
    for number in range(logs.MOST + 10):
        LOG.debug("%s", number)  # would wait for ever, or grow for ever
    hangs.set()
    assert logs.flush(PLENTY)
    assert handler.records[-1].msg == str(logs.MOST + 9)
    assert len(handler.records) <= logs.MOST + 1


def assert_true(value: bool) -> None:
    assert value


def test_a_handler_may_log_and_may_fail(
    handler: Handler, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(record: logging.LogRecord) -> None:
        if record.msg == "first":
            LOG.warning("second")
            raise RuntimeError("the handler is broken")

    handler.act = act
    LOG.warning("first")
    assert logs.flush(PLENTY)
    assert logs.flush(PLENTY)
    assert [record.msg for record in handler.records] == ["second"]
    assert "the handler is broken" in capsys.readouterr().err


def test_a_child_writes_its_own_lines(handler: Handler) -> None:
    LOG.warning("in the parent")
    assert logs.flush(PLENTY)
    child = os.fork()
    if child == 0:
        try:
            LOG.warning("in the child")
            written = logs.flush(PLENTY)
            os._exit(0 if written and len(handler.records) == 2 else 1)
        finally:
            os._exit(255)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_a_library_logs_in_a_thread_of_a_driver_is_written_elsewhere(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{__name__}.library"
    for module in (name, f"{name}.connection", f"{name}x"):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    logs.adopt(name)
    library = logging.getLogger(f"{name}.connection")
    assert not logging.getLogger(f"{name}x").filters
    writers: list[str] = []
    handler.act = lambda record: writers.append(threading.current_thread().name)

    def log(own: bool) -> None:
        if own:
            logs.own_thread()
        try:
            raise ValueError("no good")
        except ValueError:
            library.exception("lost %s", ["a"])

    for own in (True, False):
        thread = threading.Thread(target=log, args=(own,), name="logs")
        thread.start()
        thread.join(PLENTY)
        assert logs.flush(PLENTY)
    assert writers == ["driver-log", "logs"]
    assert [record.getMessage() for record in handler.records] == ["lost ['a']"] * 2
    assert "no good" in logging.Formatter().format(handler.records[0])
    library.filters.clear()
