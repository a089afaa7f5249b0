# SPDX-License-Identifier: Apache-2.0
"""A child that is forked while its parent connects keeps none of the connections."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from oslo_messaging import Target, get_rpc_transport
from tests.functional import c_fork
from tests.functional.certificates import Authority
from tests.functional.rpc import configuration
from tests.functional.waiting import until
from tests.unit.silence import silent, vanished
from tests.unit.test_forks import in_child

from hybrid_messaging.drivers import forks

HOST = "127.0.0.1"

Host = Callable[..., contextlib.AbstractContextManager[int]]


def sockets() -> set[str]:
    """The sockets that this process has open."""
    found = set()
    for entry in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            found.add(str(entry.readlink()))
    return {each for each in found if each.startswith("socket:")}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Authority(tmp_path_factory.mktemp("authority")).certificate


@pytest.mark.parametrize("host", [vanished, silent])
@pytest.mark.parametrize(
    "url",
    [
        "amqp://{host}/",
        "amqp://{host}/?ssl_ca_file={authority}",
        "zmq://{host}/",
        "zmq://{host}/?zmq_redis_ca_file={authority}",
        "zmq+sentinel://{host}/",
    ],
    ids=["amqp", "amqp with TLS", "Redis", "Redis with TLS", "Sentinel"],
)
def test_a_child_keeps_no_connection_that_its_parent_makes(
    authority: Path,
    url: str,
    host: Callable[..., contextlib.AbstractContextManager[int]],
) -> None:
    with host() as port, contextlib.ExitStack() as stack:
        before = sockets()
        whole = url.format(host=f"{HOST}:{port}", authority=authority)
        transport = get_rpc_transport(configuration(), whole)
        stack.callback(transport.cleanup)
        transport._driver.presence(Target(topic="t", exchange="e"))
        until(lambda: sockets() - before, "a connection is made", 60)

        def look() -> int:
            forks.notice()
            return len(sockets() - before)

        # the first fork may come between a socket and the note that it is there
        for fork in (os.fork, c_fork.fork):
            assert 0 in (in_child(fork, look) for _ in range(3))
        assert sockets() - before, "the parent has kept its own"


def test_a_child_is_not_surprised_by_what_its_parent_has_closed() -> None:
    read, write = os.pipe()
    ended = forks.close_in_child(os.fdopen(read, "rb"))
    ended.close()
    kept = forks.close_in_child(os.fdopen(write, "wb"))

    def look() -> int:
        forks.notice()
        return not (ended.closed and kept.closed)

    assert in_child(os.fork, look) == 0
    assert not kept.closed
    kept.close()
