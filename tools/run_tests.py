# SPDX-License-Identifier: Apache-2.0
"""Runs the stages of the test suite and sums up how each ended and how long it took.

It wants an environment in which hybrid-messaging is installed with its extras
test, lint and docs; ``tools/test.sh`` makes one and calls this, and so does tox.
What stages write goes to ``build/``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
COVERAGE = BUILD / "coverage"
#: How many of the Python half's lines tests must reach, in percent.
REQUIRED_COVERAGE = 85
#: Is in the environment of whatever a stage starts, so that what it leaves
#: running can be told from all other processes of the machine.
MARK = "HYBRID_MESSAGING_TEST_RUN"
#: Seconds that processes get to end by themselves when their stage is over.
PARTING = 5.0
#: How often environments are looked at, with seconds between: for a moment, a process
#: that executes another program shows only a part of its own.
LOOKS, LOOK_PAUSE = 2, 0.05
#: Seconds that a command which is ended as hanging gets to say where it was.
TELLING = 60.0
#: Bytes of a command's output that are kept, for the summary of all stages.
KEPT = 65536
REAL_SERVICES = "tests/functional/real_services"
#: What people read, and what holds it.
DOCUMENTS = (
    "README.rst",
    "CONTRIBUTING.rst",
    "doc/source",
    "releasenotes/notes",
    f"{REAL_SERVICES}/README.rst",
)
#: Sleeps most of its two minutes.
OSLO_SUITE = "tests/functional/test_oslo_suite.py"
#: Arguments for pytest where tests mostly wait: more run at a time than there are
#: cores. The tests of a module share what it starts, and stay together. Those of few
#: tests are not left to the end: the longest tests are among them.
AT_A_TIME = ("--numprocesses=6", "--dist=loadfile", "--no-loadscope-reorder")
UNIT = (*AT_A_TIME, "tests/unit")
FUNCTIONAL = (
    *AT_A_TIME,
    "tests/functional",
    f"--ignore={REAL_SERVICES}",
    f"--ignore={OSLO_SUITE}",
)

Command = Sequence[str | Path]


@dataclass(frozen=True)
class Stage:
    """A part of the test suite.

    :param purpose: what it shows, in a few words
    :param commands: makes its commands from the user's arguments for pytest;
        all of them run, whatever becomes of the others
    :param limit: seconds after which a command is ended as hanging; single tests have
        limits of their own, and a busy machine takes thrice as long
    :param preparation: what may run in the background until the stage begins
    :param beside: whether it shares nothing with other stages but the machine, and
        waits more than it works, so that it may run beside them
    :param on_request: whether it runs only if it is named
    """

    purpose: str
    commands: Callable[[Sequence[str]], list[Command]]
    limit: float = 3600
    preparation: Command | None = None
    beside: bool = False
    on_request: bool = False


@dataclass(frozen=True)
class Result:
    """How a stage ended.

    :param seconds: that it took
    :param cpu: seconds of processor time that its processes used
    :param closing: the last line that it printed
    :param failures: what pytest says of each failed test
    """

    stage: str
    seconds: float
    cpu: float
    problems: list[str]
    closing: str
    failures: list[str] = field(default_factory=list)


def lint(_: Sequence[str]) -> list[Command]:
    """Return the commands that read the code."""
    shell = shell_scripts()
    return [
        ["shellcheck", "--external-sources", *shell],
        # E005 wants a shebang in what is only sourced, E006 shorter lines in the
        # shell half than in the Python half
        [tool("bashate"), "--ignore", "E005,E006", *shell],
        [tool("reno"), "--quiet", "lint"],
        # setup.cfg has its options, doc/words-to-avoid.txt what it adds to misspellings
        [tool("codespell"), *DOCUMENTS],
        [tool("ruff"), "format", "--check", "."],
        [tool("ruff"), "check", "."],
        [tool("mypy")],
    ]


def docs(_: Sequence[str]) -> list[Command]:
    """Return the command that builds the documentation."""
    # -E: what an earlier build knows may hide a warning
    options = ["-E", "-W", "--keep-going", "--no-color", "-q", "-b", "html"]
    return [[tool("sphinx-build"), *options, "doc/source", BUILD / "html"]]


def pytest(*selection: str) -> Callable[[Sequence[str]], list[Command]]:
    """Return what makes the command for some tests."""

    def commands(arguments: Sequence[str]) -> list[Command]:
        return [[sys.executable, "-m", "pytest", *selection, *arguments]]

    return commands


def coverage(arguments: Sequence[str]) -> list[Command]:
    """Return the commands that record which lines tests reach, and judge it.

    The lines that the processes started by a test reach count as well. Recording costs
    a good part of the time of these tests, so the stages of their own do without.
    """
    for old in COVERAGE.glob("*"):
        old.unlink()
    program = [sys.executable, "-m", "coverage"]
    data = f"--data-file={COVERAGE / 'data'}"
    recorder = [*program, "run", data, "-m", "pytest"]
    return [
        [*recorder, *UNIT, *arguments],
        [*recorder, *FUNCTIONAL, *arguments],
        [*program, "combine", "--quiet", data],
        [*program, "report", data, f"--fail-under={REQUIRED_COVERAGE}"],
    ]


STAGES = {
    "lint": Stage("ruff, mypy, shellcheck, bashate, reno, codespell", lint),
    "docs": Stage("the documentation builds without a warning", docs),
    "unit": Stage("each module alone", pytest(*UNIT)),
    "devstack": Stage(
        "the DevStack plugin on a small simulated host",
        pytest("--numprocesses=3", "tests/devstack"),
        beside=True,
    ),
    "functional": Stage(
        "driver, router, commands with real engines",
        pytest(*FUNCTIONAL),
    ),
    "fuzz": Stage(
        "everything that strangers may send, and damaged data",
        pytest(*AT_A_TIME, "tests/fuzz"),
        beside=True,
    ),
    "interop": Stage(
        "the retired driver, other clients, oslo.messaging's own suite",
        pytest(*AT_A_TIME, "tests/interop", OSLO_SUITE),
        preparation=[sys.executable, "-m", "tests.interop.others"],
        beside=True,
    ),
    "real": Stage(
        "ironic, cinder and ceilometer on the bus",
        pytest(f"{REAL_SERVICES}/test_real_services.py"),
        preparation=[sys.executable, "-m", REAL_SERVICES.replace("/", "."), "--build"],
        beside=True,
    ),
    "coverage": Stage(
        f"unit and functional tests reach {REQUIRED_COVERAGE} % of the lines",
        coverage,
        on_request=True,
    ),
}


def tool(name: str) -> str:
    """Return a program of this environment, or of the machine."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else name


