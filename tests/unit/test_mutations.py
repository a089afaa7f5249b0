# SPDX-License-Identifier: Apache-2.0
"""The tool that changes code to see whether its tests notice."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
VERDICTS = {"equivalent", "accepted"}


@pytest.fixture(scope="module")
def mutations() -> ModuleType:
    path = ROOT / "tools/mutations.py"
    spec = importlib.util.spec_from_file_location("mutations", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def table() -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(
        (ROOT / "tools/mutations.yaml").read_text()
    )
    return loaded


def names(mutations: ModuleType, source: str) -> list[str]:
    return [mutant.name for mutant in mutations.mutants(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "def f(a):\n    if a < 3:\n        raise E",
            [
                "f: a < 3 -> True",
                "f: a < 3 -> False",
                "f: a < 3 -> a <= 3",
                "f: a < 3 -> a < 4",
                "f: raise E -> pass",
            ],
        ),
        (
            "class C:\n    def f(self, a, b):\n        return a and not b",
            [
                "C.f: return a and (not b) -> return None",
                "C.f: return a and (not b) -> return True",
                "C.f: a and (not b) -> not b",
                "C.f: a and (not b) -> a",
                "C.f: not b -> b",
            ],
        ),
        # a decorator, a type, a text, a line for the log and a path decide nothing
        (
            "X = 5\n\n@g(1)\ndef f(a: A[0] = None) -> B[1]:\n"
            '    "2"\n    LOG.info(f"{3 + 4}")\n    x = p / q',
            [],
        ),
        # what is named again is numbered
        (
            "def f():\n    g()\n    g()",
            ["f: g() -> pass", "f: g() -> pass (2)"],
        ),
        ("def f(a):\n    x = max(a)", ["f: max(a) -> min(a)"]),
        ("def f(a):\n    x = a == b", ["f: a == b -> a != b"]),
        (
            "def f(a):\n    while a:\n        break",
            ["f: a -> False", "f: break -> pass"],
        ),
    ],
)  # fmt: skip
def test_small_changes(mutations: ModuleType, source: str, expected: list[str]) -> None:
    assert names(mutations, source) == expected


def test_each_mutant_has_one_change(mutations: ModuleType) -> None:
    source = "def f(a):\n    if a > 1:\n        return a + 1\n    return a - 1"
    results = []
    for mutant in mutations.mutants(source):
        scope: dict[str, Any] = {}
        exec(mutant.code, scope)
        results.append((scope["f"](1), scope["f"](2), scope["f"](3)))
    # True, False, >=, > 2, None, a - 1, a + 2, None, a + 1, a - 2
    assert len(results) == 10
    unchanged = (0, 3, 4)
    assert unchanged not in results


@pytest.fixture
def project(
    mutations: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A checkout with one module and its tests."""
    package = tmp_path / "plugin/sample"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "limits.py").write_text(
        "def within(a):\n    return 0 <= a <= 9\n\n\n"
        "def wait(a):\n    while a:\n        a -= 1\n"
    )
    (tmp_path / "test_limits.py").write_text(
        "from sample import limits\n\n\n"
        "def test_within():\n"
        "    assert limits.within(0) and limits.within(5)\n"
        "    assert not limits.within(-1) and not limits.within(10)\n\n\n"
        "def test_wait():\n    limits.wait(1)\n"
    )
    monkeypatch.setattr(mutations, "ROOT", tmp_path)
    monkeypatch.setattr(mutations, "PACKAGE", "sample")
    monkeypatch.setattr(mutations, "PATIENCE", 1.0)
    monkeypatch.syspath_prepend(tmp_path / "plugin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examine(mutations: ModuleType, survivors: dict[str, Any], pattern: str) -> Any:
    entry = {"tests": ["test_limits.py"], "survivors": survivors}
    return mutations.examine("limits", entry, pattern, False)


def test_survivors_are_those_that_no_test_notices(
    mutations: ModuleType, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (project / "plugin/sample/limits.py").read_text()
    survivor = "within: 0 <= a <= 9 -> 0 <= a < 9"
    gone = "within: no such -> change"
    tally = examine(mutations, {survivor: {"accepted": "why"}, gone: {}}, "within")
    assert (project / "plugin/sample/limits.py").read_text() == before
    assert [mutant.name for mutant in tally.survivors] == [survivor]
    assert tally.unjudged == []
    assert tally.stale == [gone]
    assert tally.made == tally.killed + 1
    assert examine(mutations, {}, "a < 9").unjudged != []
    assert "SURVIVED  limits:2" in capsys.readouterr().out


def test_tests_that_do_not_end_have_noticed(
    mutations: ModuleType, project: Path
) -> None:
    tally = examine(mutations, {}, r"wait: a -= 1 -> pass")
    assert (tally.made, tally.killed) == (1, 1)


def test_tests_that_fail_anyway_show_nothing(
    mutations: ModuleType, project: Path
) -> None:
    (project / "test_limits.py").write_text("def test_it():\n    assert False\n")
    with pytest.raises(SystemExit, match=r"fail without any change: .*test_it"):
        examine(mutations, {}, "")


def test_the_table_names_what_exists_and_gives_reasons() -> None:
    for module, entry in table().items():
        path = ROOT / f"plugin/hybrid_messaging/{module.replace('.', '/')}.py"
        assert path.is_file(), module
        assert all((ROOT / test).is_file() for test in entry["tests"]), module
        for name, judgement in entry.get("survivors", {}).items():
            ((verdict, reason),) = judgement.items()
            assert verdict in VERDICTS, name
            assert reason, name
