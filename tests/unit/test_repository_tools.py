# SPDX-License-Identifier: Apache-2.0
"""The scripts that prepare a machine, and the runner of the test suite."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"


def run(*command: str | Path, **surroundings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **surroundings},
    )


def await_true(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# -- packages ----------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that has nothing but the scripts."""
    shutil.copytree(TOOLS, tmp_path / "tools")
    return tmp_path


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="no Debian or Ubuntu")
def test_missing_packages_follow_from_profiles_and_platform(checkout: Path) -> None:
    (checkout / "bindep.txt").write_text(
        "hm-always  # without profiles\n"
        "hm-dpkg [platform:dpkg]\n"
        "hm-rpm [platform:rpm]\n"
        "hm-compile [compile platform:dpkg]\n"
        "hm-compile-rpm [compile platform:rpm]\n"
        "# hm-comment\n"
        "hm-either [engines test]\n"
        "hm-other [other]\n"
        "libc-bin [compile]\n"  # a package that every such machine has
        "\n"
        "hm-test [test]\n"
    )
    tool = checkout / "tools/install-packages.sh"
    assert run(tool, "--list", "compile").stdout.split() == [
        "hm-always",
        "hm-dpkg",
        "hm-compile",
    ]
    assert run(tool, "--list", "test").stdout.split() == [
        "hm-always",
        "hm-dpkg",
        "hm-either",
        "hm-test",
    ]


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="no Debian or Ubuntu")
def test_a_command_stands_for_the_package_of_its_name(checkout: Path) -> None:
    (checkout / "bindep.txt").write_text("hm-command [engines]\n")
    tool = checkout / "tools/install-packages.sh"
    assert run(tool, "--list", "engines").stdout == "hm-command\n"
    (checkout / "bin").mkdir()
    command = checkout / "bin/hm-command"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    assert run(tool, "--list", "engines", PATH=path).stdout == ""


# -- the virtual environment -------------------------------------------


def test_an_environment_of_somebody_else_is_left_alone(checkout: Path) -> None:
    theirs = checkout / ".venv/precious"
    theirs.mkdir(parents=True)
    done = run(checkout / "tools/make-venv.sh", PYTHON=sys.executable)
    assert done.returncode == 1
    assert "was not made by this script: remove it or move it away" in done.stdout
    assert theirs.exists()


def test_a_wrong_python_is_refused(checkout: Path) -> None:
    done = run(checkout / "tools/make-venv.sh", PYTHON="/bin/false")
    assert done.returncode == 1
    assert "PYTHON=/bin/false is no Python 3.10 or newer" in done.stdout
    assert not (checkout / ".venv").exists()


def test_without_a_python_there_is_a_sentence(checkout: Path) -> None:
    (checkout / "bin").mkdir()
    for version in ("", ".14", ".13", ".12", ".11", ".10"):
        old = checkout / f"bin/python3{version}"
        old.write_text("#!/bin/sh\n[ $1 = --version ] && echo Python 3.9.2\n")
        old.chmod(0o755)
    path = f"{checkout / 'bin'}:{os.environ['PATH']}"
    done = run(checkout / "tools/make-venv.sh", PATH=path, PYTHON="")
    assert done.returncode == 1
    assert "there is no Python 3.10 or newer (Python 3.9.2)" in done.stdout


# -- steps -------------------------------------------------------------


def step(command: str) -> list[str]:
    return ["bash", "-c", f"source '{TOOLS}/steps.sh'; run_step 'a step' {command}"]


def test_a_step_that_works_is_one_line() -> None:
    done = run(*step("echo noise"))
    assert done.returncode == 0
    assert re.fullmatch(r"  a step ... done in \d+ s\n", done.stdout)


def test_a_step_that_fails_shows_what_it_said(tmp_path: Path) -> None:
    done = run(*step("bash -c 'echo the reason; exit 7'"), TMPDIR=str(tmp_path))
    assert done.returncode == 7
    assert "    the reason\n" in done.stdout
    (log,) = tmp_path.iterdir()
    assert f"All of it is in {log}\n" in done.stdout
    assert log.read_text() == "the reason\n"


