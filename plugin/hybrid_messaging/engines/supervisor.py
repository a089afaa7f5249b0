# SPDX-License-Identifier: Apache-2.0
"""The processes of the engines in one state directory, and the directories of these."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from hybrid_messaging import state, state_directory, urls
from hybrid_messaging.attempts import attempts
from hybrid_messaging.engines import EngineError, Launch, Progress, kinds, processes

#: What an engine does, as `Supervisor.health` tells it.
UP, SILENT, DOWN = "up", "not answering", "down"

_READY_POLL = 0.1


class Supervisor:
    """Starts, finds and ends engines; it changes no state.

    :param directory: the state directory
    :param progress: takes a line for each thing that takes a while
    """

    def __init__(self, directory: Path, progress: Progress) -> None:
        self._directory = directory
        self._progress = progress

    def health(self, engine: state.Engine) -> str:
        """Whether an engine's process runs and answers: UP, SILENT or DOWN."""
        if self._find(engine) is None:
            return DOWN
        return UP if kinds.get(engine.kind).is_ready(engine) else SILENT

    def make_directory(self, name: str) -> Path:
        """Have a directory for an engine."""
        directory = self._directory / name
        state_directory.refuse_foreign_inside(directory)
        directory.mkdir(mode=0o700, exist_ok=True)
        return directory

    def launch(self, engine: state.Engine, launch: Launch) -> psutil.Popen:
        """Start an engine that has been configured.

        :raises EngineError: that cannot be done
        """
        try:
            return processes.spawn(
                launch.command,
                launch.environment,
                self._directory / engine.name,
                Path(engine.log),
            )
        except OSError as error:
            raise EngineError(f"cannot start {launch.command[0]}: {error}") from error

    def await_ready(
        self, engines: Iterable[state.Engine], started: Mapping[str, psutil.Popen]
    ) -> None:
        """Wait until some engines are ready, and make what services expect there.

        :param started: their processes, by their names
        :raises EngineError: one has ended, or takes too long
        """
        waiting = {engine: kinds.get(engine.kind) for engine in engines}
        for engine in waiting:
            self._progress(f"starting {engine.name} at {engine.host}:{engine.port} …")
        longest = max((kind.start_timeout for kind in waiting.values()), default=0.0)
        for passed in attempts(longest, _READY_POLL):
            for engine, kind in list(waiting.items()):
                if (code := started[engine.name].poll()) is not None:
                    how = processes.how_it_ended(code)
                    what = f"ended while it started ({how})"
                    raise _failure(engine, what, ended=True)
                if kind.is_ready(engine):
                    kind.set_up(engine)
                    del waiting[engine]
                    self._progress(f"{engine.name} is ready after {passed:.1f} s")
                elif passed >= kind.start_timeout:
                    raise _failure(engine, f"was not ready after {passed:.0f} s")
            if not waiting:
                return

    def stop(
        self, engines: Iterable[state.Engine], timeout: float | None = None
    ) -> None:
        """End engines, and what those that have ended left behind.

        :param timeout: seconds that each may take to end by itself; None: as many as
            its kind needs
        """
        stopping = list(engines)
        running = [
            (engine, process)
            for engine in stopping
            if (process := self._find(engine)) is not None
        ]
        for engine, _ in running:
            self._progress(f"stopping {engine.name} …")
        processes.stop(
            (process, timeout or kinds.get(engine.kind).stop_timeout)
            for engine, process in running
        )
        for engine in stopping:
            processes.stop_descendants(self._directory / engine.name)

    def remove(self, names: Iterable[str]) -> None:
        """Remove directories, with all that engines have stored there."""
        for name in names:
            shutil.rmtree(self._directory / name, ignore_errors=True)

    def _find(self, engine: state.Engine) -> psutil.Process | None:
        return processes.find(engine.pid, self._directory / engine.name)


def _failure(engine: state.Engine, what: str, ended: bool = False) -> EngineError:
    log = urls.redact(processes.tail(Path(engine.log), ended=ended))
    return EngineError(f"{engine.name} {what}; the end of its log:\n{log}")
