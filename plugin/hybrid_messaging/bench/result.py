# SPDX-License-Identifier: Apache-2.0
"""The result of a run: a JSON document that holds everything that was measured."""

from __future__ import annotations

import base64
import datetime
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from hybrid_messaging import json_files, whole_file
from hybrid_messaging.bench import BenchError, machine
from hybrid_messaging.bench.latency import Latencies
from hybrid_messaging.bench.ledger import Account
from hybrid_messaging.bench.machine import Host, Machine
from hybrid_messaging.bench.measurement import (
    EngineUse,
    Event,
    Kind,
    Measurement,
    Moment,
    Problem,
    Second,
    Side,
    WorkerUse,
)
from hybrid_messaging.bench.parameters import KINDS, Parameters
from hybrid_messaging.bench.plan import TROUBLE
from hybrid_messaging.bench.scenarios import Scenario
from hybrid_messaging.json_files import (
    Damage,
    flag,
    items,
    mapping,
    maybe,
    number,
    one_of,
    record,
    row,
    whole,
    words,
)

FORMAT = 1


@dataclass(frozen=True)
class Result:
    """A run.

    :param began: date and time
    :param complete: whether nothing has ended it early
    :param machine: the controller's
    :param versions: of the libraries there
    :param hosts: where the workers are, if not here
    :param engines: by mode, the version of each engine
    """

    began: str
    complete: bool
    machine: Machine
    versions: Mapping[str, str]
    hosts: Mapping[str, Host]
    parameters: Parameters
    scenarios: Sequence[Scenario]
    engines: Mapping[str, Mapping[str, str]]
    measurements: Sequence[Measurement]
    problems: Sequence[Problem]

    @property
    def account(self) -> Account:
        """What became of all messages."""
        accounts = (
            kind.account for item in self.measurements for kind in item.kinds.values()
        )
        return sum(accounts, Account())


