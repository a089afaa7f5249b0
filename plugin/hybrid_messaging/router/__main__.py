# SPDX-License-Identifier: Apache-2.0
"""Runs the router: `python -m hybrid_messaging.router --config FILE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hybrid_messaging.router.config import ConfigError, load
from hybrid_messaging.router.program import serve


def main() -> int:
    """Run a router in the foreground; the exit code of the process is returned."""
    parser = argparse.ArgumentParser(prog="python -m hybrid_messaging.router")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    try:
        serve(load(arguments.config))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
