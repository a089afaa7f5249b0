# SPDX-License-Identifier: Apache-2.0
"""What a service's own Python can import: oslo.messaging's drivers by their names."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

# a busy machine takes more than a minute to import all drivers
_TIMEOUT = 300.0
_MARK = "hybrid-messaging-drivers:"

# Runs in the service's environment, which need not have this package.
_SCRIPT = f"""
import importlib.metadata as metadata, json
names = {{}}
for group in ("oslo.messaging.drivers", "oslo.messaging.notify.drivers"):
    names[group] = {{}}
    for entry in metadata.entry_points(group=group):
        try:
            entry.load()
            names[group].setdefault(entry.name, "")
        except Exception as error:
            names[group][entry.name] = f"{{type(error).__name__}}: {{error}}"
print({_MARK!r} + json.dumps(names))
"""


class InterpreterError(ValueError):
    """The interpreter that was named cannot be asked."""


@dataclass(frozen=True)
class Drivers:
    """Drivers by name; the value says why one cannot be imported, '' if it can."""

    transport: dict[str, str]
    notification: dict[str, str]


def drivers_of(python: Path) -> Drivers:
    """Ask an interpreter which drivers a service that runs in it can import.

    :param python: the interpreter, such as /opt/stack/data/venv/bin/python
    :raises InterpreterError: it does not run, or does not answer in time
    """
    try:
        result = subprocess.run(
            [python, "-W", "ignore", "-c", _SCRIPT],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            cwd="/",
        )
    except OSError as error:
        raise InterpreterError(f"cannot run {python}: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise InterpreterError(
            f"{python} has not said within {_TIMEOUT:g} s which drivers it can import"
        ) from error
    _, mark, answer = result.stdout.rpartition(_MARK)
    if not mark:
        reason = (result.stderr.strip() or "it printed nothing").splitlines()[-1]
        raise InterpreterError(
            f"{python} is no Python 3.10 or later that can be asked: {reason}"
        )
    names = json.loads(answer)
    return Drivers(
        names["oslo.messaging.drivers"], names["oslo.messaging.notify.drivers"]
    )
