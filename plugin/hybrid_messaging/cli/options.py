# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from hybrid_messaging import state


def add_state_dir(parser: argparse.ArgumentParser) -> None:
    """Add ``--state-dir``."""
    parser.add_argument(
        "--state-dir",
        type=lambda text: Path(text).absolute(),
        default=state.default_state_dir(),
        metavar="DIR",
        help="where `up` keeps what it runs; each such directory is a deployment of "
        "its own (default: %(default)s)",
    )
