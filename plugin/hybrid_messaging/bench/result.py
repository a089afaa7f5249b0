# SPDX-License-Identifier: Apache-2.0
"""The result of a run: a JSON document that holds everything that was measured."""

from __future__ import annotations

import base64
import datetime
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from hybrid_messaging import json_files, whole_file
from hybrid_messaging.bench import BenchError, machine
from hybrid_messaging.bench.latency import Latencies
from hybrid_messaging.bench.ledger import Account
from hybrid_messaging.bench.parameters import KINDS, Parameters
from hybrid_messaging.bench.plan import TROUBLE
from hybrid_messaging.bench.scenarios import Scenario
from hybrid_messaging.json_files import (
    Damage,
    either,
    flag,
    items,
    mapping,
    maybe,
    number,
    one_of,
    record,
    row,
    scalar,
    whole,
    words,
)

FORMAT = 1

Result = dict[str, Any]


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
        found = json_files.read(path, _LARGEST)
        if not isinstance(found, dict) or "measurements" not in found:
            raise BenchError(f"{path} is not a result of `bench run`")
        if found.get("format") != FORMAT:
            json_files.inside("format", whole(), found.get("format"))
            raise BenchError(
                f"{path} was written by another release (format {found['format']}, and"
                f" this one reads {FORMAT}): read it with that release"
            )
        # what the first releases did not write yet
        found.setdefault("problems", [])
        _RESULT(found)
        _check_names(found)
    except OSError as error:
        raise BenchError(f"cannot read a result from {path}: {error}") from error
    except Damage as damage:
        raise BenchError(f"{path} is damaged: {damage}") from damage
    return found


def _check_names(found: Result) -> None:
    """What is measured belongs to a scenario, and troubles have happened."""
    names = [scenario["name"] for scenario in found["scenarios"]]
    if not names or len(set(names)) < len(names):
        raise Damage("are missing, or a name occurs twice", "scenarios")
    for index, item in enumerate(found["measurements"]):
        place = f"measurements[{index}]"
        if item["scenario"] not in names:
            raise Damage("is not a scenario of this result", f"{place}.scenario")
        if item["part"].startswith(TROUBLE) and item["event"] is None:
            raise Damage("is missing", f"{place}.event")


def _moment(value: Any) -> None:
    """A date with time."""
    words(value)
    try:
        datetime.datetime.fromisoformat(value).strftime("%Y")
    except ValueError:
        raise Damage("is not a date with a time") from None


def _histogram(value: Any) -> None:
    """What `Latencies.encode` has written: a header, then what zlib makes smaller."""
    words(value)
    try:
        packed = base64.b64decode(value, validate=True)[_HISTOGRAM_HEADER:]
        if len(zlib.decompressobj().decompress(packed, _HISTOGRAM + 1)) > _HISTOGRAM:
            raise Damage("is too large")
        Latencies.merged([value]).figures()
    except Damage:
        raise
    # a library's: it raises what its parts happen to raise
    except Exception:
        raise Damage("is not a histogram") from None


def _rate(value: Any) -> None:
    """Messages per second."""
    _AMOUNT(value)
    if 0 < value < _SLOWEST:
        raise Damage("is out of range")


def _anything(value: Any) -> None:
    """What nobody looks at."""


# a run of days has a tenth of that
_LARGEST = 1 << 27
_HISTOGRAM_HEADER = 8
# of three digits, from a microsecond to an hour, it has a quarter of that
_HISTOGRAM = 1 << 20
# once in ten days
_SLOWEST = 1e-6

_AMOUNT = number(0, 1e15)
#: In seconds: less than two weeks.
_TIME = number(-1e6, 1e6)
_COUNT = whole(0, 10**15)
_SIMPLE = either(scalar, items(scalar), mapping(scalar))
_SIDE = record(
    {
        "rate": _rate,
        "latency": _histogram,
        # second, how many, and the longest of these in seconds
        "seconds": items(row(whole(-(10**6), 10**6), _COUNT, number(0, 1e9))),
    },
    others=_anything,
)
_MEASUREMENT = record(
    {
        "scenario": words,
        "part": words,
        "round": whole(0, 10**6),
        "load": maybe(_AMOUNT),
        "warm_up": number(0, 1e6),
        "seconds": number(1e-3, 1e6),
        "kinds": mapping(
            record(
                {
                    "account": record(
                        {
                            item.name: whole(-(10**15), 10**15)
                            for item in fields(Account)
                        }
                    ),
                    "sending": _SIDE,
                    "arriving": _SIDE,
                    "failing": _SIDE,
                },
                others=_anything,
            ),
            key=one_of(KINDS, "kind of message"),
        ),
        "event": maybe(record({"what": words, "begin": _TIME, "end": _TIME})),
        "engines": mapping(
            record(
                {"roles": items(words), "rss": _AMOUNT},
                optional={"cpu_seconds": _AMOUNT},
                others=_anything,
            )
        ),
        "workers": mapping(
            record(
                {"roles": items(words)},
                optional={"cpu_seconds": _AMOUNT, "waits": _AMOUNT},
                others=_anything,
            )
        ),
    },
    others=_anything,
)
_PROBLEM = record(
    {
        "scenario": words,
        "part": words,
        "round": whole(0, 10**6),
        "load": maybe(_AMOUNT),
        "text": words,
    },
    others=_anything,
)
_CPUS = whole(1, 10**6)
_RESULT = record(
    {
        "began": _moment,
        "complete": flag,
        "machine": record(
            {
                "host": words,
                "system": words,
                "distribution": words,
                "processor": words,
                "cpus": maybe(_CPUS),
                "usable_cpus": _CPUS,
                "memory": _AMOUNT,
                "load_average": row(_AMOUNT, _AMOUNT, _AMOUNT),
            },
            others=_anything,
        ),
        "versions": mapping(scalar),
        "hosts": mapping(
            record(
                {"processor": words, "usable_cpus": _CPUS, "distribution": words},
                others=_anything,
            )
        ),
        "parameters": mapping(_SIMPLE),
        "scenarios": items(record({"name": words, "title": words}, others=_anything)),
        "engines": mapping(mapping(scalar)),
        "measurements": items(_MEASUREMENT),
        "problems": items(_PROBLEM),
    },
    others=_anything,
)


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
    try:
        whole_file.write(path, text, mode=None)
    except OSError as error:
        raise BenchError(f"cannot write {path}: {error.strerror}") from error
