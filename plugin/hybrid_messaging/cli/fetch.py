# SPDX-License-Identifier: Apache-2.0
"""``fetch``: get an engine that no distribution packages."""

from __future__ import annotations

import argparse

from hybrid_messaging.cli import progress
from hybrid_messaging.cli.base import Command
from hybrid_messaging.engines import EngineError, kinds


class Fetch(Command):
    """Download an engine that distributions do not package into a cache.

    A second call downloads nothing. `mode show` says which modes need which engine.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        sources = {kind: kinds.get(kind).sources for kind in kinds.KINDS}
        fetched = [kind for kind, found in sources.items() if found]
        parser.add_argument("engine", choices=fetched, help="engine to download")
        parser.add_argument(
            "--source",
            choices=sorted({name for found in sources.values() for name in found}),
            help="source to use: apache, the release archive, whose checksum is"
            " verified; maven, the Maven client; container, an image pulled by Podman"
            " (default: the first of these that the engine has)",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        sources = kinds.get(parsed_args.engine).sources
        source = parsed_args.source or next(iter(sources))
        if source not in sources:
            raise EngineError(
                f"{parsed_args.engine} has no source {source}; choose "
                + " or ".join(sources)
            )
        where = sources[source](progress.printer(self.app))
        self.app.stdout.write(f"{where}\n")
