# SPDX-License-Identifier: Apache-2.0
"""What `check` finds wrong, and how it is put right."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    """How bad a problem is."""

    #: messages get lost, or the service does not work
    ERROR = "error"
    #: it works, but not as hybrid messaging is meant to
    WARNING = "warning"
    #: nothing is wrong now; something to know, or to look at elsewhere
    NOTE = "note"


@dataclass(frozen=True)
class Problem:
    """One finding.

    :param code: stable name for scripts
    :param message: what is wrong, without passwords
    :param cure: what to do about it
    :param where: file and line that decide it, where there is one
    """

    severity: Severity
    code: str
    message: str
    cure: str
    where: str = ""

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        return f"{self.severity.value}: {self.message}{where}\n  cure: {self.cure}"
