# SPDX-License-Identifier: Apache-2.0
"""The scenarios: which mode carries the messages, and with which options.

They are data, in the file ``files/scenarios``; users may have files of their own.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hybrid_messaging import modes, resources, urls
from hybrid_messaging.bench import BenchError

TABLE = resources.FILES / "scenarios"
#: The scenario of URLs that the user gives.
EXTERNAL = "external"

_KEYS = {"title", "mode", "rpc", "notify", "default"}


@dataclass(frozen=True)
class Scenario:
    """One scenario.

    :param mode: name of a mode of the mode table
    :param rpc: options of RPC's transport URL
    :param notify: options of the notifications' transport URL
    :param default: measured when nobody names scenarios
    """

    name: str
    title: str
    mode: str
    rpc: Mapping[str, str] = field(default_factory=dict)
    notify: Mapping[str, str] = field(default_factory=dict)
    default: bool = False

    def url(self, role: str, text: str) -> str:
        """A transport URL with this scenario's options; those that it has win.

        :param role: `rpc` or `notify`
        """
        url = urls.parse(text)
        options = {"rpc": self.rpc, "notify": self.notify}[role]
        return str(replace(url, query={**options, **url.query}))


def load(table: Path = TABLE) -> dict[str, Scenario]:
    """Read scenarios.

    :returns: scenarios by name, in the order of the file
    :raises BenchError: if the file cannot be read, or a scenario is no scenario
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with table.open(encoding="utf-8") as file:
            parser.read_file(file)
    except (OSError, UnicodeError, configparser.Error) as error:
        raise BenchError(f"cannot read scenarios from {table}: {error}") from error
    return {name: _scenario(parser[name], table) for name in parser.sections()}


def select(names: Sequence[str], table: Path = TABLE) -> list[Scenario]:
    """Return scenarios by their names, or by the numbers that these begin with.

    :param names: none for those that are measured by default
    :raises BenchError: if there is no such scenario
    """
    known = load(table)
    if not names:
        return [item for item in known.values() if item.default] or list(known.values())
    chosen = {}
    for name in names:
        found = known.get(name) or next(
            (item for item in known.values() if item.name.startswith(f"{name}-")), None
        )
        if found is None:
            raise BenchError(
                f"{table} has no scenario {name!r}; it has {', '.join(known)}"
            )
        chosen[found.name] = found
    return list(chosen.values())


def _scenario(section: configparser.SectionProxy, table: Path) -> Scenario:
    where = f"{table}: scenario {section.name}"
    if unknown := set(section) - _KEYS:
        raise BenchError(f"{where} has unknown keys: {', '.join(sorted(unknown))}")
    if "mode" not in section:
        raise BenchError(f"{where} names no mode")
    try:
        mode = modes.get(section["mode"])
        return Scenario(
            section.name,
            section.get("title", mode.name),
            mode.name,
            _options(section.get("rpc", "")),
            _options(section.get("notify", "")),
            section.getboolean("default", fallback=False),
        )
    except ValueError as error:
        raise BenchError(f"{where}: {error}") from error


def _options(text: str) -> dict[str, str]:
    options = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"{word!r} is not of the form key=value")
        options[key] = value
    return options