def shell_scripts() -> list[str]:
    """Return the shell code of the work tree, committed or not."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in listed.stdout.splitlines() if is_shell(ROOT / name)]


def is_shell(path: Path) -> bool:
    """Say whether a file is shell code, to be run or to be sourced."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        opening = file.read(200)
    return bool(
        path.suffix == ".sh"
        or b"# shellcheck shell=" in opening
        or re.match(rb"#!.*\b(ba)?sh\b", opening)
    )


def run_stage(name: str, arguments: Sequence[str]) -> Result:
    """Run the commands of a stage; none of their processes outlives it."""
    stage = STAGES[name]
    began, used = time.monotonic(), cpu_of_children()
    mark = uuid.uuid4().hex
    problems, closing, failures = [], "", []
    with tempfile.TemporaryDirectory(prefix=f"hybrid-messaging-{name}-") as scratch:
        # tests have state directories of their own: this is for one that forgets
        surroundings = {**os.environ, MARK: mark, "XDG_STATE_HOME": scratch}
        if sys.stdout.isatty():
            surroundings["FORCE_COLOR"] = "1"
        for command in stage.commands(arguments):
            title = shown(command)
            say(f"\n$ {title}")
            try:
                problem, ending = run(command, surroundings, stage.limit)
            finally:
                left = end_marked(mark)
            lines = reversed(ending.split("\n"))
            last = next((line for line in lines if line.strip()), "")
            failures += failed_tests(ending) if problem else []
            # what a failure says matters more than what comes after it
            closing = closing if problems else last or closing
            problems += [f"{problem}: {title}"] if problem else []
            problems += [f"was left running and is ended now: {item}" for item in left]
    seconds, cpu = time.monotonic() - began, cpu_of_children() - used
    return Result(name, seconds, cpu, problems, closing, failures)


