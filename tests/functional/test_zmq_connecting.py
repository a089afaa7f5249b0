# SPDX-License-Identifier: Apache-2.0
"""How `check` and `smoke` find that a matchmaker cannot be used, and why."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.functional.certificates import Authority
from tests.functional.matchmakers import Redis, Sentinel
from tests.functional.routers import HOST, free_port

from hybrid_messaging import urls
from hybrid_messaging.servers import options
from hybrid_messaging.servers.transport import ConnectError

GROUP = "oslo-messaging-zeromq"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Redis with a user for services, and one who may only read."""
    rights = "~hybrid-messaging:* +@connection +time"
    made = Redis(
        tmp_path_factory.mktemp("redis"),
        "user default off",
        f"user messaging on >secret {rights} +@sortedset +@string +@keyspace",
        f"user reader on >secret {rights} +@read",
    )
    made.start()
    yield made
    made.stop()


def connect(text: str, timeout: float = 5.0, **redis_options: object) -> str:
    """Connect as `check` does."""
    conf = options.defaults()
    for name, value in redis_options.items():
        conf.set_override(name, value, "matchmaker_redis")
    transport = options.transport(conf, urls.parse(text))
    try:
        for host in transport.hosts:
            transport.connect(host, timeout)
    except ConnectError as error:
        return f"{error.code}: {error}"
    return "connected"


def test_whoever_may_write_is_let_in(redis: Redis) -> None:
    assert connect(redis.url(username="messaging", password="secret")) == "connected"


@pytest.mark.parametrize(
    ("username", "password", "found"),
    [
        ("messaging", "sesame", "wrong-credentials"),
        ("nobody", "secret", "wrong-credentials"),
        (None, None, "wrong-credentials"),
        ("reader", "secret", "wrong-credentials"),
    ],
)
def test_others_are_not(
    redis: Redis, username: str | None, password: str | None, found: str
) -> None:
    answer = connect(redis.url(username=username, password=password))
    assert answer.startswith(f"{found}: {HOST}:{redis.port}: ")
    assert "sesame" not in answer


def test_nobody_is_there() -> None:
    assert connect(f"zmq://{HOST}:1/").startswith("unreachable: ")


def test_somebody_else_is_there() -> None:
    """Who says nothing, and who speaks another language."""
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        answer = connect(f"zmq://{HOST}:{port}/", timeout=0.5)
    assert answer.startswith(f"unreachable: {HOST}:{port} cannot be reached: ")


def test_tls_is_on_one_side_only(redis: Redis, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    answer = connect(
        redis.url(username="messaging", password="secret"),
        timeout=1.0,
        ssl_ca_file=str(authority.certificate),
    )
    assert answer.startswith("tls-failed: ")


def test_sentinels(redis: Redis, tmp_path: Path) -> None:
    sentinel = Sentinel(
        tmp_path,
        f"sentinel monitor {GROUP} {HOST} {redis.port} 1",
        f"sentinel auth-user {GROUP} messaging",
        f"sentinel auth-pass {GROUP} secret",
    )
    sentinel.start()
    try:
        url = sentinel.url(username="messaging", password="secret")
        assert connect(url) == "connected"
        answer = connect(url, sentinel_group_name="another")
        assert answer.startswith(
            f"unreachable: {HOST}:{sentinel.port}: no Sentinel knows"
        )
        assert "'another'" in answer
    finally:
        sentinel.stop()


def test_a_file_instead(tmp_path: Path) -> None:
    path = tmp_path / "servers"
    url = f"zmq+static:///?zmq_static_file={path}"
    assert connect(url).startswith("unreachable: ")
    path.write_text(f"openstack topic one {HOST}:{free_port()}\n")
    assert connect(url) == "connected"
    assert connect("zmq+pigeon://h:1/").startswith("unreachable: ")
    assert "zmq_static_file" in connect("zmq+static:///")
