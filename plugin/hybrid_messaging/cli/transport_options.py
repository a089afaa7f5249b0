# SPDX-License-Identifier: Apache-2.0
"""How `configure` and `urls` are told which two transports they are about."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from hybrid_messaging.cli import options

if TYPE_CHECKING:
    from hybrid_messaging.service_configs.transports import Transports

RPC_PASSWORD_VARIABLE = "HYBRID_RPC_PASSWORD"  # noqa: S105
NOTIFY_PASSWORD_VARIABLE = "HYBRID_NOTIFY_PASSWORD"  # noqa: S105


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options that name servers, and users there."""
    where = parser.add_argument_group("transports")
    options.add_state_dir(parser)
    options.add_mode(
        where,
        "--mode",
        "mode of `mode list`; its servers are given with --rpc-host and --notify-host",
    )
    options.add_urls(where, "transport URL for {}")
    for role, name in (("rpc", "RPC"), ("notify", "notifications")):
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
            help=f"user on the servers for {name}; the password comes from the"
            f" environment variable HYBRID_{role.upper()}_PASSWORD",
        )
    where.add_argument(
        "--ca-file",
        metavar="FILE",
        help="CA certificate (PEM) that verifies the servers of --mode; the URLs then"
        " use TLS",
    )
    where.add_argument(
        "--zmq-key-directory",
        metavar="DIR",
        help="directory of the services' CURVE keys, if RPC is zmq:// (default:"
        " services derive keys from the password of Redis)",
    )
    options.add_notify_queues(parser)


def resolve(parsed_args: argparse.Namespace) -> Transports:
    """The transports of these options, of the environment, or those that run.

    :raises TransportError: something is missing, or unfit for its purpose
    """
    from hybrid_messaging.service_configs import transports

    environ = os.environ
    trusted = (parsed_args.ca_file, parsed_args.zmq_key_directory)
    rpc = transports.Side(
        parsed_args.rpc_url,
        parsed_args.rpc_host,
        parsed_args.rpc_user,
        environ.get(RPC_PASSWORD_VARIABLE),
        *trusted,
    )
    notify = transports.Side(
        parsed_args.notify_url,
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
