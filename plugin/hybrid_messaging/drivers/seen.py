# SPDX-License-Identifier: Apache-2.0
"""The ids of messages that came in lately, to recognise a second copy."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable


class Seen:
    """A bounded memory of ids; thread-safe.

    It keeps a hash of each id, since a peer may choose ids of any length. That two of
    `n` ids have the same hash has a probability of n²/2⁶².

    :param capacity: ids to remember; the oldest is forgotten first
    :param seconds: how long to remember an id, from its first appearance
    """

    def __init__(self, capacity: int, seconds: float) -> None:
        self._capacity = capacity
        self._seconds = seconds
        self._lock = threading.Lock()
        #: when each id first appeared, the oldest first
        self._since: OrderedDict[int, float] = OrderedDict()

    def is_new(self, id: Hashable) -> bool:
        """Remember an id; return whether it was unknown or forgotten."""
        key = hash((type(id), id))  # "a" and b"a" have the same hash
        with self._lock:
            now = time.monotonic()
            self._forget(now - self._seconds)
            if key in self._since:
                return False
            if len(self._since) >= self._capacity:
                self._since.popitem(last=False)
            self._since[key] = now
            return True

    def _forget(self, until: float) -> None:
        """Forget what appeared until some moment."""
        since = self._since
        while since and next(iter(since.values())) <= until:
            since.popitem(last=False)