def cpu_of_children() -> float:
    """Return the processor time of all processes that this one waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(
    command: Command, surroundings: dict[str, str], limit: float
) -> tuple[str, str]:
    """Run a command and show what it prints.

    :param surroundings: its environment
    :param limit: seconds after which it is ended
    :returns: what went wrong, or ''; and the end of what it printed
    """
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=surroundings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        ending = bytearray()
        copying = threading.Thread(
            target=copy, args=(process.stdout.fileno(), ending), daemon=True
        )
        copying.start()
        try:
            code = process.wait(limit)
            problem = f"exited {code}" if code else ""
        except subprocess.TimeoutExpired:
            problem = f"hung and was ended after {limit:.0f} s"
            # pytest then tells where it was
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(TELLING)
            process.kill()
        # what it leaves running may hold the other end of the pipe open
        copying.join(PARTING)
        return problem, COLOUR.sub(b"", bytes(ending)).decode(errors="replace")


def copy(source: int, ending: bytearray) -> None:
    """Copy a stream to standard output as it comes, and keep its last bytes."""
    while chunk := os.read(source, 65536):
        sys.stdout.buffer.write(chunk)
        sys.stdout.flush()
        ending += chunk
        del ending[:-KEPT]


def failed_tests(output: str) -> list[str]:
    """Return what pytest's summary says of each failed test, cut where it is long."""
    _, _, summed_up = output.rpartition("short test summary info")
    return [found[0].rstrip() for found in FAILED_TEST.finditer(summed_up)]


