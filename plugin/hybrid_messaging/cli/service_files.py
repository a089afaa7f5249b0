# SPDX-License-Identifier: Apache-2.0
"""How commands are told which services' files they are about."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from hybrid_messaging.service_configs.rewriting import Target

_T = TypeVar("_T")


def add_discover(parser: argparse._ActionsContainer) -> None:
    """Add ``--discover``."""
    parser.add_argument(
        "--discover",
        type=Path,
        metavar="DIR",
        help="find the configuration files of all OpenStack services below DIR, such"
        " as /etc",
    )


def add_to_rewrite(parser: argparse._ActionsContainer, vhost: str) -> None:
    """Add the files that are to be rewritten, and their virtual hosts.

    :param vhost: what their virtual hosts are for
    """
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help=f"a configuration file; FILE=VHOST sets the virtual host of {vhost}",
    )
    add_discover(parser)
    hosts = parser.add_argument_group(f"virtual hosts of {vhost}")
    group = hosts.add_mutually_exclusive_group()
    group.add_argument("--vhost", help="virtual host for all files without =VHOST")
    group.add_argument(
        "--keep-vhosts",
        action="store_true",
        help="keep the virtual host of each file (for cells of Nova)",
    )


def add_hosts(parser: argparse._ActionsContainer) -> None:
    """Add ``--hosts``."""
    parser.add_argument(
        "--hosts",
        type=Path,
        metavar="DIR",
        help="find the files of all services on many hosts: DIR has one directory for"
        " each host, with its etc directory or the contents of that",
    )


def of_hosts(parsed_args: argparse.Namespace) -> list[tuple[str, list[Path]]]:
    """The files of each service, each with the name of the host that has them.

    :raises ServiceConfigError: there are none
    """
    from hybrid_messaging.service_configs.errors import ServiceConfigError
    from hybrid_messaging.service_configs.services import (
        NothingFound,
        discover,
        together,
    )

    tree: Path = parsed_args.hosts
    if not tree.is_dir():
        raise ServiceConfigError(tree, "is not a directory")
    found: list[tuple[str, list[Path]]] = []
    for directory in sorted(path for path in tree.iterdir() if path.is_dir()):
        etc = directory / "etc"
        with contextlib.suppress(NothingFound):  # as on a host of databases
            files = together(discover(etc if etc.is_dir() else directory))
            found += [(directory.name, each) for each in files]
    return _some(found)


def of_services(parsed_args: argparse.Namespace) -> list[list[Path]]:
    """The files of each service: FILE or FILE,FILE; a comma may be part of a name.

    :raises ServiceConfigError: there are none
    """
    from hybrid_messaging.service_configs.services import discover, together

    services = [
        [Path(argument)]
        if os.path.lexists(argument)
        else [Path(name) for name in argument.split(",")]
        for argument in parsed_args.files
    ]
    if parsed_args.discover:
        services += together(discover(parsed_args.discover))
    return _some(services)


def to_write(parsed_args: argparse.Namespace) -> list[str]:
    """The files that the command line names, and those that it has us find.

    What decides instead of a file that was found is among them where a program of the
    service surely reads it.

    :raises ServiceConfigError: there are none
    """
    from hybrid_messaging.service_configs.layers import overriding
    from hybrid_messaging.service_configs.services import discover, identify

    files = list(parsed_args.files)
    if parsed_args.discover:
        for path in discover(parsed_args.discover):
            files.append(str(path))
            found = overriding(path, identify(path))
            files += [str(each) for each, certain in found.items() if certain]
    return _some(files)


def to_rewrite(parsed_args: argparse.Namespace) -> list[Target]:
    """The files named and found, with the virtual host that was asked for.

    :raises ServiceConfigError: there are none
    """
    from hybrid_messaging.service_configs.rewriting import Target

    targets = []
    for argument in to_write(parsed_args):
        path, equals, vhost = str(argument).rpartition("=")
        if equals and not os.path.lexists(argument):
            targets.append(Target(Path(path), vhost))
        else:
            targets.append(Target(Path(argument), parsed_args.vhost))
    return targets


def _some(found: list[_T]) -> list[_T]:
    from hybrid_messaging.service_configs.errors import ServiceConfigError

    if not found:
        raise ServiceConfigError(
            "no files given",
            "name a service's configuration file, or use --discover /etc",
        )
    return found
