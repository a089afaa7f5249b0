#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compare the catalogue of services with the services' own code.

    tools/compare_catalogue.py DIR...

Each DIR has packages of services, as site-packages of an environment has, or an
unpacked release; Neutron's has neutron_lib beside it. Exchanges, RPC, notifications and
options that values may refer to are read off the code, without importing any of it.
Exit code 1: there is a difference.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from hybrid_messaging.service_configs.catalogue import SERVICES, Service

#: Options that some service is said to register.
_REFERRED_TO = frozenset().union(*(service.registers for service in SERVICES))
#: What only some services call to get a transport, and what it is for.
_TRANSPORTS = {
    "get_rpc_transport": "rpc",
    "get_transport": "rpc",
    "get_notification_transport": "notifications",
}


class Code:
    """What the sources of one service say."""

    def __init__(self, *packages: Path) -> None:
        self.exchanges: set[str] = set()
        self.transports: set[str] = set()
        self.registers: set[str] = set()
        for path in (path for each in packages for path in each.rglob("*.py")):
            if not {"tests", "test"} & set(path.parts):
                for node in ast.walk(ast.parse(path.read_bytes())):
                    self._see(node)

    def _see(self, node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef) and node.name == "set_defaults":
            self.exchanges |= set(map(_text, node.args.defaults)) - {""}
        if not isinstance(node, ast.Call):
            return
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        first = _text(node.args[0]) if node.args else ""
        named = [_text(each.value) for each in node.keywords if each.arg]
        keys = [each.arg for each in node.keywords if each.arg]
        if name == "set_transport_defaults":
            self.exchanges |= {first, *named} - {""}
        elif name == "set_defaults" and "control_exchange" in keys:
            self.exchanges |= {*named} - {""}
        elif name in _TRANSPORTS and _of_oslo(node.func):
            self.transports.add(_TRANSPORTS[name])
        elif name.endswith("Opt") and first in _REFERRED_TO:
            self.registers.add(first)


def _text(node: ast.AST) -> str:
    value = node.value if isinstance(node, ast.Constant) else ""
    return value if isinstance(value, str) else ""


def _of_oslo(function: ast.AST) -> bool:
    owner = function.value if isinstance(function, ast.Attribute) else None
    return isinstance(owner, ast.Name) and owner.id in (
        "messaging",
        "oslo_messaging",
        "notifier",
        "transport",
    )


def differences(service: Service, directory: Path) -> Iterator[str]:
    """What the catalogue says otherwise than the code."""
    package = directory / service.name.replace("-", "_")
    code = Code(package, package.with_name(f"{package.name}_lib"))
    if code.exchanges - {service.exchange} or (
        service.exchange != "openstack" and not code.exchanges
    ):
        yield f"exchange {service.exchange}, in the code {code.exchanges or 'none'}"
    if service.rpc and "rpc" not in code.transports:
        yield "rpc, in the code none"
    if not service.notifies and "notifications" in code.transports:
        yield "publishes nothing, in the code it has a notification transport"
    if service.registers - code.registers:
        yield f"registers {sorted(service.registers - code.registers)}, the code not"


def main(directories: list[str]) -> int:
    different = False
    for directory in map(Path, directories):
        for service in SERVICES:
            if not (directory / service.name.replace("-", "_")).is_dir():
                continue
            found = list(differences(service, directory))
            print(f"{service.name}: {'; '.join(found) or 'as in the code'}")
            different |= bool(found)
    return int(different)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
