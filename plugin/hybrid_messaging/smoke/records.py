# SPDX-License-Identifier: Apache-2.0
"""What libraries log during a check: the evidence for what went wrong."""

from __future__ import annotations

import logging
from collections import deque

from hybrid_messaging import urls

#: Who tells about transports; for the time of a run, only to us.
LOGGERS = ("hybrid_messaging.drivers", "oslo_messaging", "oslo.messaging", "amqp")

_KEPT = 200


class Records(logging.Handler):
    """Keeps the warnings and errors of the transports, instead of the console.

    Use it as a context manager.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._records: deque[logging.LogRecord] = deque(maxlen=_KEPT)
        self._propagated = {name: logging.getLogger(name).propagate for name in LOGGERS}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self._records.append(record)

    def clear(self) -> None:
        """Forget what has been logged."""
        self._records.clear()

    def lines(self) -> list[str]:
        """What has been logged, without repetitions and passwords."""
        return list(
            dict.fromkeys(urls.redact(item.getMessage()) for item in self._records)
        )

    def error(self) -> BaseException | None:
        """The latest exception that somebody has logged instead of raising it."""
        errors = [item.exc_info[1] for item in self._records if item.exc_info]
        return errors[-1] if errors else None

    def __enter__(self) -> Records:
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.addHandler(self)
            logger.propagate = False
        return self

    def __exit__(self, *_: object) -> None:
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.removeHandler(self)
            logger.propagate = self._propagated[name]
