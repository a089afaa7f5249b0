# SPDX-License-Identifier: Apache-2.0
"""``engine …``: engines under a supervisor of your own."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hybrid_messaging import engines, state, urls, whole_file
from hybrid_messaging.cli import options, progress, types
from hybrid_messaging.cli.base import Command, ShowOne
from hybrid_messaging.engines import kinds

#: In an engine's directory, for EnvironmentFile= of a systemd unit.
ENVIRONMENT = "environment"
PASSWORD_VARIABLE = "HYBRID_ENGINE_PASSWORD"  # noqa: S105

_TIMEOUT = 10.0


class EnginePrepare(ShowOne):
    """Write the configuration of an engine, and show the command that runs it.

    Starts nothing: the command is for systemd or another supervisor. Creates the
    directory if needed, and replaces the files of an earlier call. The file
    `environment` has the environment variables of the engine.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_kind(parser)
        _add_directory(parser, "directory for its configuration")
        _add_address(parser, "address to listen on", "TCP port to listen on")
        _add_user(
            parser,
            "the only user that may connect; for a router, NAME@REALM (default: a"
            " router accepts anyone who can reach it, and other engines have a user"
            " hybrid whose password is in their configuration)",
        )
        _add_certificates(
            parser,
            "speak only TLS, with the certificates in this directory",
        )
        parser.add_argument(
            "--advertised",
            type=types.host,
            metavar="HOST",
            help="for kafka: address that its clients connect to (default: --host)",
        )
        options.add_router(parser)
        edge = parser.add_mutually_exclusive_group()
        edge.add_argument(
            "--edge-port",
            type=types.port,
            metavar="PORT",
            help="for an interior router: port on which it accepts edge routers, with"
            " the same user (default: none)",
        )
        edge.add_argument(
            "--interior",
            type=types.host_and_port,
            metavar="HOST:PORT",
            help="for an edge router: address of the interior router to connect to"
            " (default: not an edge router)",
        )
        options.add_kafka(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Any]]:
        from hybrid_messaging.engines import ports

        password = _password()
        if parsed_args.user and not password:
            raise engines.EngineError(
                "--user requires a password in the environment variable"
                f" {PASSWORD_VARIABLE}"
            )
        directory = parsed_args.directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ports.Ports() as free:
            launch = kinds.get(parsed_args.kind).prepare(
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
                    password=password,
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
    """Create what services expect to find in a running engine.

    For an engine that `engine prepare` has configured, once it accepts
    connections. Anything that already exists is left alone.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_kind(parser)
        _add_address(
            parser, "address that it listens on", "TCP port that it listens on"
        )
        _add_user(parser, "user that `engine prepare` was given")
        _add_certificates(
            parser, "connect with TLS, and trust the certificates in this directory"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from hybrid_messaging.engines import ports

        kind, certificates = parsed_args.kind, _certificates(parsed_args)
        where = urls.Host(parsed_args.host, parsed_args.port)
        if not ports.answers(where.host, parsed_args.port, _TIMEOUT):
            raise engines.EngineError(
                f"nothing listens at {where}: start the engine, and try again"
            )
        kinds.get(kind).set_up(
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
                details=state.Details(
                    username=parsed_args.user,
                    password=_password(),
                ),
                ca_file=certificates.authority if certificates else None,
            )
        )


class EngineCertificates(ShowOne):
    """Create the TLS certificates for the engines of this host.

    Creates a private CA, which stays as long as it is valid, and a certificate for
    this host, which is renewed when it is about to expire or lacks a name. Uses a CA
    certificate and key that are already in the directory.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_directory(parser, "directory for certificates and keys")
        parser.add_argument(
            "--name",
            type=types.host,
            action="append",
            default=[],
            metavar="HOST",
            help="name or address that clients connect to, besides localhost,"
            " 127.0.0.1, ::1 and the name of the host; can be given several times",
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


class EngineDrain(Command):
    """Stop one engine that `up` has started, once its work is done.

    The embedded router waits while services with other hosts in their URL move there,
    and while calls under way are answered. skrouterd and qdrouterd cannot do that:
    calls under way through them fail, and services continue at another host at once.
    `up --repair` starts the engine again.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "engine", metavar="ENGINE", help="name of the engine, as `status` shows it"
        )
        options.add_state_dir(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from hybrid_messaging.engines.deployment import Deployment

        tell = progress.printer(self.app)
        name = parsed_args.engine
        ended = Deployment(parsed_args.state_dir, tell).drain(name)
        tell(f"{name} has ended" if ended else f"{name} is down already")


def _add_kind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=list(kinds.KINDS), help="the kind of engine")


def _add_directory(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "directory",
        type=types.directory,
        metavar="DIR",
        help=f"{text}; it is created if it does not exist, and only its owner can read"
        " it",
    )


def _add_address(parser: argparse.ArgumentParser, host: str, port: str) -> None:
    parser.add_argument(
        "--host",
        type=types.host,
        default=engines.HOST,
        metavar="HOST",
        help=f"{host} (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=types.port, required=True, metavar="PORT", help=port
    )


def _add_user(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--user",
        type=types.user,
        metavar="NAME",
        help=f"{text}; the password comes from the environment variable"
        f" {PASSWORD_VARIABLE}",
    )


def _add_certificates(parser: argparse.ArgumentParser, purpose: str) -> None:
    parser.add_argument(
        "--certificates",
        type=types.directory,
        metavar="DIR",
        help=f"{purpose}, as made by `engine certificates` (default: no TLS)",
    )


def _password() -> str | None:
    """The password of the user, from the environment.

    :raises EngineError: a line of a configuration file could not hold it
    """
    text = os.environ.get(PASSWORD_VARIABLE)
    if text and not text.isprintable():
        raise engines.EngineError(
            f"{PASSWORD_VARIABLE} contains control characters, such as a line break:"
            " remove them"
        )
    return text


def _certificates(parsed_args: argparse.Namespace) -> engines.Certificates | None:
    if parsed_args.certificates is None:
        return None
    from hybrid_messaging.engines import certificates

    return certificates.made(parsed_args.certificates)


def _write_environment(path: Path, environment: Mapping[str, str]) -> None:
    """Write what differs from our own environment, as systemd.exec(5) reads it."""

    quoted = str.maketrans({character: f"\\{character}" for character in '"\\`$'})
    whole_file.write(
        path,
        "".join(
            f'{name}="{value.translate(quoted)}"\n'
            for name, value in environment.items()
            if os.environ.get(name) != value
        ),
    )