def new(
    scenarios: Sequence[Scenario], parameters: Parameters, hosts: Mapping[str, Host]
) -> Result:
    """A result without measurements."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return Result(
        began=now.isoformat(timespec="seconds"),
        complete=False,
        machine=machine.machine(),
        versions=machine.versions(),
        hosts=hosts,
        parameters=parameters,
        scenarios=scenarios,
        engines={},
        measurements=(),
        problems=(),
    )


def load(path: Path) -> Result:
    """Read a result.

    :raises BenchError: if it cannot be read, or is none
    """
    try:
        data = json_files.read(path, _LARGEST)
        if not isinstance(data, dict) or "measurements" not in data:
            raise BenchError(f"{path} is not a result of `bench run`")
        written = data.pop("format", None)
        if written != FORMAT:
            json_files.inside("format", whole(), written)
            raise BenchError(
                f"{path} was written by another release (format {written}, and"
                f" this one reads {FORMAT}): read it with that release"
            )
        found: Result = _RESULT(data)
        _check_names(found)
    except OSError as error:
        raise BenchError(f"cannot read a result from {path}: {error}") from error
    except Damage as damage:
        raise BenchError(f"{path} is damaged: {damage}") from damage
    return found


def _check_names(found: Result) -> None:
    """What is measured belongs to a scenario, and troubles have happened."""
    names = [scenario.name for scenario in found.scenarios]
    if not names or len(set(names)) < len(names):
        raise Damage("are missing, or a name occurs twice", "scenarios")
    for index, item in enumerate(found.measurements):
        place = f"measurements[{index}]"
        if item.scenario not in names:
            raise Damage("is not a scenario of this result", f"{place}.scenario")
        if item.part.startswith(TROUBLE) and item.event is None:
            raise Damage("is missing", f"{place}.event")


def _moment(value: Any) -> str:
    """A date with time."""
    moment = words(value)
    try:
        datetime.datetime.fromisoformat(moment).strftime("%Y")
    except ValueError:
        raise Damage("is not a date with a time") from None
    return moment


def _histogram(value: Any) -> str:
    """What `Latencies.encode` has written: a header, then what zlib makes smaller."""
    encoded = words(value)
    try:
        packed = base64.b64decode(encoded, validate=True)[_HISTOGRAM_HEADER:]
        if len(zlib.decompressobj().decompress(packed, _HISTOGRAM + 1)) > _HISTOGRAM:
            raise Damage("is too large")
        Latencies.merged([encoded]).figures()
    except Damage:
        raise
    # a library's: it raises what its parts happen to raise
    except Exception:
        raise Damage("is not a histogram") from None
    return encoded


def _rate(value: Any) -> float:
    """Messages per second."""
    rate: float = _AMOUNT(value)
    if 0 < rate < _SLOWEST:
        raise Damage("is out of range")
    return rate


def _size(value: Any) -> int:
    """A number of bytes, as the key of an object."""
    size = words(value)
    # a run cannot be asked for larger ones
    if not (size.isascii() and size.isdecimal() and len(size) < _DIGITS):
        raise Damage("is not a size")
    return int(size)


# a run of days has a tenth of that
_LARGEST = 1 << 27
_HISTOGRAM_HEADER = 8
# of three digits, from a microsecond to an hour, it has a quarter of that
_HISTOGRAM = 1 << 20
# once in ten days
_SLOWEST = 1e-6
_DIGITS = 12

_AMOUNT = number(0, 1e15)
_WEIGHT = number(0, 1e15)
#: In seconds: less than two weeks.
_TIME = number(-1e6, 1e6)
_LENGTH = number(0, 1e6)
_COUNT = whole(0, 10**15)
_PLACE = {
    "scenario": words,
    "part": words,
    "round": whole(0, 10**6),
    "load": maybe(_AMOUNT),
}
_SIDE = record(
    {
        "latency": _histogram,
        "latency_ms": mapping(_AMOUNT),
        "seconds": items(
            row(whole(-(10**6), 10**6), _COUNT, number(0, 1e9), make=Second)
        ),
        "rate": _rate,
    },
    Side,
)
_ACCOUNT = record(
    {item.name: whole(-(10**15), 10**15) for item in fields(Account)}, Account
)
_KIND = record(
    {"account": _ACCOUNT, "sending": _SIDE, "failing": _SIDE, "arriving": _SIDE}, Kind
)
_ENGINE = record(
    {
        "roles": items(words),
        "cpu_seconds": _AMOUNT,
        "rss": _COUNT,
        "seconds": items(row(_TIME, _AMOUNT, _COUNT, make=Moment)),
    },
    EngineUse,
)
_WORKER = record(
    {
        "task": words,
        "roles": items(words),
        "cpu_seconds": _AMOUNT,
        "waits": _COUNT,
        "rss": _COUNT,
    },
    WorkerUse,
)
_MEASUREMENT = record(
    {
        **_PLACE,
        "began": _moment,
        "start": _AMOUNT,
        "warm_up": _LENGTH,
        "seconds": number(1e-3, 1e6),
        "kinds": mapping(_KIND, key=one_of(KINDS, "kind of message")),
        "errors": mapping(_COUNT),
        "event": maybe(record({"what": words, "begin": _TIME, "end": _TIME}, Event)),
        "overdue": _COUNT,
        "engines": mapping(_ENGINE),
        "machine_busy": maybe(_AMOUNT),
        "workers": mapping(_WORKER),
    },
    Measurement,
)
_CPUS = whole(1, 10**6)
_MACHINE = {
    "host": words,
    "system": words,
    "distribution": words,
    "processor": words,
    "cpus": maybe(_CPUS),
    "usable_cpus": _CPUS,
    "memory": _COUNT,
    "load_average": row(_AMOUNT, _AMOUNT, _AMOUNT),
}
_PARAMETERS = record(
    {
        "producers": _COUNT,
        "consumers": _COUNT,
        "threads": _COUNT,
        "rpc_share": number(0, 100),
        "rpc_mix": mapping(_WEIGHT),
        "sizes": mapping(_WEIGHT, key=_size),
        "warm_up": _LENGTH,
        "duration": _LENGTH,
        "drain": _LENGTH,
        "timeout": _LENGTH,
        "rounds": _COUNT,
        "cpus": items(_COUNT),
    },
    Parameters,
)
_SCENARIO = record(
    {
        "name": words,
        "title": words,
        "mode": words,
        "rpc": mapping(words),
        "notify": mapping(words),
        "default": flag,
    },
    Scenario,
)
_RESULT = record(
    {
        "began": _moment,
        "complete": flag,
        "machine": record(_MACHINE, Machine),
        "versions": mapping(words),
        "hosts": mapping(record({**_MACHINE, "versions": mapping(words)}, Host)),
        "parameters": _PARAMETERS,
        "scenarios": items(_SCENARIO),
        "engines": mapping(mapping(words)),
        "measurements": items(_MEASUREMENT),
        "problems": items(record({**_PLACE, "text": words}, Problem)),
    },
    Result,
)


def combined(results: Mapping[str, Result]) -> Result:
    """Join several results to compare them: each has scenarios of its own.

    :param results: by a name that tells them apart; the first gives the date, the
        machine and the parameters
    """
    first = next(iter(results.values()))
    if len(results) == 1:
        return first
    named = results.items()
    return replace(
        first,
        complete=all(item.complete for item in results.values()),
        scenarios=[
            replace(one, name=f"{name}: {one.name}")
            for name, item in named
            for one in item.scenarios
        ],
        engines={
            f"{name}: {mode}": found
            for name, item in named
            for mode, found in item.engines.items()
        },
        measurements=[
            replace(one, scenario=f"{name}: {one.scenario}")
            for name, item in named
            for one in item.measurements
        ],
        problems=[
            replace(one, scenario=f"{name}: {one.scenario}")
            for name, item in named
            for one in item.problems
        ],
    )


def save(path: Path, result: Result) -> None:
    """Write a result, whole or not at all.

    :raises BenchError: if it cannot be written; what was there before stays
    """
    document = {"format": FORMAT, **asdict(result)}
    write(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all.

    :raises BenchError: if it cannot be written; what was there before stays
    """
    try:
        whole_file.write(path, text, mode=None)
    except OSError as error:
        raise BenchError(f"cannot write {path}: {error.strerror}") from error
