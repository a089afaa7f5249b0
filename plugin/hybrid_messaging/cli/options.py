# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share."""

from __future__ import annotations

import argparse
import os
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


def add_tls(parser: argparse.ArgumentParser) -> None:
    """Add ``--tls`` and ``--no-tls``; without either, it is None."""
    parser.add_argument(
        "--tls",
        action=argparse.BooleanOptionalAction,
        default=_from_environment("HYBRID_TLS"),
        help="run engines with TLS, users and passwords, and without anything else "
        "(default: $HYBRID_TLS, else as they were, else without TLS)",
    )


def _from_environment(variable: str) -> bool | None:
    """A variable that is true or false, if it is set."""
    text = os.environ.get(variable)
    if not text:
        return None
    from oslo_utils import strutils

    try:
        return strutils.bool_from_string(text, strict=True)
    except ValueError:
        raise ValueError(
            f"{variable} is {text!r}: it has to be true or false"
        ) from None
