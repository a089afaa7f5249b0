# SPDX-License-Identifier: Apache-2.0
"""``zmq-proxy``: a TCP concentrator for zmq://, in the foreground; and its status."""

from __future__ import annotations

import argparse
import datetime
import signal
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hybrid_messaging import urls
from hybrid_messaging.cli import ending, options, progress
from hybrid_messaging.cli.base import Command, Lister

if TYPE_CHECKING:
    from hybrid_messaging.drivers.zmq.driver import ZmqDriver

_COLUMNS = (
    "proxy",
    "endpoint",
    "status",
    "since",
    "version",
    "clients",
    "servers",
    "waiting",
    "replies",
    "taken",
    "unreachable",
    "busy",
    "refused",
    "lost",
    "undelivered",
)
#: Those that a proxy tells just as they are shown.
_TOLD = _COLUMNS[4:]
ALL_ANSWER, NOT_ALL_ANSWER = 0, 1


def _add_url(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config-file",
        action="append",
        metavar="FILE",
        default=[],
        help="a service's configuration file with [DEFAULT] transport_url and"
        " [oslo_messaging_zmq]; can be given several times",
    )
    options.add_rpc_url(
        parser, "zmq:// URL to use instead of the one in the configuration files"
    )


def _driver(parsed_args: argparse.Namespace) -> tuple[str, ZmqDriver]:
    """The transport URL and the driver of these options.

    :raises ConfigurationError: there is no zmq:// URL
    """
    import oslo_messaging
    from oslo_config import cfg
    from oslo_messaging.exceptions import ConfigurationError

    from hybrid_messaging.drivers.zmq.driver import ZmqDriver

    conf = cfg.ConfigOpts()
    conf([], default_config_files=parsed_args.config_file, default_config_dirs=[])
    url = parsed_args.rpc_url
    transport = oslo_messaging.get_rpc_transport(conf, url)
    driver = transport._driver
    url = str(transport.conf.transport_url) if url is None else url
    if not isinstance(driver, ZmqDriver):
        raise ConfigurationError(
            f"{urls.shown(url)} is not a zmq:// URL: name one in transport_url of a"
            " --config-file, or in HYBRID_RPC_URL"
        )
    return url, driver


class ZmqProxy(Command):
    """Run a proxy for zmq:// until SIGTERM.

    Clients with use_router_proxy connect to proxies instead of to every server, and
    send through them. Proxies and clients find each other through the matchmaker; run
    any number of proxies. Options of [oslo_messaging_zmq] say where a proxy listens,
    and which keys it has.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_url(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        tell = progress.printer(self.app)
        url, driver = _driver(parsed_args)
        proxy = driver.proxy()
        with ending.by_signal():
            try:
                endpoint = proxy.start()
                tell(f"{endpoint} forwards for {urls.shown(url)}")
                signal.pause()
            finally:
                tell("stopping: finishing the requests that are being delivered")
                proxy.stop()


class ZmqProxyStatus(Lister):
    """Show the registered proxies, and how many messages have passed through them.

    Exit code 0: at least one is registered, and all answer; 1: none is registered, or
    one does not answer.
    """

    _exit_code = ALL_ANSWER

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_url(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        tell = progress.printer(self.app)
        url, driver = _driver(parsed_args)
        try:
            reports = driver.proxies()
        finally:
            driver.cleanup()
        if not reports:
            tell(f"no proxy is registered at {urls.shown(url)}")
        for report in reports:
            if report.problem:
                tell(report.problem)
        if not reports or any(report.problem for report in reports):
            self._exit_code = NOT_ALL_ANSWER
        return _COLUMNS, [
            (
                report.name,
                report.endpoint,
                "silent" if report.problem else "up",
                _since(report.told.get("started")),
                *map(report.told.get, _TOLD),
            )
            for report in reports
        ]

    def run(self, parsed_args: argparse.Namespace) -> int:
        return super().run(parsed_args) or self._exit_code


def _since(started: float | None) -> str | None:
    if started is None:
        return None
    since = datetime.datetime.fromtimestamp(started, datetime.timezone.utc)
    return since.astimezone().isoformat(timespec="seconds")
