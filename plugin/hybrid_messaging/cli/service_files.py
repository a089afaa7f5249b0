# SPDX-License-Identifier: Apache-2.0
"""How `configure` and `check` are told which services' files they are about."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_discover(parser: argparse.ArgumentParser) -> None:
    """Add ``--discover``."""
    parser.add_argument(
        "--discover",
        type=Path,
        metavar="DIR",
        help="find the files of all OpenStack services below DIR, such as /etc",
    )


def named(parsed_args: argparse.Namespace) -> list[str]:
    """The files that the command line names, and those that it has us find.

    :raises ServiceConfigError: there are none
    """
    from hybrid_messaging.service_configs.errors import ServiceConfigError
    from hybrid_messaging.service_configs.services import discover

    files = list(parsed_args.files)
    if parsed_args.discover:
        files += map(str, discover(parsed_args.discover))
    if not files:
        raise ServiceConfigError(
            "no files given", "name a service's configuration file, or --discover /etc"
        )
    return files