def end_marked(mark: str) -> list[str]:
    """End the processes that carry a mark.

    :returns: their command lines; processes that are about to end are not among
        them
    """
    psutil.wait_procs(marked(mark), timeout=PARTING)
    names = {}
    deadline = time.monotonic() + PARTING
    # one of them may start another one in the meantime
    while (left := marked(mark)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                names[process.pid] = f"{process.pid} {line}"[:200]
                process.kill()
        psutil.wait_procs(left, timeout=PARTING)
    return list(names.values())


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes that carry a mark."""
    found = {}
    for look in range(LOOKS):
        if look:
            time.sleep(LOOK_PAUSE)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == mark:
                    found[process.pid] = process
    return list(found.values())


@contextlib.contextmanager
def prepared(names: Sequence[str]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run the preparations of stages in the background, while others are tested."""
    with contextlib.ExitStack() as stack:
        running = {}
        for name in names:
            if command := STAGES[name].preparation:
                log = stack.enter_context((BUILD / f"prepare-{name}.log").open("wb"))
                running[name] = subprocess.Popen(
                    ["nice", *command],
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                stack.callback(end_group, running[name])
        yield running


def await_preparation(name: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a preparation has ended; the stage finds out what it lacks."""
    log = shown([BUILD / f"prepare-{name}.log"])
    if process.poll() is None:
        say(f"waiting for its preparation: {log}")
    if process.wait():
        say(f"its preparation failed: {log}")


def end_group(
    process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM
) -> None:
    """End a session leader and what it has started, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, how)
        process.wait()


@contextlib.contextmanager
def beside(
    names: Sequence[str], arguments: Sequence[str]
) -> Iterator[Callable[[], list[Result]]]:
    """Run stages in a runner of their own, beside those of this one.

    :returns: what waits for them, shows what they said, and returns their results
    """
    log, found = BUILD / "beside.log", BUILD / "beside.json"

    def finish() -> list[Result]:
        if running.poll() is None:
            say(f"\nwaiting for {', '.join(names)}: {shown([log])}")
        running.wait()
        say(log.read_text(errors="replace"))
        if running.returncode not in (0, 1):
            problem = f"their runner exited {running.returncode}"
            return [Result("beside", 0, 0, [problem], "")]
        return [Result(**each) for each in json.loads(found.read_text())]

    if not names:
        yield list
        return
    say(f"beside these stages, in {shown([log])}: {', '.join(names)}")
    own = [sys.executable, sys.argv[0], "--results", found, *names, "--", *arguments]
    with log.open("wb") as output:
        running = subprocess.Popen(
            own,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield finish
    finally:
        # as Ctrl-C would, so that it ends what its tests have started
        end_group(running, signal.SIGINT)


def shown(command: Command) -> str:
    """Return a command as a person would type it, cut where it gets too long."""
    line = " ".join(map(str, command))
    line = line.replace(f"{Path(sys.executable).parent}/", "").replace(f"{ROOT}/", "")
    return line if len(line) <= 120 else f"{line[:117]}..."


def say(text: str) -> None:
    """Print at once, so that it stands where it belongs in a log."""
    print(text, flush=True)


def tested() -> str:
    """Return what is tested: the versions that a failure may depend on."""
    names = ["oslo.messaging", "python-qpid-proton", "eventlet"]
    versions = [f"{name} {metadata.version(name)}" for name in names]
    return f"Python {sys.version.split()[0]}, {', '.join(versions)}"


def summary(results: Sequence[Result], seconds: float) -> str:
    """Return a table of the stages, and below it what went wrong.

    :param seconds: that all of them took together, some beside others
    """
    heads = f"{'stage':12}{'result':10}{'seconds':>8}{'cpu':>6}"
    lines = ["", f"{heads}  its last words"]
    for result in results:
        verdict = "FAILED" if result.problems else "passed"
        closing = result.closing.strip("= \r")[:80]
        figures = f"{result.seconds:8.0f}{result.cpu:6.0f}"
        lines.append(f"{result.stage:12}{verdict:10}{figures}  {closing}")
    cpu = sum(result.cpu for result in results)
    lines.append(f"{'':22}{seconds:8.0f}{cpu:6.0f}")
    for result in results:
        lines += [f"{result.stage}: {problem}" for problem in result.problems]
        lines += result.failures
    return "\n".join(lines)


def main() -> int:
    """Run the stages that were asked for; return 0 if all of them passed."""
    width = max(map(len, STAGES))
    parser = argparse.ArgumentParser(
        usage="%(prog)s [-h] [-x] [STAGE...] [-- ARGUMENT...]",
        description="Run the test suite, or the named stages of it.",
        epilog="stages, in this order:\n"
        + "".join(f"  {name:{width}}  {STAGES[name].purpose}\n" for name in STAGES)
        + "\ncoverage runs only if it is named\n"
        + "what follows -- goes to pytest: unit -- -k urls",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE")
    parser.add_argument(
        "-x", "--exitfirst", action="store_true", help="stop after a stage that fails"
    )
    own, arguments = sys.argv[1:], []
    if "--" in own:
        split = own.index("--")
        own, arguments = own[:split], own[split + 1 :]
    # how the runner of the stages beside others tells them apart
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(own)
    if unknown := set(options.stages) - set(STAGES):
        parser.error(f"no such stage: {', '.join(sorted(unknown))}")
    usual = [name for name in STAGES if not STAGES[name].on_request]
    chosen = [name for name in STAGES if name in (options.stages or usual)]

    # a shell's background commands ignore Ctrl-C, and so would all that they
    # start; there are tests of what an interrupted command leaves
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # what ends it otherwise is to leave as little
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    COVERAGE.mkdir(parents=True, exist_ok=True)
    say(tested())
    other = [name for name in chosen if STAGES[name].beside]
    first = [name for name in chosen if name not in other]
    if options.results or not first:
        first, other = chosen, []
    results: list[Result] = []
    with prepared(first) as preparations, beside(other, arguments) as finish:
        for name in first:
            say(f"\n===== {name}: {STAGES[name].purpose}")
            if preparation := preparations.get(name):
                await_preparation(name, preparation)
            results.append(run_stage(name, arguments))
            if results[-1].problems and options.exitfirst:
                break
        else:
            results += finish()
    if options.results:
        options.results.write_text(json.dumps([asdict(each) for each in results]))
    else:
        say(summary(results, time.monotonic() - began))
    return int(any(result.problems for result in results))


COLOUR = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]")
#: A failed test in pytest's summary, with the first lines of the reason. Where there is
#: no summary, lines that tests have logged look alike, with more spaces.
FAILED_TEST = re.compile(
    r"^(FAILED|ERROR) \S.*(\n(?!FAILED |ERROR |SKIPPED |=).*){0,11}", re.MULTILINE
)

if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
