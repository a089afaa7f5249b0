# SPDX-License-Identifier: Apache-2.0
"""Log lines of the drivers, written by a thread that has nothing else to do.

A handler may send over the transport that has something to log: oslo.log's
publish_errors does, and oslo.messaging's LoggingNotificationHandler. In a thread
that holds a driver's lock, that would wait for itself; in one that reads or
reconnects, it would wait for what that thread is about to do. So no driver calls a
handler in its own threads or in those of its callers. What libraries log in threads
of a driver goes the same way, if the driver has adopted their loggers.

Peers have a say in what the drivers log. So every line is made safe here and counted:
`hybrid_messaging.log_safety` has the limits.
"""

from __future__ import annotations

import atexit
import collections
import logging
import sys
import threading
import traceback
import types
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from hybrid_messaging import log_safety
from hybrid_messaging.drivers import forks
from hybrid_messaging.drivers.waiter import Waiter

#: Lines that may wait for a handler that hangs; after that the oldest are lost.
MOST = 1000
#: Seconds that the last lines may take when the process ends.
FAREWELL = 1.0


class Writer:
    """The thread that calls handlers; it begins with the first line."""

    def __init__(self) -> None:
        self._start_anew()
        forks.register(self)

    def _start_anew(self) -> None:
        # reentrant, for a signal handler may log, too
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._bell = Waiter()
        self._rate_limit = log_safety.RateLimit()
        self._waiting: collections.deque[
            tuple[logging.Logger, logging.LogRecord] | Waiter
        ] = collections.deque(maxlen=MOST)

    def after_fork(self) -> None:
        """In a child: the thread is the parent's, and so are its lines."""
        self._start_anew()

    def admits(self, record: logging.LogRecord) -> bool:
        """Whether its place in the code has not written too much of late."""
        return self._rate_limit.filter(record)

    def write(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        """Have a line written."""
        self._waiting.append((logger, record))
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._begin()
        self._bell.wake()

    def _begin(self) -> None:
        thread = threading.Thread(target=self._run, name="driver-log", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:
            # there is none to be had: the lines wait for the next attempt
            self._thread = None

    def flush(self, seconds: float) -> bool:
        """Wait until what was said so far has been written.

        :returns: False if the time was up first
        """
        if self._thread is None or self._thread is threading.current_thread():
            return not self._waiting
        written = Waiter()
        self._waiting.append(written)
        self._bell.wake()
        return written.wait(seconds)

    def _run(self) -> None:
        while True:
            while self._waiting:
                self._handle(self._waiting.popleft())
            for record in self._rate_limit.summaries():
                self._handle((logging.getLogger(record.name), record))
            self._bell.wait(self._rate_limit.until_summary())

    def _handle(self, next: tuple[logging.Logger, logging.LogRecord] | Waiter) -> None:
        if isinstance(next, Waiter):
            next.wake()
            return
        logger, record = next
        try:
            logger.handle(record)
        except Exception:
            # what logging itself does about a handler that fails
            if logging.raiseExceptions and sys.stderr is not None:
                traceback.print_exc()


_writer = Writer()


def _settle(record: logging.LogRecord, failure: Any) -> None:
    """Make a line text: a handler that keeps its records is to keep no connections."""
    record.msg, record.args = log_safety.line(record.getMessage()), None
    record.exc_info = None
    if failure:
        text = "".join(traceback.format_exception(*failure))
        record.exc_text = log_safety.block(text)


_LOGGING = logging.log.__code__.co_filename


def _caller() -> types.FrameType:
    """Return the frame that has a line written.

    `logging.Logger.findCaller` counts frames in one way up to Python 3.10, and in
    another from 3.11 on.
    """
    frame = sys._getframe(2)
    while frame.f_code.co_filename == _LOGGING and frame.f_back:
        frame = frame.f_back
    return frame


if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:  # Python 3.10 knows it without brackets only
    _Adapter = logging.LoggerAdapter


class Logger(_Adapter):
    """A logger whose lines another thread writes."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Have a line written, as `logging.Logger.log` takes it."""
        if not self.isEnabledFor(level):
            return
        failure: Any = kwargs.get("exc_info")
        if failure is True:
            failure = sys.exc_info()
        elif isinstance(failure, BaseException):
            failure = (type(failure), failure, failure.__traceback__)
        logger = self.logger
        caller = _caller()
        code = caller.f_code
        record = logger.makeRecord(
            logger.name,
            level,
            code.co_filename,
            caller.f_lineno,
            msg,
            args,
            None,
            code.co_name,
            kwargs.get("extra"),
        )
        if _writer.admits(record):
            _settle(record, failure)
            _writer.write(logger, record)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Change nothing."""
        return msg, kwargs


_thread = threading.local()


def own_thread() -> None:
    """Mark the calling thread as one of a driver."""
    _thread.own = True


class _Adopted(logging.Filter):
    """Has lines of a library that come from threads of drivers written elsewhere."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self._logger = logger

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be written here and now."""
        if not getattr(_thread, "own", False):
            return True
        _settle(record, record.exc_info)
        _writer.write(self._logger, record)
        return False


def adopt(name: str) -> None:
    """Have another thread write what a library logs in threads of drivers.

    :param name: the library's, whose modules have been imported
    """
    # by module: some make their logger when they first have something to log
    for module in list(sys.modules):
        if f"{module}.".startswith(f"{name}."):
            logger = logging.getLogger(module)
            logger.addFilter(_Adopted(logger))


def get(name: str) -> Logger:
    """Return the logger of a module of a driver."""
    return Logger(logging.getLogger(name), {})


def flush(seconds: float = FAREWELL) -> bool:
    """Wait until what was said so far has been written.

    :returns: False if the time was up first
    """
    return _writer.flush(seconds)


atexit.register(flush)
