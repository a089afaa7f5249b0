# SPDX-License-Identifier: Apache-2.0
"""What a check can end with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

Found = Mapping[str, Sequence[str]]
"""Names that a check has found on the servers, by what they are."""


class Status(str, Enum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    #: it could not be made in this set-up
    SKIPPED = "skipped"
    #: something that the transport does not promise has been measured
    INFO = "info"


@dataclass(frozen=True)
class Success:
    """What a check has found to be right.

    :param detail: one sentence
    :param promised: False where the transport does not promise what was checked
    """

    detail: str
    found: Found = field(default_factory=dict)
    promised: bool = True


class Failure(Exception):
    """Something is wrong.

    :param cause: what happened, in one sentence
    :param look_at: what the user should look at; '' for what the check's own
        entry in the table says
    """

    def __init__(self, cause: str, look_at: str = "", found: Found | None = None):
        super().__init__(cause)
        self.look_at = look_at
        self.found: Found = found or {}


class Skip(Exception):
    """A check cannot be made in this set-up, for the reason in the text."""


@dataclass(frozen=True)
class Result:
    """How one check has ended; no text contains a password.

    :param seconds: that it took; None if it was not made
    """

    check: str
    status: Status
    seconds: float | None
    detail: str
    look_at: str = ""
    found: Found = field(default_factory=dict)
