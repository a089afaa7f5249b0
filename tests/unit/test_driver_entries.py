# SPDX-License-Identifier: Apache-2.0
"""No entry of a driver is without its guards, whatever methods are added."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hybrid_messaging.drivers import errors, forks, reentry
from hybrid_messaging.drivers.amqp.driver import AmqpDriver
from hybrid_messaging.drivers.listeners import PollingListener, RpcListener
from hybrid_messaging.drivers.migrate.driver import MigrateDriver
from hybrid_messaging.drivers.zmq.driver import ZmqDriver

DRIVERS = [AmqpDriver, MigrateDriver, ZmqDriver]
LISTENERS = [RpcListener, PollingListener]
#: What may be called from anywhere, since it neither takes a lock nor waits.
HARMLESS = {"hurry", "presence", "require_features", "after_fork", "poll"}
#: What needs nothing of this process.
FORKLESS = {"require_features", "after_fork"}


def entries(kind: type) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The public methods of a class, each ready to be called.

    What gets past the guards fails: the object has no attributes.
    """
    bare = kind.__new__(kind)
    for name, _ in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_"):
            entry = getattr(bare, name)
            needed = [
                each
                for each in inspect.signature(entry).parameters.values()
                if each.default is inspect.Parameter.empty
            ]
            yield name, functools.partial(entry, *[None] * len(needed))


@pytest.mark.parametrize("kind", [*DRIVERS, *LISTENERS])
def test_who_is_at_work_in_a_driver_is_refused_everywhere(kind: type) -> None:
    found = {name: entry for name, entry in entries(kind) if name not in HARMLESS}
    assert {"cleanup"} < found.keys()
    for name, entry in found.items():
        with pytest.raises(errors.Reentered):
            pytest.fail(f"{name} returned {reentry.works(entry)()}")


@pytest.mark.parametrize("kind", DRIVERS)
def test_every_entry_notices_a_fork_first(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoticedError(Exception):
        pass

    def notice() -> None:
        raise NoticedError

    monkeypatch.setattr(forks, "notice", notice)
    found = {name: entry for name, entry in entries(kind) if name not in FORKLESS}
    assert {"send", "send_notification", "listen", "cleanup"} < found.keys()
    for name, entry in found.items():
        with pytest.raises(NoticedError):
            pytest.fail(f"{name} returned {entry()}")
