# SPDX-License-Identifier: Apache-2.0
"""The state directory: private, whole or not at all, one writer at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid_messaging import locks, modes, state, state_directory
from hybrid_messaging.engines.deployment import Deployment
from hybrid_messaging.state_directory import StateError

ENGINE = state.Engine(
    name="rabbitmq",
    kind="rabbitmq",
    roles=("notify",),
    host="127.0.0.1",
    port=5673,
    url="rabbit://hybrid:secret@127.0.0.1:5673/",
    pid=42,
    started=1.5,
    log="/somewhere/rabbitmq.log",
    details=state.RabbitMQDetails(
        management_port=1,
        distribution_port=2,
        epmd_port=3,
        username="hybrid",
        password="secret",
        cookie="c",
        node="rabbitmq@localhost",
    ),
)
STATE = state.State("qpid-hybrid", "amqp://127.0.0.1:1/", ENGINE.url, (ENGINE,))


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    state_directory.prepare(path)
    return path


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ("/xdg", "/xdg/hybrid-messaging"),
        ("", "/home/me/.local/state/hybrid-messaging"),
        ("relative", "/home/me/.local/state/hybrid-messaging"),
    ],
)
def test_default_directory(
    monkeypatch: pytest.MonkeyPatch, configured: str, expected: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_STATE_HOME", configured)
    assert state_directory.default_state_dir() == Path(expected)


def test_what_is_saved_is_loaded(state_dir: Path) -> None:
    state_directory.save(state_dir, STATE)
    assert state_directory.load(state_dir) == STATE
    loaded = state_directory.load(state_dir)
    assert loaded and loaded.engine("rabbitmq") == ENGINE
    assert loaded.engine("router") is None


def test_nothing_is_there_before(tmp_path: Path) -> None:
    assert state_directory.load(tmp_path / "nowhere") is None
    file = tmp_path / "file"
    file.touch()
    assert state_directory.load(file) is None


def test_only_the_owner_can_read(state_dir: Path) -> None:
    previous = os.umask(0)
    try:
        state_directory.save(state_dir, STATE)
    finally:
        os.umask(previous)
    assert mode_of(state_dir / state_directory.STATE_FILE) == 0o600
    assert mode_of(state_dir) == 0o700


def test_a_new_directory_is_closed_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "chmod", lambda *_: None)
    previous = os.umask(0)
    try:
        state_directory.prepare(tmp_path / "state")
    finally:
        os.umask(previous)
    assert mode_of(tmp_path / "state") == 0o700


def test_a_directory_that_has_a_state_is_accepted(state_dir: Path) -> None:
    state_directory.save(state_dir, STATE)
    state_directory.prepare(state_dir)
    assert state_directory.load(state_dir) == STATE


def test_a_link_to_a_state_directory_is_followed(
    state_dir: Path, tmp_path: Path
) -> None:
    state_directory.save(state_dir, STATE)
    (tmp_path / "link").symlink_to(state_dir)
    assert state_directory.load(tmp_path / "link") == STATE


def test_a_directory_that_cannot_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StateError, match=r"cannot read .*loop.*symbolic links"):
        state_directory.load(tmp_path / "loop")


def test_an_open_directory_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    state_directory.prepare(tmp_path)
    assert mode_of(tmp_path) == 0o700


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 1}',
        json.dumps({"format": 1, **dataclasses.asdict(STATE)})[:-40],
        json.dumps({"format": 1, **dataclasses.asdict(STATE), "engines": [{}]}),
        "\N{SNOWMAN}",
    ],
)
def test_a_damaged_file_is_one_sentence(state_dir: Path, content: str) -> None:
    (state_dir / state_directory.STATE_FILE).write_text(content)
    with pytest.raises(StateError, match=r"state\.json is damaged.*remove"):
        state_directory.load(state_dir)


def test_binary_rubbish_is_damage_too(state_dir: Path) -> None:
    (state_dir / state_directory.STATE_FILE).write_bytes(b"\xff\x00")
    with pytest.raises(StateError, match="is damaged"):
        state_directory.load(state_dir)


def changed(**values: object) -> str:
    engine = {**dataclasses.asdict(ENGINE), **values}
    return json.dumps({"format": 1, **dataclasses.asdict(STATE), "engines": [engine]})


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        (
            changed(name="../../precious"),
            r"engines\[0\]\.name is not a valid engine name",
        ),
        (changed(name="router\n"), r"engines\[0\]\.name has control characters"),
        (changed(kind="ports"), r"engines\[0\]\.kind is not a valid engine kind"),
        (changed(port="1"), r"engines\[0\]\.port is not a whole number"),
        (changed(pid=-1), r"engines\[0\]\.pid is out of range"),
        (changed(pid=True), r"engines\[0\]\.pid is not a number"),
        (changed(details=[]), r"engines\[0\]\.details is not an object"),
        (changed(details={}), r"engines\[0\]\.details\.username is missing"),
        (changed(url=5), r"engines\[0\]\.url is not a valid string"),
        (changed(url="a:secret@h"), r"engines\[0\]\.url is not a transport URL"),
        (changed(started=1e300), r"engines\[0\]\.started is out of range"),
        ("[" * 200_000, "it is not valid JSON"),
        (" " * (1 << 21), "it is larger than 1 MB"),
        (json.dumps({"format": "\x1b[31m"}), "format is not a whole number"),
        (changed().replace("qpid-hybrid", "no-such-mode"), "mode is not a valid mode"),
    ],
)
def test_damage_is_named_with_its_place(
    state_dir: Path, content: str, damage: str
) -> None:
    (state_dir / state_directory.STATE_FILE).write_text(content)
    with pytest.raises(StateError, match=rf"state\.json is damaged \({damage}"):
        state_directory.load(state_dir)


def test_without_a_home_a_directory_has_to_be_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(StateError, match="set HOME or XDG_STATE_HOME"):
        state_directory.default_state_dir()


def test_two_engines_of_one_name(state_dir: Path) -> None:
    path = state_dir / state_directory.STATE_FILE
    state_directory.save(state_dir, STATE)
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "engines": data["engines"] * 2}))
    with pytest.raises(StateError, match="have a name twice"):
        state_directory.load(state_dir)


def test_what_could_not_be_read_again_is_not_written(state_dir: Path) -> None:
    state_directory.save(state_dir, STATE)
    odd = dataclasses.replace(STATE, engines=(dataclasses.replace(ENGINE, name="X"),))
    with pytest.raises(StateError, match=r"cannot write .*engine name"):
        state_directory.save(state_dir, odd)
    assert state_directory.load(state_dir) == STATE


def test_every_kind_of_the_mode_table_is_known() -> None:
    kinds = {item.kind for mode in modes.load().values() for item in mode.engines}
    assert kinds == set(state.DETAILS)


def test_nothing_leads_out_of_a_state_directory(
    state_dir: Path, tmp_path: Path
) -> None:
    state_directory.save(state_dir, STATE)
    (state_dir / ENGINE.name).symlink_to(tmp_path)
    with pytest.raises(StateError, match=r"rabbitmq is a symbolic link"):
        state_directory.load(state_dir)
    (state_dir / state_directory.LOCK_FILE).symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(StateError, match="cannot lock"),
        state_directory.lock(state_dir, 0),
    ):
        pass
    assert not (tmp_path / "elsewhere").exists()
    (state_dir / state_directory.STATE_FILE).rename(tmp_path / "other")
    (state_dir / state_directory.STATE_FILE).symlink_to(tmp_path / "other")
    with pytest.raises(StateError, match=r"damaged \(it is a symbolic link\)"):
        state_directory.load(state_dir)


def test_another_format_is_named(state_dir: Path) -> None:
    (state_dir / state_directory.STATE_FILE).write_text('{"format": 99}')
    with pytest.raises(StateError, match=r"another release.*format 99"):
        state_directory.load(state_dir)


def test_a_file_that_cannot_be_read(state_dir: Path) -> None:
    (state_dir / state_directory.STATE_FILE).mkdir()
    with pytest.raises(
        StateError, match=r"state\.json is damaged \(it is not a file\)"
    ):
        state_directory.load(state_dir)


def test_a_file_that_the_disk_does_not_give(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(state_directory.json_files, "read", broken)
    with pytest.raises(StateError, match=r"cannot read .*Input/output error"):
        state_directory.load(state_dir)


def test_nothing_can_be_saved_where_no_directory_is(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"cannot write .*No such file"):
        state_directory.save(tmp_path / "nowhere", STATE)


def test_the_new_state_is_on_the_disk_before_it_replaces_the_old_one(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: sizes.append(os.fstat(file).st_size))
    state_directory.save(state_dir, STATE)
    assert sizes == [(state_dir / state_directory.STATE_FILE).stat().st_size]


def test_a_full_disk_leaves_the_old_state(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_directory.save(state_dir, STATE)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="No space left on device"):
        state_directory.save(state_dir, dataclasses.replace(STATE, mode="rabbit"))
    assert state_directory.load(state_dir) == STATE
    assert [item.name for item in state_dir.iterdir()] == [state_directory.STATE_FILE]


def test_a_directory_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StateError, match="contains other files"):
        state_directory.prepare(tmp_path)
    assert mode_of(tmp_path) == 0o700


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"cannot use .*Not a directory"):
        state_directory.prepare(tmp_path / "file" / "state")


def refused(path: Path) -> list[Callable[[], object]]:
    """What begins with a look at the state directory."""
    return [
        lambda: state_directory.prepare(path),
        lambda: state_directory.load(path),
        lambda: state_directory.lock(path, 0).__enter__(),
    ]


def test_a_directory_of_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    # whether there is a state in it or not
    with pytest.raises(StateError, match="belongs to another user"):
        state_directory.load(tmp_path)
    (tmp_path / state_directory.STATE_FILE).touch()
    for entry in refused(tmp_path):
        with pytest.raises(StateError, match="belongs to another user"):
            entry()
    assert not (tmp_path / state_directory.LOCK_FILE).exists()


@pytest.mark.parametrize("depth", [0, 1])
def test_a_directory_in_which_everybody_may_write(state_dir: Path, depth: int) -> None:
    state_directory.save(state_dir, STATE)
    odd = [state_dir, state_dir.parent][depth]
    odd.chmod(0o777)
    for entry in refused(state_dir):
        with pytest.raises(StateError, match=rf"{odd} .mode 777.*chmod"):
            entry()
    odd.chmod(0o1777)  # as /tmp
    assert state_directory.load(state_dir) == STATE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_path_that_another_user_decides_on(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    theirs.mkdir()
    state_directory.prepare(ours / "state")
    state_directory.save(ours / "state", STATE)
    link = tmp_path / "link"
    link.symlink_to(ours)
    assert state_directory.load(link / "state") == STATE
    for odd in (theirs, link):
        os.chown(odd, 12345, -1, follow_symlinks=False)
    for name in ("state", "new"):
        for entry in refused(link / name):
            with pytest.raises(StateError, match=rf"{link} is a symbolic link of"):
                entry()
        for entry in refused(theirs / name):
            with pytest.raises(StateError, match=rf"{theirs} belongs to another"):
                entry()
        with pytest.raises(StateError, match=rf"{link} is a symbolic link of"):
            Deployment(link / name, print).down()
    assert not list(theirs.iterdir())
    assert [item.name for item in ours.iterdir()] == ["state"]


def test_forget_leaves_what_is_not_ours(state_dir: Path) -> None:
    state_directory.save(state_dir, STATE)
    (state_dir / f".{state_directory.STATE_FILE}.new-half").touch()
    (state_dir / "notes").touch()
    state_directory.forget(state_dir)
    assert [item.name for item in state_dir.iterdir()] == ["notes"]
    (state_dir / "notes").unlink()
    state_directory.forget(state_dir)
    assert not state_dir.exists()


def test_the_second_waits_for_the_first(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[None] = []
    order: list[str] = []
    tries = 0
    try_lock = locks._lock

    def count(handle: int) -> bool:
        nonlocal tries
        locked = try_lock(handle)
        tries += 1
        return locked

    def second() -> None:
        with state_directory.lock(state_dir, 60, lambda: told.append(None)):
            order.append("second")

    with state_directory.lock(state_dir, 0):
        monkeypatch.setattr(locks, "_lock", count)
        waiter = threading.Thread(target=second)
        waiter.start()
        # once might be before it was told, twice before it has tried again
        await_true(lambda: tries >= 3 or bool(order))
        order.append("first")
    waiter.join(60)
    assert order == ["first", "second"]
    assert len(told) == 1


def await_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_whoever_waits_too_long_is_told(state_dir: Path) -> None:
    with (
        state_directory.lock(state_dir, 0),
        pytest.raises(StateError, match="another hybrid-messaging command"),
        state_directory.lock(state_dir, 0),
    ):
        pass


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_a_removed_lock_is_nobodys_lock(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, is_made_anew: bool
) -> None:
    """`down` removes the file that another command has just opened to lock it."""
    try_lock = locks._lock
    with contextlib.ExitStack() as first, contextlib.ExitStack() as third:
        first.enter_context(state_directory.lock(state_dir, 0))

        def meanwhile(handle: int) -> bool:
            monkeypatch.setattr(locks, "_lock", try_lock)
            state_directory.forget(state_dir)
            assert not state_dir.exists()
            first.close()
            if is_made_anew:
                third.enter_context(state_directory.lock(state_dir, 0))
            return try_lock(handle)

        monkeypatch.setattr(locks, "_lock", meanwhile)
        if is_made_anew:
            with (
                pytest.raises(StateError, match="another hybrid-messaging"),
                state_directory.lock(state_dir, 0),
            ):
                pass
        else:
            with state_directory.lock(state_dir, 60):
                assert (state_dir / state_directory.LOCK_FILE).exists()


def test_nobody_else_can_open_what_a_lock_makes(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        with state_directory.lock(tmp_path / "state", 0):
            assert mode_of(tmp_path / "state") == 0o700
            assert mode_of(tmp_path / "state" / state_directory.LOCK_FILE) == 0o600
    finally:
        os.umask(previous)


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EACCES, "another hybrid-messaging command"), (errno.ENOLCK, "cannot lock")],
)
def test_a_file_system_that_refuses_locks(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with (
        pytest.raises(StateError, match=said),
        state_directory.lock(state_dir, 0),
    ):
        pass


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StateError, match="cannot lock"),
        state_directory.lock(tmp_path / "file", 0),
    ):
        pass
