# SPDX-License-Identifier: Apache-2.0
"""``bench run``: measure scenarios side by side."""

from __future__ import annotations

import argparse
import datetime
import math
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliff.app import App

from hybrid_messaging import state
from hybrid_messaging.cli import bench_options, ending, options, progress
from hybrid_messaging.cli.base import Lister
from hybrid_messaging.engines import Options

if TYPE_CHECKING:
    from hybrid_messaging.bench.result import Result
    from hybrid_messaging.bench.run import Setup, Watcher
    from hybrid_messaging.bench.summary import Row


#: Messages per second that nobody can ask for: noting down how many of them are late
#: would take longer than the run.
_MOST = 100_000


class BenchRun(Lister):
    """Measure RPC and notifications in several scenarios, side by side.

    Brings up the engines that it needs, and ends them. The result is in the
    output directory: report.html to look at, result.csv with the figures,
    result.json with everything.

    Exit code 0: every message is accounted for; 1: some were lost or
    duplicated, or have failed, or a measurement could not be made.
    """

    _exit_code = 0

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "scenario",
            nargs="*",
            help="name or number of a scenario (default: those that `bench scenario "
            "list` marks)",
        )
        parser.add_argument(
            "--scenarios",
            type=Path,
            metavar="FILE",
            help="take scenarios from a file of your own",
        )
        parser.add_argument(
            "--rpc-url",
            default=os.environ.get("HYBRID_RPC_URL"),
            metavar="URL",
            help="measure this server and start none, with --notify-url (default: "
            "$HYBRID_RPC_URL, which keeps a password off the command line)",
        )
        parser.add_argument(
            "--notify-url",
            default=os.environ.get("HYBRID_NOTIFY_URL"),
            metavar="URL",
            help="the same for notifications (default: $HYBRID_NOTIFY_URL)",
        )
        parser.add_argument(
            "--router",
            default=os.environ.get("HYBRID_ROUTER"),
            metavar="ROUTER",
            help="as for `up` (default: $HYBRID_ROUTER, else what is installed, else "
            "embedded)",
        )
        options.add_tls(parser)
        parser.add_argument(
            "--output",
            type=Path,
            metavar="DIR",
            help="where the result goes (default: bench-DATE-TIME)",
        )
        parser.add_argument(
            "--state-dir",
            type=lambda text: Path(text).absolute(),
            default=_state_dir(),
            metavar="DIR",
            help="where the engines keep their state meanwhile (default: %(default)s)",
        )
        bench_options.add_control(parser)
        parser.add_argument(
            "--hosts",
            type=_at_least(1),
            metavar="N",
            help="with --control: how many hosts with `bench worker` to wait for "
            "(default: 1)",
        )
        parser.add_argument(
            "--parts",
            type=_part_names,
            default=("load",),
            metavar="PART,…",
            help="what to measure besides the peak: load (latency at some rates), "
            "separation (RPC beside more and more notifications), trouble (servers "
            "die, engines restart), all, or none (default: load)",
        )
        _add_load(parser)
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
        total = summary.unaccounted(found)
        tell = progress.printer(self.app)
        tell(
            f"{total.sent} messages: {total.lost} lost, {total.duplicated} duplicated, "
            f"{total.failed} failed"
        )
        for problem in found["problems"]:
            tell(f"not measured: {summary.problem(problem)}")
        tell(f"the report is {setup.output / run.REPORT_FILE}")
        self._exit_code = int(
            bool(total.lost or total.duplicated or total.failed or found["problems"])
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
            if not found["measurements"]:
                tell("ended early; nothing was measured until then")
                return
            self._write(setup, found)
        except BenchError as error:
            tell(f"ended early; there is no report: {error}")
            return
        tell(
            f"ended early; what was measured until then: "
            f"{setup.output / run.REPORT_FILE}, or "
            f"hybrid-messaging bench report {shlex.quote(str(setup.output))}"
        )

    def _write(self, setup: Setup, found: Result) -> list[Row]:
        """Write the files for people, and return the rows of the table."""
        from hybrid_messaging.bench import report, result, run, summary

        rows = summary.rows(found)
        result.write(setup.output / run.TABLE_FILE, summary.to_csv(rows))
        result.write(setup.output / run.REPORT_FILE, report.render(found))
        return rows

    def _run(self, setup: Setup, parsed_args: argparse.Namespace) -> Result:
        from hybrid_messaging.bench import remote, run

        watcher = _watcher(self.app)
        if not parsed_args.control:
            return run.run(setup, watcher)
        tell = progress.printer(self.app)
        with remote.Hosts(parsed_args.control, parsed_args.hosts or 1, tell) as hosts:
            return run.run(setup, watcher, hosts.start, hosts.about)

    def run(self, parsed_args: argparse.Namespace) -> int:
        return super().run(parsed_args) or self._exit_code


def _add_load(parser: argparse.ArgumentParser) -> None:
    from hybrid_messaging.bench.parameters import Parameters

    known = Parameters()
    load = parser.add_argument_group("load")

    def add(option: str, type_: Callable[[str], Any], metavar: str, text: str) -> None:
        default = getattr(known, option.removeprefix("--").replace("-", "_"))
        load.add_argument(
            option,
            type=type_,
            default=default,
            metavar=metavar,
            help=f"{text} (default: %(default)g)",
        )

    add("--producers", _at_least(1), "N", "processes that call and notify")
    add("--consumers", _at_least(1), "N", "processes that serve and listen")
    add("--threads", _at_least(1), "N", "threads of each producer")
    add("--rpc-share", _percentage, "PERCENT", "RPC among the messages")
    load.add_argument(
        "--rpc-mix",
        type=_mix,
        default=known.rpc_mix,
        metavar="call=W,cast=W,fanout=W",
        help="weights within RPC (default: calls only)",
    )
    load.add_argument(
        "--size",
        type=_sizes,
        default=known.sizes,
        metavar="BYTES[=W],…",
        help="payload, or several with weights (default: 1000)",
    )
    load.add_argument(
        "--rate",
        type=_rate,
        action="append",
        default=[],
        metavar="N",
        help="messages per second for the part load, RPC and notifications "
        "together; may be given several times (default: 30, 60 and 90 percent of what "
        "the slowest scenario does at its peak)",
    )
    add("--warm-up", _seconds, "SECONDS", "load before the measured interval")
    add("--duration", _positive, "SECONDS", "the measured interval")
    add("--drain", _positive, "SECONDS", "silence after which the missing is lost")
    add("--timeout", _positive, "SECONDS", "of a call")
    add("--rounds", _at_least(1), "N", "how often each measurement is made")
    load.add_argument(
        "--cpus",
        type=_cpus,
        default=(),
        metavar="N,…",
        help="processors to place workers on, one after the other",
    )


def _setup(parsed_args: argparse.Namespace) -> Setup:
    from hybrid_messaging.bench import BenchError, scenarios
    from hybrid_messaging.bench.parameters import Parameters
    from hybrid_messaging.bench.run import Setup

    both = {"rpc": parsed_args.rpc_url, "notify": parsed_args.notify_url}
    given = {role: url for role, url in both.items() if url}
    names = parsed_args.scenario
    if given and not names:
        names = [scenarios.EXTERNAL]
    if given and names != [scenarios.EXTERNAL]:
        raise BenchError(
            f"URLs are measured as scenario {scenarios.EXTERNAL}; for others, give "
            "none, and unset HYBRID_RPC_URL and HYBRID_NOTIFY_URL"
        )
    if parsed_args.hosts and not parsed_args.control:
        raise BenchError("--hosts wants the control bus as well: --control URL")
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
        Options(router=parsed_args.router or None, tls=parsed_args.tls),
    )


