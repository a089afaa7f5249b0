# SPDX-License-Identifier: Apache-2.0
"""``zmq-keys``: make the CURVE keys of a host for zmq://."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterable, Sequence
from typing import Any

from hybrid_messaging.cli import progress, types
from hybrid_messaging.cli.base import ShowOne


class ZmqKeys(ShowOne):
    """Create a key pair for zmq://, unless the directory already has one.

    Only the owner can read the secret key. Copy the public key to the key directory
    of every host that this one talks to. Run this as the user that the services run
    as. Keys are never overwritten.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "directory",
            type=types.directory,
            metavar="DIR",
            help="key directory, as in [oslo_messaging_zmq] zmq_key_directory; it is"
            " created if it does not exist",
        )
        parser.add_argument(
            "--name",
            default=socket.gethostname(),
            help="name of the key files (default: the name of the host, %(default)s)",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Any]]:
        from hybrid_messaging.drivers.zmq import key_directory

        made = key_directory.make(parsed_args.directory, parsed_args.name)
        if made.new:
            progress.printer(self.app)(
                f"copy {made.public_path} to the key directories of the other hosts"
            )
        return ("public_key", "public_file", "secret_file", "made", "known"), (
            made.public.decode(),
            str(made.public_path),
            str(made.secret_path),
            made.new,
            made.known,
        )
