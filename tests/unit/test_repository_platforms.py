# SPDX-License-Identifier: Apache-2.0
"""What tries the README's commands on other platforms, without making a chroot."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import psutil
import pytest

PROGRAM = Path(__file__).parents[2] / "tools/try_platforms.py"
MIRROR = "http://mirror.example/debian/"

namespaces = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces take root")


@pytest.fixture
def platforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, as root on a machine that has debootstrap and apt."""
    spec = importlib.util.spec_from_file_location("try_platforms", PROGRAM)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "try_platforms", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.os, "geteuid", lambda: 0)
    offer(tmp_path, monkeypatch, "debootstrap", "exit 99")
    offer(tmp_path, monkeypatch, "apt-get", f"echo '{MIRROR} Debian'")
    return module


def offer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str
) -> None:
    """Put a command before those of the machine."""
    path = tmp_path / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent), prepend=os.pathsep)


Recorded = list[list[str]]


@pytest.fixture
def answer(
    platforms: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Recorded]:
    """Has commands end with codes: the last one named that is a part of them."""

    def prepare(**codes: int) -> Recorded:
        ran: Recorded = []

        def run(command: Sequence[str], log: Path) -> int:
            ran.append(list(command))
            log.write_text("what went before\nthe reason\n")
            line = " ".join(command)
            return next((code for part, code in codes.items() if part in line), 0)

        monkeypatch.setattr(platforms, "run", run)
        return ran

    return prepare


def main(
    platforms: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    directory: Path,
    *arguments: str,
) -> int:
    program = ["try_platforms.py", "--directory", str(directory / "made")]
    monkeypatch.setattr(sys, "argv", [*program, *arguments])
    return int(platforms.main())


def test_what_is_no_code_name_is_refused(
    platforms: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(platforms, monkeypatch, tmp_path, "../etc")
    assert refused.value.code == 2
    assert "../etc is no code name of a release" in capsys.readouterr().err


def test_without_root_or_debootstrap_there_is_a_sentence(
    platforms: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit):
        main(platforms, monkeypatch, tmp_path)
    assert "apt-get install debootstrap" in capsys.readouterr().err
    monkeypatch.setattr(platforms.os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit):
        main(platforms, monkeypatch, tmp_path)
    assert "takes root" in capsys.readouterr().err


def test_the_mirror_is_that_of_apt(
    platforms: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    listed = f"http://other.example/ Debian-Security\n{MIRROR} Debian"
    offer(tmp_path, monkeypatch, "apt-get", f"echo '{listed}'")
    assert platforms.mirror() == MIRROR
    offer(tmp_path, monkeypatch, "apt-get", "echo http://other.example/ Other")
    with pytest.raises(SystemExit, match="name one with --mirror"):
        platforms.mirror()


def test_each_platform_is_made_and_runs_both_commands(
    platforms: ModuleType,
    answer: Callable[..., Recorded],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran = answer()
    assert main(platforms, monkeypatch, tmp_path, "one", "two", "--", "unit") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:3] for line in lines] == [
        ["platform", "step", "exit"],
        *(
            [platform, step, "0"]
            for platform in ("one", "two")
            for step in ("make", "quickstart", "test")
        ),
    ]
    assert any(command[0] == "debootstrap" and MIRROR in command for command in ran)
    assert ran[-1][-1].endswith("tools/test.sh unit")
    # chroots are gone, logs stay
    assert {path.suffix for path in (tmp_path / "made").iterdir()} == {".log"}


def test_one_command_that_fails_keeps_the_other_from_nothing(
    platforms: ModuleType,
    answer: Callable[..., Recorded],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer(**{"tools/quickstart.sh": 3})
    assert main(platforms, monkeypatch, tmp_path, "-f", "json", "one") == 1
    said = capsys.readouterr()
    results = json.loads(said.out)
    assert [(each["step"], each["exit"]) for each in results] == [
        ("make", 0),
        ("quickstart", 3),
        ("test", 0),
    ]
    assert Path(results[1]["log"]).read_text().endswith("the reason\n")
    assert "    the reason\n" in said.err


def test_a_platform_that_cannot_be_made_runs_nothing(
    platforms: ModuleType,
    answer: Callable[..., Recorded],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran = answer(debootstrap=1)
    assert main(platforms, monkeypatch, tmp_path, "-f", "json", "one") == 1
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["step"], result["exit"]) == ("make", 1)
    assert len(ran) == 1


def test_a_chroot_knows_of_this_machine_what_leads_to_packages(
    platforms: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/opt/wheels")
    monkeypatch.setenv("HYBRID_TEST_ROUTER", "/opt/skrouterd")
    command = platforms.inside(Path("/chroot"), "true")
    assert "https_proxy=http://proxy.example:3128" in command
    assert "PIP_INDEX_URL=https://index.example/simple" in command
    assert not [word for word in command if word.startswith(("PIP_FIND", "HYBRID"))]


# -- namespaces --------------------------------------------------------

#: A daemon in a session of its own, as engines are, and one that waits for it.
DAEMON = "setsid sleep {seconds} & touch {marker}; wait"


def running(seconds: str) -> bool:
    return any(
        process.info["cmdline"] == ["sleep", seconds]
        for process in psutil.process_iter(["cmdline"])
    )


@namespaces
def test_orphans_that_have_ended_are_gone(
    platforms: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(platforms, "CLONE", "/")
    orphan = tmp_path / "orphan"
    script = f"""
    (setsid sleep 0 & echo $! >{orphan})
    for ((i = 0; i < 600; i++)); do
        [[ -e /proc/$(<{orphan}) ]] || exit 0
        sleep 0.1
    done
    exit 9
    """
    # reaps what it has started itself, as most programs do
    run = (
        f"import subprocess, sys; sys.exit(subprocess.call(['bash', '-c', {script!r}]))"
    )
    program = shlex.join(["exec", sys.executable, "-c", run])
    assert platforms.run(platforms.inside(Path("/"), program), tmp_path / "log") == 0


@namespaces
def test_a_command_that_hangs_is_ended_with_all_that_it_started(
    platforms: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(platforms, "LIMIT", 3)
    seconds = f"600.{os.getpid()}"
    hang = DAEMON.format(seconds=seconds, marker=tmp_path / "began")
    assert platforms.run(["bash", "-c", hang], tmp_path / "log") == 124
    assert not running(seconds)


@namespaces
def test_nothing_stays_when_the_program_is_killed(tmp_path: Path) -> None:
    seconds = f"601.{os.getpid()}"
    hang = DAEMON.format(seconds=seconds, marker=tmp_path / "began")
    mount = f"mount -t tmpfs tmpfs {tmp_path} && {hang}"
    script = (
        f"import sys; sys.path.insert(0, {str(PROGRAM.parent)!r});"
        "import pathlib, try_platforms;"
        f"try_platforms.run(['bash', '-c', {mount!r}], pathlib.Path('/dev/null'))"
    )
    program = subprocess.Popen([sys.executable, "-c", script])
    await_true(lambda: running(seconds))
    program.kill()
    program.wait()
    await_true(lambda: not running(seconds))
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


def await_true(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
