# SPDX-License-Identifier: Apache-2.0
"""How commands are told which services' files they are about."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_discover(parser: argparse._ActionsContainer) -> None:
    """Add ``--discover``."""
    parser.add_argument(
        "--discover",
        type=Path,
        metavar="DIR",
        help="find the files of all OpenStack services below DIR, such as /etc",
    )


def named(parsed_args: argparse.Namespace, with_fragments: bool = False) -> list[str]:
    """The files that the command line names, and those that it has us find.

    :param with_fragments: find also what overrides a service's main file from its
        configuration directory
    :raises ServiceConfigError: there are none
    """
    from hybrid_messaging.service_configs.errors import ServiceConfigError
    from hybrid_messaging.service_configs.services import (
        discover,
        overriding_fragments,
    )

    files = list(parsed_args.files)
    if parsed_args.discover:
        for path in discover(parsed_args.discover):
            files.append(str(path))
            if with_fragments:
                files += map(str, overriding_fragments(path))
    if not files:
        raise ServiceConfigError(
            "no files given", "name a service's configuration file, or --discover /etc"
        )
    return files


def of_services(parsed_args: argparse.Namespace) -> list[list[Path]]:
    """The files of each service: FILE or FILE,FILE; a comma may be part of a name.

    :raises ServiceConfigError: there are none
    """
    return [
        [Path(argument)]
        if os.path.lexists(argument)
        else [Path(name) for name in argument.split(",")]
        for argument in named(parsed_args)
    ]
