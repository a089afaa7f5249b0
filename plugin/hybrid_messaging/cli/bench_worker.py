# SPDX-License-Identifier: Apache-2.0
"""``bench worker``: lend this host to a ``bench run`` elsewhere."""

from __future__ import annotations

import argparse
import os
import platform
import signal

from hybrid_messaging import urls
from hybrid_messaging.cli import bench_options, ending, progress
from hybrid_messaging.cli.base import Command


class BenchWorker(Command):
    """Run workers on this host for a `bench run` with the same control bus.

    Stays in the foreground until Ctrl-C or SIGTERM, and serves any number of runs.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        bench_options.add_control(parser)
        parser.add_argument(
            "--name",
            default=f"{platform.node()}-{os.getpid()}",
            help="name of this host in results, which must be unique (default: host"
            " name and pid)",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from hybrid_messaging.bench import BenchError, host

        url = parsed_args.control
        if url is None:
            raise BenchError("give the control bus with --control")
        tell = progress.printer(self.app)
        with ending.by_signal(), host.Host(url, parsed_args.name):
            tell(f"{parsed_args.name} is waiting for runs on {urls.shown(url)}")
            signal.pause()
