# SPDX-License-Identifier: Apache-2.0
"""How `configure` and `urls` are told which two transports they are about."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from hybrid_messaging.cli import options

if TYPE_CHECKING:
    from hybrid_messaging.service_configs.transports import Transports

RPC_URL_VARIABLE = "HYBRID_RPC_URL"
NOTIFY_URL_VARIABLE = "HYBRID_NOTIFY_URL"
RPC_PASSWORD_VARIABLE = "HYBRID_RPC_PASSWORD"  # noqa: S105
NOTIFY_QUEUES_VARIABLE = "HYBRID_NOTIFY_QUEUES"
NOTIFY_PASSWORD_VARIABLE = "HYBRID_NOTIFY_PASSWORD"  # noqa: S105


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options that name servers, and users there."""
    where = parser.add_argument_group("transports")
    options.add_state_dir(parser)
    where.add_argument(
        "--mode", help="a mode of `mode list`, with the hosts of its servers"
    )
    for role, name in (("rpc", "RPC"), ("notify", "notifications")):
        where.add_argument(
            f"--{role}-url",
            metavar="URL",
            help=f"transport URL for {name}; with a password, better in the "
            f"environment as HYBRID_{role.upper()}_URL",
        )
        where.add_argument(
            f"--{role}-host",
            metavar="HOST[:PORT]",
            action="append",
            default=[],
            help=f"server for {name}; can be given several times",
        )
        where.add_argument(
            f"--{role}-user",
            metavar="NAME",
            help="user there; the password comes from the environment: "
            f"HYBRID_{role.upper()}_PASSWORD",
        )
    where.add_argument(
        "--ca-file",
        metavar="FILE",
        help="the servers of --mode speak TLS, with certificates of the authority "
        "whose own is in this file (PEM)",
    )
    where.add_argument(
        "--zmq-key-directory",
        metavar="DIR",
        help="CURVE keys of services, where RPC is zmq:// (default: they derive some "
        "from the password of Redis)",
    )
    add_queues(parser)


def add_queues(parser: argparse.ArgumentParser) -> None:
    """Add ``--notify-queues``."""
    parser.add_argument(
        "--notify-queues",
        default=os.environ.get(NOTIFY_QUEUES_VARIABLE) or None,
        metavar="QUEUES",
        help="durable or quorum: which queues of RabbitMQ notifications wait in "
        f"(default: ${NOTIFY_QUEUES_VARIABLE}, else as configured, else durable)",
    )


def resolve(parsed_args: argparse.Namespace) -> Transports:
    """The transports of these options, of the environment, or those that run.

    :raises TransportError: something is missing, or unfit for its purpose
    """
    from hybrid_messaging.service_configs import transports

    environ = os.environ
    trusted = (parsed_args.ca_file, parsed_args.zmq_key_directory)
    rpc = transports.Side(
        parsed_args.rpc_url or environ.get(RPC_URL_VARIABLE),
        parsed_args.rpc_host,
        parsed_args.rpc_user,
        environ.get(RPC_PASSWORD_VARIABLE),
        *trusted,
    )
    notify = transports.Side(
        parsed_args.notify_url or environ.get(NOTIFY_URL_VARIABLE),
        parsed_args.notify_host,
        parsed_args.notify_user,
        environ.get(NOTIFY_PASSWORD_VARIABLE),
        *trusted,
    )
    return transports.resolve(
        rpc,
        notify,
        parsed_args.mode,
        parsed_args.state_dir,
        parsed_args.notify_queues,
    )