def _watcher(app: App) -> Watcher:
    from hybrid_messaging.bench import run

    class Lines(run.Watcher):
        """Lines on standard error, one for each measurement."""

        progress = staticmethod(progress.printer(app))

        def plan(self, steps: Sequence[run.Step]) -> None:
            minutes = sum(step.seconds for step in steps) / 60
            self.progress(
                f"{len(steps)} measurements, about {max(minutes, 1):.0f} minutes on a "
                "machine that does nothing else; Ctrl-C keeps what was measured"
            )

        def begin(self, step: run.Step, number: int, total: int) -> None:
            self._place = f"{number:{len(str(total))}}/{total}"
            progress.transient(app, f"{self._place} {step} …")

        def end(self, step: run.Step, measurement: Mapping[str, Any]) -> None:
            progress.transient(app, "")
            self.progress(f"{self._place} {step}: {_told(measurement)}")

        def fail(self, step: run.Step, problem: str) -> None:
            progress.transient(app, "")
            self.progress(f"{self._place} {step}: not measured: {problem}")

    return Lines()


def _told(measurement: Mapping[str, Any]) -> str:
    from hybrid_messaging.bench import summary

    told = []
    for kind, found in measurement["kinds"].items():
        figures = found[summary.side(kind)]["latency_ms"]
        text = f"{summary.rate(measurement, kind):.0f} {kind}/s"
        if figures:
            text += f" (p50 {figures['p50']:.3g} ms, p99 {figures['p99']:.3g} ms)"
        wrong = [
            f"{found['account'][name]} {name}"
            for name in ("lost", "duplicated", "failed")
            if found["account"][name]
        ]
        told.append(" ".join([text, *wrong]))
    return ", ".join(told)


def _state_dir() -> Path:
    return state.default_state_dir().with_name("hybrid-messaging-bench")


def _now() -> str:
    return datetime.datetime.now().strftime("%Y%m%d-%H%M%S")


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return value

    return number


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value >= 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is negative or no number")
    return value


def _positive(text: str) -> float:
    value = _seconds(text)
    if not value:
        raise argparse.ArgumentTypeError("it has to be more than 0")
    return value


def _rate(text: str) -> float:
    value = _positive(text)
    if value > _MOST:
        raise argparse.ArgumentTypeError(f"{text} is more than {_MOST:,} per second")
    return value


def _percentage(text: str) -> float:
    value = _seconds(text)
    if value > 100:
        raise argparse.ArgumentTypeError(f"{text} is more than 100 percent")
    return value


def _mix(text: str) -> dict[str, float]:
    from hybrid_messaging.bench.parameters import RPC_KINDS, weights

    try:
        return weights(text, RPC_KINDS)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _sizes(text: str) -> dict[int, float]:
    from hybrid_messaging.bench.parameters import weights

    try:
        found = weights(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    wrong = [size for size in found if not size.isdecimal()]
    if wrong:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is no number of bytes")
    return {int(size): weight for size, weight in found.items()}


def _part_names(text: str) -> tuple[str, ...]:
    from hybrid_messaging.bench.plan import PARTS

    if text in ("all", "none"):
        return PARTS if text == "all" else ()
    found = tuple(text.split(","))
    if unknown := set(found) - set(PARTS):
        raise argparse.ArgumentTypeError(
            f"{min(unknown)!r} is none of {', '.join(PARTS)}, all, none"
        )
    return found


def _cpus(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(item) for item in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers") from error
    if missing := set(found) - os.sched_getaffinity(0):
        raise argparse.ArgumentTypeError(f"there is no processor {min(missing)} for us")
    return found
