# SPDX-License-Identifier: Apache-2.0
"""The one exception of service configs: what is wrong, where, and what to do."""

from __future__ import annotations

import os


class ServiceConfigError(Exception):
    """A service's configuration cannot be read, rewritten or restored.

    :param path: the file (or directory) that it is about
    :param reason: what is wrong and what to do about it, without secrets
    :param line: the line of the file, counted from 1, where there is one
    """

    def __init__(
        self, path: str | os.PathLike[str], reason: str, line: int | None = None
    ) -> None:
        self.path = os.fspath(path)
        self.reason = reason
        self.line = line
        where = self.path if line is None else f"{self.path}, line {line}"
        super().__init__(f"{where}: {reason}")
