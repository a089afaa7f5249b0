# SPDX-License-Identifier: Apache-2.0
"""``engine …``: engines under a supervisor of your own."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hybrid_messaging import engines, modes, state, urls
from hybrid_messaging.cli.base import Command, ShowOne

#: In an engine's directory, for EnvironmentFile= of a systemd unit.
ENVIRONMENT = "environment"
PASSWORD_VARIABLE = "HYBRID_ENGINE_PASSWORD"  # noqa: S105


class EnginePrepare(ShowOne):
    """Write the configuration of an engine, and show the command that runs it.

    For systemd and other supervisors: nothing is started. The directory is made
    if it is not there; what an earlier call has written there is replaced. What the
    engine needs in its environment is in the file `environment`.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_kind(parser)
        parser.add_argument(
            "directory",
            type=lambda text: Path(text).absolute(),
            metavar="DIR",
            help="for its configuration, readable by its owner only",
        )
        _add_address(parser, "address to listen on")
        _add_certificates(
            parser,
            "speak TLS with those of `engine certificates`, and refuse everything else",
        )
        parser.add_argument(
            "--advertised",
            metavar="HOST",
            help="where clients find it, if --host stands for every address (kafka)",
        )
        parser.add_argument(
            "--router",
            metavar="ROUTER",
            help="embedded, skrouterd, qdrouterd, the path of one of the latter, "
            "container or container:IMAGE (default: what is installed, else embedded)",
        )
        edge = parser.add_mutually_exclusive_group()
        edge.add_argument(
            "--edge-port",
            type=int,
            metavar="PORT",
            help="where this router lets in routers at its edge, as the same user "
            "(default: nowhere)",
        )
        edge.add_argument(
            "--interior",
            type=_host_and_port,
            metavar="HOST:PORT",
            help="be at the edge of a router that lets in others there",
        )
        parser.add_argument(
            "--kafka",
            metavar="DIR",
            help="an unpacked release of Kafka (default: what `fetch kafka` has got)",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Any]]:
        from hybrid_messaging.engines import ports

        directory = parsed_args.directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ports.Ports() as free:
            launch = engines.get(parsed_args.kind).prepare(
                directory.name,
                directory,
                free.take,
                None,
                engines.Options(
                    router=parsed_args.router,
                    host=parsed_args.host,
                    port=parsed_args.port,
                    advertised=parsed_args.advertised,
                    username=parsed_args.user,
                    password=os.environ.get(PASSWORD_VARIABLE),
                    edge_port=parsed_args.edge_port,
                    interior=parsed_args.interior,
                    kafka=parsed_args.kafka,
                    certificates=_certificates(parsed_args),
                ),
            )
        _write_environment(directory / ENVIRONMENT, launch.environment or os.environ)
        return ("engine", "directory", "command", "url"), (
            parsed_args.kind,
            str(directory),
            shlex.join(launch.command),
            urls.shown(launch.url),
        )


class EngineSetup(Command):
    """Make in a running engine what services expect to be there.

    For an engine that `engine prepare` has configured, as soon as it takes
    connections; what is there already is left alone.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_kind(parser)
        _add_address(parser, "where it is")
        _add_certificates(parser, "it speaks TLS with those of `engine certificates`")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        kind, certificates = parsed_args.kind, _certificates(parsed_args)
        engines.get(kind).set_up(
            state.Engine(
                name=kind,
                kind=kind,
                roles=(),
                host=parsed_args.host,
                port=parsed_args.port,
                url="",
                pid=state.NOT_STARTED,
                started=0.0,
                log="",
                details={
                    "username": parsed_args.user,
                    "password": os.environ.get(PASSWORD_VARIABLE),
                },
                ca_file=certificates.authority if certificates else None,
            )
        )


class EngineCertificates(ShowOne):
    """Make the certificates with which the engines of this host speak TLS.

    A private authority, which stays as long as it is valid, and the certificate of
    this host, which is made anew when it is about to end or lacks a name. An authority
    that has been copied here, with its key, is taken.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "directory",
            type=lambda text: Path(text).absolute(),
            metavar="DIR",
            help="for certificates and keys, readable by its owner only",
        )
        parser.add_argument(
            "--name",
            # of an address as it stands in a URL
            type=lambda text: text.strip("[]"),
            action="append",
            default=[],
            metavar="NAME",
            help="name or address that clients may connect to, besides localhost, "
            "127.0.0.1, ::1 and the host's name; can be given several times",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Any]]:
        from hybrid_messaging.engines import certificates

        directory = parsed_args.directory
        made = certificates.ensure(directory, parsed_args.name)
        return ("authority", "host", "host_valid_until"), (
            made.authority,
            made.host,
            str(certificates.ends(directory)),
        )


def _add_kind(parser: argparse.ArgumentParser) -> None:
    kinds = {
        engine.kind
        for mode in modes.load().values()
        for engine in mode.engines
        if engines.is_available(engine.kind)
    }
    parser.add_argument("kind", choices=sorted(kinds), help="the kind of engine")


def _add_address(parser: argparse.ArgumentParser, host: str) -> None:
    parser.add_argument(
        "--host", default=engines.HOST, help=f"{host} (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument(
        "--user",
        metavar="NAME",
        help="who may use it; for a router, NAME@REALM (default: everybody who can "
        f"reach it); the password comes from the environment: {PASSWORD_VARIABLE}",
    )


def _add_certificates(parser: argparse.ArgumentParser, purpose: str) -> None:
    parser.add_argument(
        "--certificates",
        type=lambda text: Path(text).absolute(),
        metavar="DIR",
        help=f"{purpose} (default: no TLS)",
    )


def _certificates(parsed_args: argparse.Namespace) -> engines.Certificates | None:
    if parsed_args.certificates is None:
        return None
    from hybrid_messaging.engines import certificates

    return certificates.made(parsed_args.certificates)


def _host_and_port(text: str) -> tuple[str, int]:
    try:
        (address,) = urls.parse(f"amqp://{text}/").hosts
    except (urls.UrlError, ValueError):
        address = urls.Host(text)
    if not address.port:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return address.host, address.port


def _write_environment(path: Path, environment: Mapping[str, str]) -> None:
    """Write what differs from our own environment, as systemd.exec(5) reads it."""
    from hybrid_messaging.engines import templates

    quoted = str.maketrans({character: f"\\{character}" for character in '"\\`$'})
    templates.write_private(
        path,
        "".join(
            f'{name}="{value.translate(quoted)}"\n'
            for name, value in environment.items()
            if os.environ.get(name) != value
        ),
    )
