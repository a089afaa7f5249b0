# SPDX-License-Identifier: Apache-2.0
"""Commands of the command line, run within the test's own process."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.functional.deployments import Deployment

from hybrid_messaging import resources
from hybrid_messaging.cli import app

SAMPLE = resources.FILES / "samples" / "cinder.conf"


class Result(NamedTuple):
    """What a command left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What it printed with `-f json`."""
        assert self.out, self.err
        return json.loads(self.out)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> Result:
    """Run a command as `main` would."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    capsys.readouterr()
    try:
        code = app.main([str(word) for word in words])
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    return Result(code, *capsys.readouterr())


def configured(
    capsys: pytest.CaptureFixture[str], place: Deployment, path: Path
) -> dict[str, Any]:
    """What `check` says of the sample service after `configure`.

    :param path: takes the sample
    """
    shutil.copy(SAMPLE, path)
    result = run(capsys, "configure", "--state-dir", place.dir, path)
    assert result.code == 0, result.err
    (row,) = run(capsys, "check", path, "-f", "json").rows
    return row
