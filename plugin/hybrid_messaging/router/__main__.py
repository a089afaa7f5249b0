# SPDX-License-Identifier: Apache-2.0
"""Runs the router: `python -m hybrid_messaging.router --config FILE`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from hybrid_messaging.router.config import ConfigError, load
from hybrid_messaging.router.server import Router, raise_descriptor_limit, serve


def main() -> int:
    """Run a router in the foreground; the exit code of the process is returned."""
    parser = argparse.ArgumentParser(prog="python -m hybrid_messaging.router")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    try:
        config = load(arguments.config)
        logging.basicConfig(
            level=config.log_level.upper(),
            filename=config.log_file or None,
            format="%(asctime)s %(levelname)s %(message)s",
        )
        raise_descriptor_limit()
        router = Router(config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    serve(router)
    return 0


if __name__ == "__main__":
    sys.exit(main())
