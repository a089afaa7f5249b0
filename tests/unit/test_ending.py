# SPDX-License-Identifier: Apache-2.0
"""How a command ends that is told to by a signal."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from hybrid_messaging.cli import ending


@pytest.fixture(params=[signal.SIGTERM, signal.SIGHUP], ids=lambda it: it.name)
def number(request: pytest.FixtureRequest) -> Iterator[int]:
    """A signal, with what it does restored afterwards."""
    former = signal.getsignal(request.param)
    yield request.param
    signal.signal(request.param, former)


def test_a_signal_ends_it_as_an_exception(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    with pytest.raises(SystemExit) as caught, ending.by_signal():
        os.kill(os.getpid(), number)
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) is signal.SIG_DFL


def test_what_nohup_has_ignored_stays_ignored(number: int) -> None:
    signal.signal(number, signal.SIG_IGN)
    with ending.by_signal():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is signal.SIG_IGN
