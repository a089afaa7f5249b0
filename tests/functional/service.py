# SPDX-License-Identifier: Apache-2.0
"""What the servers of tests offer, in the test's process or in one of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from oslo_messaging import Target


class Trouble(Exception):
    """A remote exception that clients may allow."""


class Service:
    """An endpoint of many uses.

    :param name: what `name` answers
    :param tell: told ("begins" or "ends", method, argument) of everything done
    """

    target = Target(version="1.3")

    def __init__(
        self,
        name: str = "one",
        tell: Callable[[str, str, Any], None] = lambda *_: None,
    ) -> None:
        self._name = name
        self._tell = tell
        #: arguments of all casts and calls, in the order of their beginnings
        self.seen: list[Any] = []
        #: what `wait` waits for
        self.gate = threading.Event()

    def _begin(self, method: str, argument: Any) -> None:
        self.seen.append(argument)
        self._tell("begins", method, argument)

    def name(self, ctxt: dict[str, Any]) -> str:
        return self._name

    def context(self, ctxt: dict[str, Any]) -> dict[str, Any]:
        return ctxt

    def echo(self, ctxt: dict[str, Any], value: Any) -> Any:
        self._begin("echo", value)
        return value

    def size(self, ctxt: dict[str, Any], value: str) -> int:
        self._begin("size", len(value))
        return len(value)

    def sleep(self, ctxt: dict[str, Any], seconds: float, value: Any = None) -> Any:
        self._begin("sleep", value)
        time.sleep(seconds)
        self._tell("ends", "sleep", value)
        return value

    def wait(self, ctxt: dict[str, Any], value: Any = None) -> Any:
        """Answer once the test opens the gate."""
        self._begin("wait", value)
        self.gate.wait(60)
        self._tell("ends", "wait", value)
        return value

    def fail(self, ctxt: dict[str, Any], value: str) -> None:
        self._begin("fail", value)
        raise Trouble(value)

    def fail_unusually(self, ctxt: dict[str, Any]) -> None:
        raise Unpicklable(object(), ["no", "simple", "arguments"])

    def odd(self, ctxt: dict[str, Any]) -> Any:
        """Return what no JSON can say."""
        loop: list[Any] = []
        loop.append(loop)
        return loop


class Unpicklable(Exception):
    """An exception whose arguments cannot be sent."""

    def __init__(self, thing: object, rest: list[str]) -> None:
        super().__init__(thing, rest)
        self.thing = thing


class Spaced:
    """The same method in a namespace, and another version."""

    target = Target(namespace="space", version="2.1")

    def name(self, ctxt: dict[str, Any]) -> str:
        return "spaced"
