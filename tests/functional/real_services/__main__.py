# SPDX-License-Identifier: Apache-2.0
"""Run the rig by hand: ``python -m tests.functional.real_services --help``."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from . import environment
from .baremetal import BareMetal
from .compute import Compute
from .deployment import THREADING
from .rig import PROVEN, Rig, kinds, running

DEPLOYMENTS = {"baremetal": BareMetal, "compute": Compute}


def main() -> None:
    """Run the services, drive them, print what they did, stop them."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.functional.real_services", description=__doc__
    )
    parser.add_argument("services", nargs="?", choices=DEPLOYMENTS, default="baremetal")
    parser.add_argument(
        "--mode", default="qpid-hybrid", help="of `mode list` (default: %(default)s)"
    )
    parser.add_argument(
        "--threading",
        choices=THREADING,
        default="native",
        help="how Nova and Cinder run",
    )
    parser.add_argument(
        "--build", action="store_true", help="build the environment, run nothing"
    )
    parser.add_argument(
        "--directory", type=Path, help="for configs, logs and databases; stays"
    )
    parser.add_argument(
        "--stay", action="store_true", help="go on running until interrupted"
    )
    chosen = parser.parse_args()
    kind = DEPLOYMENTS[chosen.services]
    if chosen.build:
        print(environment.ensure(environment.default_cache(), say, kind.PINS).root)
        return
    # SIGTERM, too, is to stop what runs
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="real-services-") as temporary:
        directory = chosen.directory or Path(temporary)
        with running(kind, chosen.mode, chosen.threading, directory, say) as rig:
            rig.exercise()
            rig.wait_until_stored(passes=1)
            if rig.bus.kind("rpc") in PROVEN:
                rig.wait_until_carried()
            show(rig)
            if chosen.stay:
                say(f"configs and logs are in {directory}; Ctrl-C ends everything")
                wait_for_interrupt()


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


def show(rig: Rig) -> None:
    """Print the account of a run."""
    for server, methods in rig.requests().items():
        print(f"\nRPC to {server} ({rig.deployment.SERVERS[server]})")
        for method, count in sorted(methods.items()):
            print(f"{count:5} {method}")
    print("\nnotifications published and stored")
    for kind, count in sorted(kinds(rig.stored()).items()):
        print(f"{count:5} {kind}")
    if rig.bus.kind("notify") == "rabbitmq":
        print("\nqueues on the notification broker")
        for queue in sorted(rig.bus.queues()):
            print(f"      {queue}")
    print()


def wait_for_interrupt() -> None:
    """Return when the person at the terminal presses Ctrl-C."""
    try:
        signal.pause()
    except KeyboardInterrupt:
        say("")


if __name__ == "__main__":
    main()
