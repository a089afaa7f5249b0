# SPDX-License-Identifier: Apache-2.0
"""``bench scenario list``: what ``bench run`` can measure."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hybrid_messaging.cli import bench_options
from hybrid_messaging.cli.base import Lister

_COLUMNS = ("scenario", "title", "mode", "default", "rpc_options", "notify_options")


class BenchScenarioList(Lister):
    """List the scenarios that `bench run` can measure."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        bench_options.add_file(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        from hybrid_messaging.bench import scenarios

        found = scenarios.load(parsed_args.scenarios or scenarios.TABLE)
        return _COLUMNS, [
            (
                item.name,
                item.title,
                item.mode,
                item.default,
                _words(item.rpc),
                _words(item.notify),
            )
            for item in found.values()
        ]


def _words(options: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())
