# SPDX-License-Identifier: Apache-2.0
"""The table of problems has what rules find, and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import hybrid_messaging
from hybrid_messaging.servers import rabbit_releases
from hybrid_messaging.service_configs.codes import CODES

PACKAGE = Path(hybrid_messaging.__file__).parent

#: What makes a problem, by its name where it is called; the first argument is the code.
_MAKERS = {"found", "problem", "ConnectError", "ServerProblem"}


def used() -> Iterator[str]:
    """The codes that stand in the rules, and in what connects to servers."""
    for folder in ("service_configs/rules", "servers"):
        for path in (PACKAGE / folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in _MAKERS
                ):
                    for part in ast.walk(node.args[0]):
                        if isinstance(part, ast.Constant):
                            yield part.value
    yield from (rule.code for rule in rabbit_releases.RULES)


def test_what_is_found_is_in_the_table_and_the_other_way_round() -> None:
    assert set(used()) == set(CODES)


def test_the_table_is_in_order_and_complete() -> None:
    assert list(CODES) == sorted(CODES)
    assert all(all(code) for code in CODES.values())


def test_the_table_agrees_with_what_a_server_was_asked() -> None:
    for rule in rabbit_releases.RULES:
        severity = "warning" if rule.refused is None else "error"
        assert CODES[rule.code].severity.value == severity
