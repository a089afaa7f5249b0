# SPDX-License-Identifier: Apache-2.0
"""Which Sentinels are asked for the master, and for how long an answer is awaited."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.sentinel import MasterNotFoundError

from hybrid_messaging.drivers.zmq import redis_connections
from hybrid_messaging.drivers.zmq.redis_connections import ManagedConnection, Sentinels

SILENT = redis.TimeoutError("no answer")


class Client:
    """Stands for one of a Sentinel.

    :param answer: the address of the master, None if it is down, or an exception
    """

    def __init__(self, answer: str | Exception | None) -> None:
        self.answer = answer
        self.asked = 0

    def sentinel_masters(self) -> dict[str, Any]:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        state = {
            "ip": self.answer,
            "port": 6379,
            "is_master": True,
            "is_sdown": self.answer is None,
            "is_odown": False,
            "num-other-sentinels": 2,
        }
        return {"g": state}


def sentinels(hurried: list[Client], patient: list[Client]) -> Any:
    return Sentinels(hurried, patient)  # type: ignore[arg-type]


def test_the_sentinel_that_knew_the_master_is_asked_first_the_next_time() -> None:
    silent, down, good = Client(SILENT), Client(None), Client("a")
    slow = Client("b")
    asked = sentinels([silent, down, good], [slow])
    for _ in range(3):
        assert asked.discover_master("g") == ("a", 6379)
    assert [each.asked for each in (silent, down, good, slow)] == [1, 1, 3, 0]


def test_sentinels_that_are_all_slow_get_more_time() -> None:
    slow = Client("a")
    assert sentinels([Client(SILENT)] * 2, [slow]).discover_master("g") == ("a", 6379)


def test_nobody_waits_for_a_silent_sentinel_while_another_one_answers() -> None:
    patient = Client("a")
    asked = sentinels([Client(SILENT), Client(None)], [patient])
    with pytest.raises(MasterNotFoundError, match="'g' that is up"):
        asked.discover_master("g")
    assert patient.asked == 0


class Pool:
    """Stands for what knows the master."""

    def __init__(self, *masters: str | None) -> None:
        self._masters = list(masters)

    def get_master_address(self) -> tuple[str, int]:
        master = self._masters.pop(0) if len(self._masters) > 1 else self._masters[0]
        if master is None:
            raise MasterNotFoundError("all say that it is down")
        return master, 6379


def waiting(pool: Pool, patience: float) -> ManagedConnection:
    return ManagedConnection(
        connection_pool=pool, host="a", port=6379, socket_timeout=patience
    )


def test_an_answer_is_awaited_until_another_master_is_named() -> None:
    connection = waiting(Pool("a", None, "b"), 1000.0)
    with pytest.raises(redis.ConnectionError, match="another Redis is the master"):
        connection._await(lambda patience: False)


def test_an_answer_is_awaited_no_longer_than_it_may_take() -> None:
    waits: list[float] = []

    def never(patience: float) -> bool:
        waits.append(patience)
        return False

    connection = waiting(Pool("a"), 0.01)
    with pytest.raises(redis.TimeoutError, match="a:6379 does not answer"):
        connection._await(never)
    assert max(waits) <= 0.01 < redis_connections.IMPATIENCE
