# SPDX-License-Identifier: Apache-2.0
"""CURVE keys in a directory: made once, never overwritten, read with care."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import zmq
import zmq.auth
from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging.drivers import logs
from hybrid_messaging.drivers.zmq import key_directory
from hybrid_messaging.drivers.zmq.key_directory import KeyDirectory


def contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_made_keys_are_those_that_are_read(tmp_path: Path) -> None:
    made = key_directory.make(tmp_path / "deep" / "keys", "host.example.org")
    read = KeyDirectory(tmp_path / "deep" / "keys")
    assert made.new
    assert made.known == ["host.example.org"]
    assert read.own.public == made.public
    assert read.knows(made.public)
    assert zmq.curve_public(read.own.secret) == read.own.public


def test_secret_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    made = key_directory.make(tmp_path / "keys", "host")
    paths = (made.secret_path, made.public_path)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in paths]
    assert modes == [0o600, 0o644]
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert "secret" not in made.public_path.read_text()


def test_pyzmq_reads_the_same(tmp_path: Path) -> None:
    path = key_directory.make(tmp_path, "host").secret_path
    own = KeyDirectory(tmp_path).own
    assert zmq.auth.load_certificate(path) == (own.public, own.secret)
    assert zmq.auth.load_certificates(tmp_path) == {own.public: True}


def test_keys_that_are_there_stay(tmp_path: Path) -> None:
    key_directory.make(tmp_path, "host")
    before = contents(tmp_path)
    again = key_directory.make(tmp_path, "other")
    assert not again.new
    assert contents(tmp_path) == before


def test_public_keys_that_are_missing_are_written_again(tmp_path: Path) -> None:
    made = key_directory.make(tmp_path, "host")
    before = contents(tmp_path)
    made.public_path.unlink()
    assert not key_directory.make(tmp_path, "host").new
    assert contents(tmp_path) == before


def test_many_that_make_keys_at_once_get_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: key_directory.make(tmp_path, "host"), range(16)))
    assert len({each.public for each in made}) == 1
    assert sorted(contents(tmp_path)) == ["host.key", "host.key_secret"]


def test_both_keys_that_somebody_has_just_made_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look for a secret key and that for a public one."""
    look, looks = key_directory._has_secret, []

    def look_too_early(directory: Path) -> bool:
        looks.append(look(directory))
        if len(looks) == 1:
            monkeypatch.setattr(key_directory, "_has_secret", look)
            key_directory.make(directory, "host")
        return looks[-1]

    monkeypatch.setattr(key_directory, "_has_secret", look_too_early)
    made = key_directory.make(tmp_path, "host")
    assert made.known == ["host"]
    assert looks == [False]


def test_public_keys_of_others_are_not_overwritten(tmp_path: Path) -> None:
    key_directory.make(tmp_path / "theirs", "host")
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs" / "host.key").rename(tmp_path / "ours" / "host.key")
    before = contents(tmp_path / "ours")
    with pytest.raises(ConfigurationError, match="to another host"):
        key_directory.make(tmp_path / "ours", "host")
    assert contents(tmp_path / "ours") == before


@pytest.mark.parametrize("name", ["", "../host", "a/b", ".hidden", "a b"])
def test_names_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="letters"):
        key_directory.make(tmp_path / "keys", name)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The monotonic time of `key_directory`, to be set."""
    now = [1000.0]
    fake = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(key_directory, "time", fake)
    yield now


def test_keys_that_come_and_go_are_noticed(tmp_path: Path, clock: list[float]) -> None:
    key_directory.make(tmp_path / "here", "here")
    read = KeyDirectory(tmp_path / "here")
    there = key_directory.make(tmp_path / "there", "there")
    assert not read.knows(there.public)
    copy = tmp_path / "here" / "there.key"
    copy.write_bytes(there.public_path.read_bytes())
    clock[0] += key_directory.FRESH
    assert read.knows(there.public)
    copy.unlink()
    clock[0] += key_directory.FRESH
    assert not read.knows(there.public)


def test_directories_are_looked_at_once_a_second(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many connect: looking at a thousand files takes its time."""
    public = key_directory.make(tmp_path, "host").public
    read = KeyDirectory(tmp_path)
    looks = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looks.append(path) or scandir(path))
    for _ in range(1000):
        assert read.knows(public)
        clock[0] += key_directory.FRESH / 100
    assert 9 <= len(looks) <= 11


def test_directories_that_have_gone_are_mentioned_once(
    tmp_path: Path, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    public = key_directory.make(tmp_path / "keys", "host").public
    read = KeyDirectory(tmp_path / "keys")
    (tmp_path / "keys").rename(tmp_path / "elsewhere")
    for _ in range(10):
        clock[0] += key_directory.FRESH
        assert read.knows(public)
    assert logs.flush(60)
    assert caplog.text.count("using the keys") == 1


def test_files_that_are_no_keys_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    public = key_directory.make(tmp_path, "host").public
    (tmp_path / "empty.key").touch()
    (tmp_path / "half.key").write_text('curve\n    public-key = "half')
    read = KeyDirectory(tmp_path)
    assert read.knows(public)
    assert logs.flush(60)
    assert "/empty.key: " in caplog.text
    assert "/half.key: " in caplog.text


def damage_nothing_there(directory: Path) -> None:
    (directory / "host.key_secret").unlink()


def damage_half(directory: Path) -> None:
    path = directory / "host.key_secret"
    path.write_text(path.read_text()[:150])


def damage_other(directory: Path) -> None:
    path = directory / "host.key_secret"
    public, _ = zmq.curve_keypair()
    own = KeyDirectory(directory).own.public
    path.write_bytes(path.read_bytes().replace(own, public))


def damage_open(directory: Path) -> None:
    (directory / "host.key_secret").chmod(0o604)


def damage_two(directory: Path) -> None:
    text = (directory / "host.key_secret").read_text()
    (directory / "more.key_secret").write_text(text)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_nothing_there, "hybrid-messaging zmq-keys"),
        (damage_half, "host.key_secret cannot be used"),
        (damage_other, "do not belong together"),
        (damage_open, "chmod 600"),
        (damage_two, "several secret keys: host.key_secret, more.key_secret"),
    ],
)
def test_keys_that_cannot_be_used_are_told(
    tmp_path: Path, damage: object, reason: str
) -> None:
    key_directory.make(tmp_path, "host")
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(ConfigurationError, match=reason):
        KeyDirectory(tmp_path)


def test_directories_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="zmq-keys"):
        KeyDirectory(tmp_path / "nowhere")