def test_an_interrupted_step_ends_its_command(tmp_path: Path) -> None:
    script = subprocess.Popen(
        step(f"bash -c 'echo $$ >{tmp_path}/pid; exec sleep 600'"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    await_true(lambda: (tmp_path / "pid").exists() and "sleep" in _command(tmp_path))
    pid = int((tmp_path / "pid").read_text())
    os.killpg(script.pid, signal.SIGINT)
    assert script.wait(20) == 1
    assert not psutil.pid_exists(pid)


def _command(directory: Path) -> str:
    text = (directory / "pid").read_text()
    return psutil.Process(int(text)).name() if text else ""


# -- the runner of the test suite --------------------------------------


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The runner, whose stages a test replaces, and which writes elsewhere."""
    spec = importlib.util.spec_from_file_location("run_tests", TOOLS / "run_tests.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "run_tests", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    monkeypatch.setattr(module, "COVERAGE", tmp_path / "build/coverage")
    monkeypatch.setattr(module, "PARTING", 0.5)
    monkeypatch.setattr(module, "STAGES", {})
    return module


def add_stage(runner: ModuleType, name: str, *programs: str, **more: Any) -> None:
    commands = [[sys.executable, "-c", program] for program in programs]
    runner.STAGES[name] = runner.Stage("a stage", lambda _: commands, **more)


def run_main(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> int:
    monkeypatch.setattr(sys, "argv", ["run_tests.py", *arguments])
    return int(runner.main())


def test_all_commands_of_a_stage_run_and_one_failure_fails_it(
    runner: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    add_stage(runner, "one", "print('bad'); exit(3)", "print('good')")
    result = runner.run_stage("one", [])
    assert len(result.problems) == 1
    assert result.problems[0].startswith("exited 3: ")
    assert result.closing == "bad"
    printed = capfd.readouterr().out.splitlines()
    assert "bad" in printed
    assert "good" in printed


def test_what_a_stage_leaves_running_fails_it_and_is_ended(
    runner: ModuleType, tmp_path: Path
) -> None:
    leave = (
        "import subprocess; left = subprocess.Popen(['sleep', '600']);"
        f"open('{tmp_path}/pid', 'w').write(str(left.pid))"
    )
    add_stage(runner, "one", leave)
    (problem,) = runner.run_stage("one", []).problems
    assert problem.startswith("was left running and is ended now: ")
    assert problem.endswith(" sleep 600")
    pid = int((tmp_path / "pid").read_text())
    await_true(lambda: not psutil.pid_exists(pid))


def test_a_process_that_executes_a_program_shows_its_mark_later(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Executing(psutil.Process):
        is_shown = False

        def environ(self) -> dict[str, str]:
            shown, self.is_shown = self.is_shown, True
            return super().environ() if shown else {}

    left = subprocess.Popen(["sleep", "600"], env={**os.environ, runner.MARK: "ours"})
    try:
        await_true(lambda: psutil.Process(left.pid).name() == "sleep")
        processes = [Executing(left.pid)]
        monkeypatch.setattr(psutil, "process_iter", lambda: iter(processes))
        assert runner.end_marked("ours") == [f"{left.pid} sleep 600"]
    finally:
        left.kill()
        left.wait()


def test_a_stage_that_hangs_is_ended(runner: ModuleType) -> None:
    add_stage(runner, "one", "import time; time.sleep(600)", limit=1)
    (problem,) = runner.run_stage("one", []).problems
    assert problem.startswith("hung and was ended after 1 s: ")


def test_the_summary_has_a_line_for_each_stage(
    runner: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    add_stage(runner, "good", "print('== 5 passed in 1.00s ==')")
    add_stage(runner, "bad", "exit(1)")
    assert run_main(runner, monkeypatch) == 1
    printed = capfd.readouterr().out
    good = r"^good +passed +\d+ +\d+  5 passed in 1.00s$"
    assert re.search(good, printed, re.MULTILINE)
    assert re.search(r"^bad +FAILED +\d+ +\d+ *$", printed, re.MULTILINE)
    assert printed.splitlines()[-1].startswith("bad: exited 1: ")


def test_the_summary_ends_with_the_failed_tests(
    runner: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    printed = (
        "ERROR    hybrid_messaging:test_a.py:1 a line that a test logged",
        "==== short test summary info ====",
        "SKIPPED [1] test_a.py:2: no router",
        "FAILED test_a.py::test_b - assert 1 == 2",
        "  where 1 = f()",
        "ERROR test_a.py::test_c - OSError",
        "==== 1 failed, 1 skipped, 1 error in 1.00s ====",
    )
    add_stage(runner, "tests", f"print({chr(10).join(printed)!r}); exit(1)")
    add_stage(runner, "other", "print('good')")
    assert run_main(runner, monkeypatch) == 1
    assert capfd.readouterr().out.splitlines()[-3:] == list(printed[3:6])


def test_what_tests_have_logged_is_no_failed_test(
    runner: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Where pytest was killed, there is no summary that could tell them apart."""
    logged = "ERROR    hybrid_messaging:test_a.py:1 a line"
    add_stage(runner, "tests", f"print({logged!r}); exit(1)")
    assert run_main(runner, monkeypatch) == 1
    last = capfd.readouterr().out.splitlines()[-1]
    assert last.startswith("tests: exited 1: ")


def test_only_the_stages_that_are_asked_for_run(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_stage(runner, "good", "pass")
    add_stage(runner, "bad", "exit(1)")
    assert run_main(runner, monkeypatch, "good") == 0
    with pytest.raises(SystemExit) as refused:
        run_main(runner, monkeypatch, "ugly")
    assert refused.value.code == 2


def test_a_stage_on_request_runs_only_if_it_is_named(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_stage(runner, "usual", "pass")
    add_stage(runner, "costly", "exit(1)", on_request=True)
    assert run_main(runner, monkeypatch) == 0
    assert run_main(runner, monkeypatch, "costly") == 1


def test_a_failing_stage_is_the_last_with_exitfirst(
    runner: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    add_stage(runner, "bad", "exit(1)")
    add_stage(runner, "next", "pass")
    assert run_main(runner, monkeypatch, "-x") == 1
    assert "next" not in capfd.readouterr().out


def test_arguments_for_pytest_follow_two_dashes(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[str] = []

    def commands(arguments: list[str]) -> list[list[str]]:
        got.extend(arguments)
        return []

    runner.STAGES["one"] = runner.Stage("a stage", commands)
    assert run_main(runner, monkeypatch, "one", "--", "-k", "urls") == 0
    assert got == ["-k", "urls"]


def test_a_preparation_runs_until_its_stage_begins(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prepared = tmp_path / "prepared"
    preparation = [sys.executable, "-c", f"open('{prepared}', 'w')"]
    add_stage(runner, "first", "pass")
    add_stage(runner, "second", f"open('{prepared}')", preparation=preparation)
    assert run_main(runner, monkeypatch) == 0


def test_a_preparation_ends_with_the_run(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    preparation = ["bash", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 600"]
    await_pid = (
        "import os, time\n"
        f"while not os.path.exists('{tmp_path}/pid'): time.sleep(0.05)\n"
        "exit(1)"
    )
    add_stage(runner, "first", await_pid)
    add_stage(runner, "second", "pass", preparation=preparation)
    assert run_main(runner, monkeypatch, "-x") == 1
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


# What runs stages beside others calls itself, so it is a program here.
PROGRAM = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("run_tests", {runner!r})
run_tests = importlib.util.module_from_spec(spec)
sys.modules["run_tests"] = run_tests
spec.loader.exec_module(run_tests)
run_tests.BUILD = pathlib.Path({directory!r})
run_tests.COVERAGE = run_tests.BUILD / "coverage"

def stage(program, beside=False):
    command = [sys.executable, "-c", "import os, time\\n" + program]
    return run_tests.Stage("a stage", lambda _: [command], beside=beside)

AWAIT = "while not os.path.exists({directory!r} + '/met'): time.sleep(0.05)\\n"
MEET = "open({directory!r} + '/met', 'w').close()\\n"
run_tests.STAGES = {{
{stages}
}}
sys.exit(run_tests.main())
"""


def program(directory: Path, stages: str) -> Path:
    path = directory / "program.py"
    path.write_text(
        PROGRAM.format(
            runner=str(TOOLS / "run_tests.py"), directory=str(directory), stages=stages
        )
    )
    return path


def test_stages_run_beside_others(tmp_path: Path) -> None:
    stages = (
        "'one': stage(AWAIT + 'print(1)'), "
        "'two': stage(MEET + 'print(2); exit(3)', beside=True), "
        "'three': stage('print(3)')"
    )
    done = run(sys.executable, program(tmp_path, stages))
    assert done.returncode == 1
    said = [line.split()[0:2] for line in done.stdout.splitlines() if line]
    order = [said.index([number]) for number in "132"]
    assert order == sorted(order)
    table = [words for words in said if words[1:] in (["passed"], ["FAILED"])]
    assert table == [["one", "passed"], ["three", "passed"], ["two", "FAILED"]]
    assert "\ntwo: exited 3: " in done.stdout


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_what_is_beside_it(
    tmp_path: Path, how: signal.Signals
) -> None:
    note = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    stages = (
        "'one': stage('time.sleep(600)'), "
        f"'two': stage({note + '; time.sleep(600)'!r}, beside=True)"
    )
    runner = subprocess.Popen(
        [sys.executable, program(tmp_path, stages)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    written = tmp_path / "pid"
    await_true(lambda: written.exists() and bool(written.read_text()))
    runner.send_signal(how)
    assert runner.wait(60) != 0
    assert not psutil.pid_exists(int(written.read_text()))


def test_the_test_script_names_all_stages() -> None:
    listed = run(sys.executable, TOOLS / "run_tests.py", "--help").stdout
    stages = listed.partition("in this order:\n")[2].partition("\n\n")[0]
    script = run(TOOLS / "test.sh", "--help").stdout
    named = script.partition("Stages: ")[2].partition(";")[0]
    assert named.split() == [line.split()[0] for line in stages.splitlines()]
