# SPDX-License-Identifier: Apache-2.0
"""Whose Python a service's is, where deployment tools put one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid_messaging.service_configs import interpreter
from hybrid_messaging.service_configs.environments import Environments
from hybrid_messaging.service_configs.interpreter import Environment

Make = Callable[..., Path]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, object]]:
    """The interpreters that were asked, and as whom."""
    asked: list[tuple[Path, object]] = []

    def ask(python: Path, user: object = None) -> Environment:
        asked.append((python, user))
        return Environment({}, {}, str(python))

    monkeypatch.setattr(interpreter, "ask", ask)
    return asked


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a virtual environment, of a certain age."""

    def make(name: str, age: int = 0) -> Path:
        directory = tmp_path / name
        (directory / "bin").mkdir(parents=True)
        (directory / "pyvenv.cfg").touch()
        python = directory / "bin/python"
        python.touch()
        python.chmod(0o755)
        os.utime(directory, (age, age))
        return directory / "bin/python"

    return make


def of(root: Path, file: str, python: Path | None = None) -> str:
    return Environments(python, root=root).of([root / file]).release


@pytest.mark.usefixtures("asked")
def test_each_tool_has_its_place(tmp_path: Path, make: Make) -> None:
    assert of(tmp_path, "etc/nova/nova.conf") == sys.executable
    stack = make("opt/stack/data/venv")
    assert of(tmp_path, "etc/nova/nova.conf") == str(stack)
    kolla = make("var/lib/kolla/venv")
    assert of(tmp_path, "etc/nova/nova.conf") == str(kolla)
    make("openstack/venvs/nova-29.0.0", age=1)
    nova = make("openstack/venvs/nova-30.0.0", age=2)
    make("openstack/venvs/ironic-inspector-30.0.0")
    assert of(tmp_path, "etc/nova/nova.conf") == str(nova)
    assert of(tmp_path, "etc/ironic/ironic.conf") == str(kolla)
    assert of(tmp_path, "etc/nova/nova.conf", Path("/its")) == "/its"


@pytest.mark.usefixtures("asked")
def test_files_lead_to_the_environment_that_they_are_in(
    tmp_path: Path, make: Make
) -> None:
    used = make("openstack/venvs/nova-29.0.0", age=1)
    make("openstack/venvs/nova-30.0.0", age=2)
    (tmp_path / "openstack/venvs/nova-29.0.0/etc/nova").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nova").symlink_to(
        tmp_path / "openstack/venvs/nova-29.0.0/etc/nova"
    )
    assert of(tmp_path, "etc/nova/nova.conf") == str(used)


@pytest.mark.usefixtures("asked")
def test_files_of_elsewhere_are_not_this_machines(tmp_path: Path, make: Make) -> None:
    make("opt/stack/data/venv")
    assert of(tmp_path, "copies/etc/nova/nova.conf") == sys.executable


@pytest.mark.usefixtures("asked")
def test_our_own_python_may_be_another_one(tmp_path: Path) -> None:
    def is_guess(name: str, python: Path | None = None) -> bool:
        return Environments(python, root=tmp_path).of([tmp_path / name]).is_guess

    assert is_guess("nova.conf")
    assert not is_guess("nova.conf", Path("/its"))
    # as if `pip` were a service
    assert not is_guess("pip.conf")


def test_each_interpreter_is_asked_once(
    tmp_path: Path, make: Make, asked: list[tuple[Path, object]]
) -> None:
    python = make("opt/stack/data/venv")
    told: list[str] = []
    environments = Environments(None, told.append, tmp_path)
    for name in ("nova", "cinder"):
        environments.of([tmp_path / f"etc/{name}/{name}.conf"])
    assert [python for python, _ in asked] == [python]
    assert told == [f"asking {python} what services can import"]


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> dict[Path, int]:
    """Who owns files, links and directories; root has all others."""
    owners: dict[Path, int] = {}
    found = os.fstat

    def fstat(handle: int) -> os.stat_result:
        status = found(handle)
        uids = {path.lstat().st_ino: uid for path, uid in owners.items()}
        uid = uids.get(status.st_ino, 0)
        return os.stat_result((*status[:4], uid, uid + 1, *status[6:10]))

    monkeypatch.setattr(os, "fstat", fstat)
    return owners


FOREIGN = ("", "bin", "bin/python", "pyvenv.cfg", "lib/python3.12/site-packages")


@pytest.mark.parametrize("name", FOREIGN)
def test_root_runs_nothing_of_another_user_as_root(
    tmp_path: Path,
    make: Make,
    asked: list[tuple[Path, os.stat_result | None]],
    owners: dict[Path, int],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    python = make("opt/stack/data/venv")
    (tmp_path / "opt/stack/data/venv/lib/python3.12/site-packages").mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    of(tmp_path, "etc/nova/nova.conf")
    assert asked == [(python, None)]
    owners[tmp_path / "opt/stack/data/venv" / name] = 4711
    of(tmp_path, "etc/nova/nova.conf")
    _, user = asked[-1]
    assert user is not None
    assert (user.st_uid, user.st_gid) == (4711, 4712)
    monkeypatch.setattr(os, "geteuid", lambda: 4713)
    assert of(tmp_path, "etc/nova/nova.conf") == sys.executable
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    of(tmp_path, "etc/nova/nova.conf")
    assert asked[-1] == (python, None)


def test_links_and_what_they_lead_to_are_judged_as_well(
    tmp_path: Path,
    make: Make,
    asked: list[tuple[Path, os.stat_result | None]],
    owners: dict[Path, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = make("opt/stack/data/venv")
    elsewhere = python.rename(tmp_path / "python")
    python.symlink_to(elsewhere)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for foreign in (python, elsewhere):
        owners.clear()
        owners[foreign] = 4711
        of(tmp_path, "etc/nova/nova.conf")
        _, user = asked[-1]
        assert user is not None
        assert user.st_uid == 4711
    owners[python] = 4712
    assert of(tmp_path, "etc/nova/nova.conf") == sys.executable


@pytest.mark.usefixtures("asked")
def test_what_every_user_can_change_is_not_run(tmp_path: Path, make: Make) -> None:
    python = make("opt/stack/data/venv")
    python.chmod(0o777)
    assert of(tmp_path, "etc/nova/nova.conf") == sys.executable
