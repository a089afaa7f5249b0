# SPDX-License-Identifier: Apache-2.0
"""``mode list`` and ``mode show``: the mode table, and what a mode needs here."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from hybrid_messaging import engines, modes
from hybrid_messaging.cli import options
from hybrid_messaging.cli.base import Lister, ShowOne
from hybrid_messaging.engines import kinds

_PORTS = "free ports, chosen by `up`"


class ModeList(Lister):
    """List the modes: what carries RPC and what carries notifications."""

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        return (
            ("mode", "rpc", "rpc_engine", "notify", "notify_engine", "available"),
            [
                (
                    mode.name,
                    mode.rpc,
                    mode.rpc_engine,
                    mode.notify,
                    "the same" if mode.shared else mode.notify_engine,
                    not _unavailable(mode),
                )
                for mode in modes.load().values()
            ],
        )


class ModeShow(ShowOne):
    """Show the URLs and engines of a mode, and how to install what is missing here."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        options.add_mode(
            parser, "mode", f"a mode of `mode list` (default: {modes.DEFAULT})"
        )
        options.add_tls(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Any]]:
        mode = modes.get(parsed_args.mode or modes.DEFAULT)
        unavailable = _unavailable(mode)
        programs, missing = [], []
        for item in mode.engines:
            if item.kind in unavailable:
                programs.append(f"{item.name}: not available yet in this release")
                continue
            engine = kinds.get(item.kind)
            choice = engines.Options(tls=parsed_args.tls)
            programs.append(f"{item.name}: {engine.title}, {engine.describe(choice)}")
            missing += [
                f"{lack.what}: {lack.install}" for lack in engine.missing(choice)
            ]
        fields = {
            "mode": mode.name,
            "available": not unavailable,
            "rpc": mode.rpc,
            "rpc_engine": mode.rpc_engine,
            "rpc_url": _url(mode.rpc, mode.rpc_engine),
            "notify": mode.notify,
            "notify_engine": mode.notify_engine,
            "notify_url": _url(mode.notify, mode.notify_engine),
            "ports": _PORTS if mode.engines else modes.NO_ENGINE,
            "engines": _lines(programs, parsed_args.formatter),
            "missing": _lines(missing, parsed_args.formatter),
        }
        return tuple(fields), tuple(fields.values())


def _unavailable(mode: modes.Mode) -> list[str]:
    return [item.kind for item in mode.engines if not kinds.is_available(item.kind)]


def _url(transport: str, kind: str) -> str:
    if transport == modes.ANY_TRANSPORT:
        return "the one that you give"
    credentials = kinds.get(kind).credentials if kinds.is_available(kind) else ""
    return f"{transport}://{credentials}{engines.HOST}:PORT/"


def _lines(items: list[str], formatter: str) -> Any:
    """People read lines, scripts read lists."""
    return items if formatter in ("json", "yaml") else "\n".join(items) or "nothing"
