# SPDX-License-Identifier: Apache-2.0
"""The router as a process: its log, its signals, its limits."""

from __future__ import annotations

import logging
import resource
import signal
from logging.handlers import WatchedFileHandler
from types import FrameType

from hybrid_messaging.log_safety import Formatter, RateLimit
from hybrid_messaging.router.config import ConfigError, RouterConfig
from hybrid_messaging.router.management import Management
from hybrid_messaging.router.memory import Trimmer
from hybrid_messaging.router.server import Router

LOG = logging.getLogger(__name__)


def serve(config: RouterConfig) -> None:
    """Run a router until SIGTERM or SIGINT; SIGHUP changes nothing.

    :raises ConfigError: it can't listen or log as it should
    """
    rate_limit = _log(config)
    _raise_descriptor_limit()

    def sum_up() -> None:
        for record in rate_limit.summaries():
            LOG.handle(record)

    trimmer = Trimmer(lambda: router.accepted - len(router.connections))
    router = Router(config, chores=[sum_up, trimmer])
    router.table.put(Management(router))

    def stop(number: int, frame: FrameType | None) -> None:
        # no line from here: the signal may have interrupted one that is being written
        router.stop(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, lambda number, frame: None)
    router.run()


def _log(config: RouterConfig) -> RateLimit:
    handler: logging.Handler = logging.StreamHandler()
    if config.log_file:
        try:
            # goes on in a new file after a log rotation
            handler = WatchedFileHandler(config.log_file)
        except OSError as error:
            raise ConfigError(
                f"cannot write the log to {config.log_file}: {error.strerror}"
            ) from error
    handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(message)s"))
    rate_limit = RateLimit()
    handler.addFilter(rate_limit)
    logger = logging.getLogger(__package__)
    logger.addHandler(handler)
    logger.setLevel(config.log_level)
    logger.propagate = False
    return rate_limit


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
