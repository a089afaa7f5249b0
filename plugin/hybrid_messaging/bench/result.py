# SPDX-License-Identifier: Apache-2.0
"""The result of a run: a JSON document that holds everything that was measured."""

from __future__ import annotations

import datetime
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hybrid_messaging.bench import BenchError, machine
from hybrid_messaging.bench.parameters import Parameters
from hybrid_messaging.bench.scenarios import Scenario

FORMAT = 1

Result = dict[str, Any]

#: What every result has.
_KEYS = {
    "began": str,
    "complete": bool,
    "machine": dict,
    "versions": dict,
    "hosts": dict,
    "parameters": dict,
    "scenarios": list,
    "engines": dict,
    "measurements": list,
    "problems": list,
}
#: And every measurement in it.
_MEASURED = frozenset(
    {
        *("scenario", "part", "round", "load", "warm_up", "seconds", "kinds"),
        *("event", "engines", "workers"),
    }
)


def new(
    scenarios: Sequence[Scenario],
    parameters: Parameters,
    hosts: Mapping[str, Any],
) -> Result:
    """A result without measurements.

    :param hosts: where the workers are, if not here
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "format": FORMAT,
        "began": now.isoformat(timespec="seconds"),
        "complete": False,
        "machine": machine.machine(),
        "versions": machine.versions(),
        "hosts": dict(hosts),
        "parameters": asdict(parameters),
        "scenarios": [asdict(item) for item in scenarios],
        "engines": {},
        "measurements": [],
        "problems": [],
    }


def load(path: Path) -> Result:
    """Read a result.

    :raises BenchError: if it cannot be read, or is none
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"cannot read a result from {path}: {error}") from error
    if not isinstance(found, dict) or "measurements" not in found:
        raise BenchError(f"{path} is no result of `bench run`")
    if found.get("format") != FORMAT:
        raise BenchError(
            f"{path} was written by another release (format {found.get('format')}, "
            f"this one reads {FORMAT}): use that release to read it"
        )
    # what the first releases did not write yet
    found.setdefault("problems", [])
    if problem := _damage(found):
        raise BenchError(f"{path} is damaged: {problem}")
    return found


def _damage(found: Result) -> str:
    """What is wrong with a result that somebody has changed; '' if nothing is."""
    for key, kind in _KEYS.items():
        if not isinstance(found.get(key), kind):
            return f"it has no {key}"
    for item in found["measurements"]:
        if lacking := _MEASURED - item.keys():
            return f"a measurement has no {min(lacking)}"
    return ""


def combined(results: Mapping[str, Result]) -> Result:
    """Join several results to compare them: each has scenarios of its own.

    :param results: by a name that tells them apart; the first gives the date, the
        machine and the parameters
    """
    first = next(iter(results.values()))
    if len(results) == 1:
        return first

    def renamed(items: Sequence[Mapping[str, Any]], key: str, name: str) -> list[Any]:
        return [{**item, key: f"{name}: {item[key]}"} for item in items]

    return {
        **first,
        "complete": all(item["complete"] for item in results.values()),
        "scenarios": [
            scenario
            for name, item in results.items()
            for scenario in renamed(item["scenarios"], "name", name)
        ],
        "engines": {
            f"{name}: {mode}": found
            for name, item in results.items()
            for mode, found in item["engines"].items()
        },
        **{
            key: [
                one
                for name, item in results.items()
                for one in renamed(item[key], "scenario", name)
            ]
            for key in ("measurements", "problems")
        },
    }


def save(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result, whole or not at all.

    :raises BenchError: if it cannot be written; what was there before stays
    """
    write(path, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all.

    :raises BenchError: if it cannot be written; what was there before stays
    """
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise BenchError(f"cannot write {path}: {error.strerror}") from error
