# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from hybrid_messaging import modes, state_directory
from hybrid_messaging.cli import defaults, types

NOTIFY_QUEUES = ("durable", "quorum")
#: Routers that are all linked to each other: 15 links.
MOST_NODES = 6

_ROLES = {"rpc": "RPC", "notify": "notifications"}


def offer(action: argparse.Action, names: Callable[[], Iterable[str]]) -> None:
    """Have completion offer values for an option that also takes others."""
    vars(action)["offers"] = names


def add_mode(parser: argparse._ActionsContainer, name: str, text: str) -> None:
    """Add a mode, as an argument or an option of this name, which may be left out."""
    nargs = {} if name.startswith("-") else {"nargs": "?"}
    action = parser.add_argument(name, help=text, **nargs)  # type: ignore[arg-type]
    offer(action, modes.load)


def add_state_dir(
    parser: argparse._ActionsContainer,
    text: str = "state directory of the deployment to use",
    deployment: str = "hybrid-messaging",
) -> None:
    """Add ``--state-dir``.

    :param deployment: the name of the default
    """
    parser.add_argument(
        "--state-dir",
        type=types.directory,
        default=defaults.Default(
            f"$XDG_STATE_HOME/{deployment}, or ~/.local/state/{deployment}",
            lambda: state_directory.default_state_dir().with_name(deployment),
        ),
        metavar="DIR",
        help=f"{text} (default: %(default)s)",
    )


def add_dry_run(parser: argparse._ActionsContainer) -> None:
    """Add ``--dry-run``."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show what would change, with passwords hidden, but change nothing",
    )


def add_rabbitmq_management(parser: argparse._ActionsContainer) -> None:
    """Add ``--rabbitmq-management``; None: do not ask it."""
    parser.add_argument(
        "--rabbitmq-management",
        type=types.port,
        nargs="?",
        const=15672,
        metavar="PORT",
        help="also query the management API of RabbitMQ, with user and password of"
        " the URL (default port: %(const)s)",
    )


def add_timeout(parser: argparse._ActionsContainer) -> None:
    """Add ``--timeout``, of each step of a connection to a server."""
    parser.add_argument(
        "--timeout",
        type=types.positive,
        default=5.0,
        metavar="SECONDS",
        help="seconds to wait for a server (default: %(default)g)",
    )


def add_tls(parser: argparse.ArgumentParser) -> None:
    """Add ``--tls`` and ``--no-tls``; None leaves it to the engines."""
    both = parser.add_mutually_exclusive_group()
    both.set_defaults(tls=defaults.variable("HYBRID_TLS", defaults.truth))
    both.add_argument(
        "--tls",
        action="store_const",
        const=True,
        help="run engines with TLS, users and passwords, and refuse connections"
        " without them (default: $HYBRID_TLS, true or false; otherwise as the"
        " deployment was started; otherwise without TLS)",
    )
    both.add_argument(
        "--no-tls",
        dest="tls",
        action="store_const",
        const=False,
        help="run engines without TLS",
    )


def add_router(parser: argparse.ArgumentParser) -> None:
    """Add ``--router``."""

    def choice(text: str) -> str | None:
        return None if text == "auto" else text

    action = parser.add_argument(
        "--router",
        type=choice,
        default=defaults.variable("HYBRID_ROUTER", choice),
        metavar="ROUTER",
        help="router program: embedded, skrouterd, qdrouterd, the path of skrouterd or"
        " qdrouterd, container, container:IMAGE, or auto, which uses the installed"
        " one and otherwise embedded (default: %(default)s, otherwise auto)",
    )
    offer(action, lambda: ("auto", "embedded", "skrouterd", "qdrouterd", "container"))


def add_nodes(parser: argparse._ActionsContainer) -> None:
    """Add ``--nodes``."""
    parser.add_argument(
        "--nodes",
        type=types.within(1, MOST_NODES),
        metavar="N",
        help=f"number of routers for RPC, 1 to {MOST_NODES}, each linked to all "
        "others; two or more need skrouterd, qdrouterd or container; there is still "
        "only one of each other engine (default: as many as the deployment has, "
        "otherwise 1)",
    )


def add_kafka(parser: argparse.ArgumentParser) -> None:
    """Add ``--kafka``."""

    def absolute(text: str) -> str:
        return str(types.directory(text))

    parser.add_argument(
        "--kafka",
        type=absolute,
        default=defaults.variable("HYBRID_KAFKA", absolute),
        metavar="DIR",
        help="directory of an unpacked Kafka release (default: %(default)s, otherwise"
        " what `fetch kafka` has downloaded)",
    )


def add_urls(
    parser: argparse._ActionsContainer, text: str, environment: bool = True
) -> None:
    """Add ``--rpc-url`` and ``--notify-url``.

    :param text: what is done with a URL; {} stands for what it carries
    :param environment: whether variables count where they are not given
    """
    for role, carried in _ROLES.items():
        if environment:
            _add_url(parser, role, text.format(carried))
        else:
            parser.add_argument(
                f"--{role}-url", metavar="URL", help=text.format(carried)
            )


def add_rpc_url(parser: argparse._ActionsContainer, text: str) -> None:
    """Add ``--rpc-url`` alone.

    :param text: what is done with the URL
    """
    _add_url(parser, "rpc", text)


def _add_url(parser: argparse._ActionsContainer, role: str, text: str) -> None:
    parser.add_argument(
        f"--{role}-url",
        default=defaults.variable(f"HYBRID_{role.upper()}_URL"),
        metavar="URL",
        help=f"{text} (default: %(default)s, which keeps a password off the command "
        "line)",
    )


def given_urls(parsed_args: argparse.Namespace) -> dict[str, str]:
    """The URLs of `add_urls` by role; a role that has none is not in it."""
    return {
        role: url for role in _ROLES if (url := getattr(parsed_args, f"{role}_url"))
    }


def add_show_passwords(parser: argparse.ArgumentParser) -> None:
    """Add ``--show-passwords``."""
    parser.add_argument(
        "--show-passwords",
        action="store_true",
        help="show URLs with their passwords, for scripts",
    )


def add_notify_queues(parser: argparse._ActionsContainer) -> None:
    """Add ``--notify-queues``."""
    action = parser.add_argument(
        "--notify-queues",
        default=defaults.variable("HYBRID_NOTIFY_QUEUES"),
        metavar="QUEUES",
        help="type of the RabbitMQ queues for notifications: durable or quorum"
        " (default: %(default)s, otherwise as configured, otherwise durable)",
    )
    offer(action, lambda: NOTIFY_QUEUES)
