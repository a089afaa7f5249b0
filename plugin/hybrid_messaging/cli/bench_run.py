# SPDX-License-Identifier: Apache-2.0
"""``bench run``: measure scenarios side by side."""

from __future__ import annotations

import argparse
import datetime
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliff.app import App

from hybrid_messaging.cli import bench_options, ending, options, progress, types
from hybrid_messaging.cli.base import Lister
from hybrid_messaging.engines import Options

if TYPE_CHECKING:
    from hybrid_messaging.bench.measurement import Measurement
    from hybrid_messaging.bench.result import Result
    from hybrid_messaging.bench.run import Setup, Watcher
    from hybrid_messaging.bench.summary import Row


class BenchRun(Lister):
    """Measure RPC and notifications in several scenarios, side by side.

    Starts the engines that it needs, and stops them. Writes into the output
    directory: report.html to read, result.csv with the figures, and result.json
    with all data.

    Exit code 0: every message is accounted for; 1: messages were lost, were
    duplicated or failed, or a measurement could not be made.
    """

    _exit_code = 0

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        bench_options.add_scenarios(parser)
        options.add_urls(
            parser,
            "server to measure for {}, as scenario external, instead of starting one;"
            " requires a URL for the other role as well",
        )
        options.add_router(parser)
        options.add_nodes(parser)
        options.add_tls(parser)
        parser.add_argument(
            "--output",
            type=Path,
            metavar="DIR",
            help="output directory (default: bench-DATE-TIME)",
        )
        options.add_state_dir(
            parser,
            "state directory of the engines during the run",
            "hybrid-messaging-bench",
        )
        bench_options.add_control(parser)
        parser.add_argument(
            "--hosts",
            type=types.at_least(1),
            metavar="N",
            help="number of hosts to wait for that run `bench worker`; requires"
            " --control (default: 1)",
        )
        bench_options.add_parts(parser)
        bench_options.add_load(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        from hybrid_messaging.bench import run, summary

        setup = _setup(parsed_args)
        try:
            with ending.by_signal():
                found = self._run(setup, parsed_args)
        except BaseException:
            self._keep(setup)
            raise
        rows = self._write(setup, found)
        total = found.account
        tell = progress.printer(self.app)
        tell(
            f"{total.sent} messages: {total.lost} lost, {total.duplicated} duplicated, "
            f"{total.failed} failed"
        )
        for problem in found.problems:
            tell(f"not measured: {problem}")
        tell(f"the report is {setup.output / run.REPORT_FILE}")
        self._exit_code = int(
            bool(total.lost or total.duplicated or total.failed or found.problems)
        )
        return summary.table(rows)

    def _keep(self, setup: Setup) -> None:
        """Make a report of what was measured until the run was ended."""
        from hybrid_messaging.bench import BenchError, result, run

        tell = progress.printer(self.app)
        path = setup.output / run.RESULT_FILE
        if not path.exists():
            return
        try:
            found = result.load(path)
            if not found.measurements:
                tell("ended early; nothing had been measured")
                return
            self._write(setup, found)
        except BenchError as error:
            tell(f"ended early; the report could not be written: {error}")
            return
        tell(
            "ended early; the report of what was measured:"
            f" {setup.output / run.REPORT_FILE}, or hybrid-messaging bench report"
            f" {shlex.quote(str(setup.output))}"
        )

    def _write(self, setup: Setup, found: Result) -> list[Row]:
        """Write the files for people, and return the rows of the table."""
        from hybrid_messaging.bench import report, result, run, summary

        rows = summary.rows(found)
        result.write(setup.output / run.TABLE_FILE, summary.to_csv(rows))
        result.write(setup.output / run.REPORT_FILE, report.render(found))
        return rows

    def _run(self, setup: Setup, parsed_args: argparse.Namespace) -> Result:
        from hybrid_messaging.bench import crew, remote, run

        watcher = _watcher(self.app)
        if not parsed_args.control:
            with crew.LocalWorkers() as local:
                return run.run(setup, watcher, local.start)
        tell = progress.printer(self.app)
        with remote.Hosts(parsed_args.control, parsed_args.hosts or 1, tell) as hosts:
            return run.run(setup, watcher, hosts.start, hosts.about)

    def run(self, parsed_args: argparse.Namespace) -> int:
        return super().run(parsed_args) or self._exit_code


def _setup(parsed_args: argparse.Namespace) -> Setup:
    from hybrid_messaging.bench import BenchError, scenarios
    from hybrid_messaging.bench.parameters import Parameters
    from hybrid_messaging.bench.run import Setup

    given = options.given_urls(parsed_args)
    names = parsed_args.scenario
    if given and not names:
        names = [scenarios.EXTERNAL]
    if given and names != [scenarios.EXTERNAL]:
        raise BenchError(
            f"URLs are measured as scenario {scenarios.EXTERNAL}: to measure other"
            " scenarios, omit them, and unset HYBRID_RPC_URL and HYBRID_NOTIFY_URL"
        )
    if parsed_args.hosts and not parsed_args.control:
        raise BenchError("--hosts requires the control bus: add --control URL")
    output = parsed_args.output or Path(f"bench-{_now()}")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(f"cannot write to {output}: {error.strerror}") from error
    return Setup(
        scenarios.select(names, parsed_args.scenarios or scenarios.TABLE),
        Parameters(
            producers=parsed_args.producers,
            consumers=parsed_args.consumers,
            threads=parsed_args.threads,
            rpc_share=parsed_args.rpc_share,
            rpc_mix=parsed_args.rpc_mix,
            sizes=parsed_args.size,
            warm_up=parsed_args.warm_up,
            duration=parsed_args.duration,
            drain=parsed_args.drain,
            timeout=parsed_args.timeout,
            rounds=parsed_args.rounds,
            cpus=parsed_args.cpus,
        ),
        parsed_args.state_dir,
        output,
        parsed_args.parts,
        tuple(parsed_args.rate),
        given,
        Options(
            router=parsed_args.router, nodes=parsed_args.nodes, tls=parsed_args.tls
        ),
    )


def _watcher(app: App) -> Watcher:
    from hybrid_messaging.bench import run

    class Lines(run.Watcher):
        """Lines on standard error, one for each measurement."""

        progress = staticmethod(progress.printer(app))

        def plan(self, steps: Sequence[run.Step]) -> None:
            minutes = sum(step.seconds for step in steps) / 60
            self.progress(
                f"{len(steps)} measurements, about {max(minutes, 1):.0f} minutes on an"
                " otherwise idle machine; Ctrl-C keeps what was measured"
            )

        def begin(self, step: run.Step, number: int, total: int) -> None:
            self._place = f"{number:{len(str(total))}}/{total}"
            progress.transient(app, f"{self._place} {step} …")

        def end(self, step: run.Step, measurement: Measurement) -> None:
            progress.transient(app, "")
            self.progress(f"{self._place} {step}: {_told(measurement)}")

        def fail(self, step: run.Step, problem: str) -> None:
            progress.transient(app, "")
            self.progress(f"{self._place} {step}: not measured: {problem}")

    return Lines()


def _told(measurement: Measurement) -> str:
    told = []
    for kind, found in measurement.kinds.items():
        figures = measurement.side(kind).latency_ms
        text = f"{measurement.rate(kind):.0f} {kind}/s"
        if figures:
            text += f" (p50 {figures['p50']:.3g} ms, p99 {figures['p99']:.3g} ms)"
        account = found.account
        wrong = [
            f"{count} {name}"
            for name, count in (
                ("lost", account.lost),
                ("duplicated", account.duplicated),
                ("failed", account.failed),
            )
            if count
        ]
        told.append(" ".join([text, *wrong]))
    return ", ".join(told)


def _now() -> str:
    return datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
