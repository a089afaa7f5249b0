# SPDX-License-Identifier: Apache-2.0
"""Options that several of the ``bench`` commands share."""

from __future__ import annotations

import argparse
import os


def add_control(parser: argparse.ArgumentParser) -> None:
    """Add ``--control``."""
    parser.add_argument(
        "--control",
        default=os.environ.get("HYBRID_BENCH_CONTROL_URL"),
        metavar="URL",
        help="transport over which a run steers workers on other hosts, apart from "
        "those under test (default: $HYBRID_BENCH_CONTROL_URL, which keeps a password "
        "off the command line)",
    )
