# SPDX-License-Identifier: Apache-2.0
"""Redis before it starts: what it finds, configures and refuses."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid_messaging import state, urls
from hybrid_messaging.drivers.zmq import matchmaker
from hybrid_messaging.engines import (
    HOST,
    Certificates,
    EngineError,
    Launch,
    Options,
    kinds,
)
from hybrid_messaging.engines.kinds import redis

REDIS = kinds.get("redis")

MakeProgram = Callable[[str], Path]
VERSION = "Redis server v={} sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1"


@pytest.fixture
def make_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeProgram:
    """Puts a program on an otherwise empty PATH that says which version it is."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))

    def make(told: str, name: str = redis.PROGRAM) -> Path:
        program = directory / name
        program.write_text(f"#!/bin/sh\necho '{told}'\n")
        program.chmod(0o755)
        return program

    return make


def prepare(
    directory: Path, options: Options | None = None, before: Launch | None = None
) -> Launch:
    previous = before and state.Engine(
        name="redis",
        kind="redis",
        roles=("rpc",),
        host=HOST,
        port=before.port,
        url=before.url,
        pid=state.NOT_STARTED,
        started=0,
        log="",
        details=before.details,
    )
    return REDIS.prepare(
        "redis", directory, lambda port: port or 2000, previous, options or Options()
    )


@pytest.mark.parametrize(
    ("manager", "package"), [("apt-get", "redis-server"), ("dnf", "redis, or valkey")]
)
def test_redis_is_missing(
    make_program: MakeProgram, tmp_path: Path, manager: str, package: str
) -> None:
    make_program("", manager)
    (lacking,) = REDIS.missing(Options())
    assert lacking.install == f"sudo {manager} install {package}"
    with pytest.raises(EngineError, match=f"not installed here: {lacking.install}"):
        prepare(tmp_path)
    program = make_program(VERSION.format("7.0.15"))
    assert REDIS.missing(Options()) == []
    assert REDIS.describe(Options()) == str(program)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (VERSION.format("5.0.14"), "is Redis 5.0.14, which has no access control"),
        ("something else", "is not Redis: 'something else'"),
    ],
)
def test_what_cannot_be_used_is_refused(
    make_program: MakeProgram, tmp_path: Path, told: str, reason: str
) -> None:
    make_program(told)
    with pytest.raises(EngineError, match=reason):
        prepare(tmp_path)
    assert not (tmp_path / "redis.conf").exists()


def test_valkey_takes_the_place_of_redis(
    make_program: MakeProgram, tmp_path: Path
) -> None:
    told = VERSION.format("8.0.1").replace("Redis", "Valkey")
    program = make_program(told, redis.FORK)
    assert REDIS.missing(Options()) == []
    assert prepare(tmp_path).command[0] == REDIS.describe(Options()) == str(program)


def test_a_program_that_fails_is_refused(
    make_program: MakeProgram, tmp_path: Path
) -> None:
    make_program("").write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(EngineError, match=r"cannot run .* exit status 3"):
        prepare(tmp_path)


def test_nobody_reads_the_password(make_program: MakeProgram, tmp_path: Path) -> None:
    program = make_program(VERSION.format("7.0.15"))
    launch = prepare(tmp_path)
    config = tmp_path / "redis.conf"
    assert launch.command == (str(program), str(config))
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    password = launch.details.password
    text = config.read_text()
    assert password not in text
    assert f"#{hashlib.sha256(password.encode()).hexdigest()} " in text
    assert "user default off" in text
    assert f"bind {HOST}\nport 2000\n" in text
    assert prepare(tmp_path, before=launch) == launch


def test_services_listen_where_their_redis_does(
    make_program: MakeProgram, tmp_path: Path
) -> None:
    make_program(VERSION.format("7.0.15"))
    url = urls.parse(prepare(tmp_path).url)
    assert (url.scheme, url.hosts[0].host, url.hosts[0].port) == ("zmq", HOST, 2000)
    assert url.query == {"rpc_zmq_bind_address": HOST}
    options = Options(host="192.0.2.1", port=6379, username="stack", password="h/sh")
    launch = prepare(tmp_path, options)
    assert launch.url == "zmq://stack:h%2Fsh@192.0.2.1:6379/"
    assert "bind 192.0.2.1\nport 6379\n" in (tmp_path / "redis.conf").read_text()


@pytest.mark.parametrize(
    ("version", "known"), [("6.0.16", False), ("6.2.0", True), ("8.1.1", True)]
)
def test_an_option_is_there_from_a_version_on(
    make_program: MakeProgram, tmp_path: Path, version: str, known: bool
) -> None:
    make_program(VERSION.format(version))
    prepare(tmp_path)
    config = (tmp_path / "redis.conf").read_text()
    assert ("set-proc-title no\n" in config) is known


def test_topics_are_counted_where_the_driver_writes_them() -> None:
    assert redis.SERVERS == matchmaker.SERVERS


def test_services_are_told_of_tls(make_program: MakeProgram, tmp_path: Path) -> None:
    """Which has them encrypt among themselves, too, on the loopback interface."""
    make_program(VERSION.format("7.0.15"))
    options = Options(certificates=Certificates("/tls/ca.pem", "/tls/host.pem"))
    query = urls.parse(prepare(tmp_path, options).url).query
    assert query == {
        "rpc_zmq_bind_address": HOST,
        "zmq_redis_ca_file": "/tls/ca.pem",
    }
