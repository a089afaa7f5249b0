#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Change the code that decides in small ways, and see whether its tests notice.

    tools/mutations.py                    all modules of tools/mutations.yaml
    tools/mutations.py state urls         some of them
    tools/mutations.py state -k "lock:"   those of its mutants that match

Each mutant is one change: a condition that always holds, a boundary moved by one, a
statement left out. A process forked for it runs the tests of the module; nothing is
written to the checkout. If no test notices, the mutant survives: a test is missing, or
tools/mutations.yaml says why none is needed. The exit code is 1 if there are survivors
beyond those, or if the file names one that is none.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "hybrid_messaging"
TABLE = Path(__file__).with_suffix(".yaml")
#: Seconds that the tests of a mutant have, beside four times what they take without it.
#: Waiting for a change that never comes is a way to notice it.
PATIENCE = 30.0

#: What the boundary becomes: it belongs to the other side.
BOUNDARIES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
OPPOSITES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
#: What is read by people and type checkers only.
UNREAD = {
    *((ast.FunctionDef, name) for name in ("returns", "decorator_list")),
    *((ast.ClassDef, name) for name in ("bases", "keywords", "decorator_list")),
    (ast.AnnAssign, "annotation"),
    (ast.arg, "annotation"),
}
LOGGERS = {"LOG", "_LOG"}


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    :param name: the function that is changed and how; it stays the same when lines move
    :param line: where the change is
    :param code: the compiled module
    """

    name: str
    line: int
    code: CodeType


def mutants(source: str, path: str = "<source>") -> Iterator[Mutant]:
    """Yield each change of a module."""
    tree = ast.parse(source)
    seen: Counter[str] = Counter()
    for scope, parent, name, index, new in list(_edits(tree, "")):
        value = getattr(parent, name)
        old = value if index is None else value[index]
        place = old if hasattr(old, "lineno") else parent
        # these say nothing without what is around them
        small = isinstance(old, (ast.cmpop, ast.operator, ast.Constant))
        small |= isinstance(parent, ast.Call) and isinstance(old, ast.Name)
        small &= not isinstance(parent, (ast.If, ast.While))
        before = _shown(parent) if small else _shown(old)
        _put(parent, name, index, ast.copy_location(new, place))
        ast.fix_missing_locations(tree)
        after = _shown(parent) if small else _shown(new)
        if before == after:
            before, after = _shown(old), _shown(new)
        code = compile(tree, path, "exec")
        _put(parent, name, index, old)
        title = f"{scope or 'module'}: {before} -> {after}"
        seen[title] += 1
        if seen[title] > 1:
            title += f" ({seen[title]})"
        yield Mutant(title, place.lineno, code)


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else f"{text[:60]} ... {text[-25:]}"


def _put(parent: ast.AST, name: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[index] = node


#: Where a node is to be replaced: its function, parent, field and place in a list
#: there, and the replacement.
Edit = tuple[str, ast.AST, str, "int | None", Any]


def _edits(node: ast.AST, scope: str) -> Iterator[Edit]:
    for name, value in ast.iter_fields(node):
        if (type(node), name) in UNREAD or _is_for_type_checks(node):
            continue
        children = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            if not isinstance(child, ast.AST) or _is_log(child):
                continue
            for new in _replacements(node, name, child, bool(scope)):
                yield scope, node, name, index, new
            inner = scope
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                inner = f"{scope}.{child.name}".lstrip(".")
            # texts are for people
            if not isinstance(child, ast.JoinedStr):
                yield from _edits(child, inner)


def _is_for_type_checks(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _is_log(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).partition(".")[0] in LOGGERS
    )


def _replacements(
    parent: ast.AST, name: str, node: ast.AST, is_inside: bool
) -> Iterator[ast.AST]:
    """What a node may become.

    :param is_inside: it is in a function or class; constants elsewhere tune more than
        they decide
    """
    is_test = name == "test" and isinstance(parent, (ast.If, ast.IfExp, ast.While))
    is_filter = name == "ifs" and isinstance(parent, ast.comprehension)
    if (is_test or is_filter) and not isinstance(node, ast.Constant):
        # a loop without end takes as long as is waited for it, and shows little
        if not isinstance(parent, ast.While):
            yield ast.Constant(True)
        yield ast.Constant(False)
    if isinstance(node, ast.BoolOp):
        for leave in node.values:
            rest = [value for value in node.values if value is not leave]
            yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        if not (is_test or is_filter):
            yield node.operand
    elif isinstance(node, ast.cmpop):
        if type(node) in BOUNDARIES:
            yield BOUNDARIES[type(node)]()
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in OPPOSITES:
        # what always or never holds shows more, where it decides
        if not (is_test or is_filter):
            opposite = OPPOSITES[type(node.ops[0])]()
            yield ast.Compare(node.left, [opposite, *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.operator) and type(node) in OPERATORS and is_inside:
        # paths are joined with it as well
        if not (isinstance(node, ast.Div) and _joins(parent)):
            yield OPERATORS[type(node)]()
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, (int, float)) and is_inside:
            yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Name) and isinstance(parent, ast.Call):
        if name == "func" and node.id in FUNCTIONS:
            yield ast.Name(FUNCTIONS[node.id], ast.Load())
    elif isinstance(node, ast.Return):
        if node.value is not None and not isinstance(node.value, ast.Constant):
            yield ast.Return(ast.Constant(None))
            if isinstance(node.value, (ast.Compare, ast.BoolOp, ast.UnaryOp)):
                yield ast.Return(ast.Constant(True))
    elif _can_be_left_out(node):
        yield ast.Pass()


def _joins(node: ast.AST) -> bool:
    """Whether a division is one of paths."""
    return isinstance(node, ast.BinOp) and not any(
        isinstance(part, ast.Constant) and isinstance(part.value, (int, float))
        for part in ast.walk(node)
    )


def _can_be_left_out(node: ast.AST) -> bool:
    """Whether a statement does something, and the others can do without it."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, (ast.Call, ast.Yield, ast.YieldFrom))
    if isinstance(node, ast.Assign):
        # what a name is given is needed further down
        return all(
            isinstance(target, (ast.Attribute, ast.Subscript))
            for target in node.targets
        )
    kinds = (ast.AugAssign, ast.Delete, ast.Raise, ast.Continue, ast.Break)
    return isinstance(node, kinds)


# -- running -----------------------------------------------------------------


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module that is already compiled."""

    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code


class _Finder(importlib.abc.MetaPathFinder):
    """Finds a mutant in the place of a module."""

    def __init__(self, name: str, path: str, code: CodeType) -> None:
        self._name, self._path = name, path
        self._loader = _Loader(name, path, code)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(
            fullname, self._path, loader=self._loader
        )


class _First:
    """Writes down the first test that fails, or which modules were imported."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self._file.exists():
            self._file.write_text(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and not self._file.exists():
            self._file.write_text(f"{report.nodeid} cannot be collected")

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if not exitstatus:
            self._file.write_text("\n".join(sorted(sys.modules)))


@dataclass
class Outcome:
    """What the tests said.

    :param killer: the first test that failed, 'no end' if they took too long, and
        None if all passed
    :param modules: what the tests have imported, if all passed
    """

    killer: str | None
    modules: list[str] = field(default_factory=list)


def run_tests(
    tests: Sequence[str], limit: float, prepare: Callable[[], None] = lambda: None
) -> Outcome:
    """Run tests in a forked process.

    :param limit: seconds
    :param prepare: what the process does first
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as scratch:
        said = Path(scratch, "said")
        sys.stdout.flush()
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                _be_tested(tests, scratch, prepare, said)
            os._exit(2)
        ended = _await(child, time.monotonic() + limit)
        # also ends what the tests have started
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if ended is None:
            os.waitpid(child, 0)
            return Outcome("no end")
        text = said.read_text() if said.exists() else f"ended with {ended}"
        return Outcome(text) if ended else Outcome(None, text.split())


def _await(child: int, deadline: float) -> int | None:
    """Return the exit code of a process, or None if it does not end in time."""
    pause = 0.01
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    return None


def _be_tested(
    tests: Sequence[str], scratch: str, prepare: Callable[[], None], said: Path
) -> None:
    os.setpgid(0, 0)
    with Path(scratch, "output").open("wb") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    os.environ["XDG_STATE_HOME"] = scratch
    # looking for plugins takes ten times as long as most tests
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    prepare()
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "pytest_timeout"]
    options += [f"--basetemp={scratch}/tests"]
    os._exit(int(pytest.main([*options, *tests], plugins=[_First(said)])))


def install(name: str, path: str, code: CodeType) -> Callable[[], None]:
    """Return what has a mutant imported in the place of a module."""
    return lambda: sys.meta_path.insert(0, _Finder(name, path, code))


def preload(modules: Sequence[str]) -> None:
    """Import what tests need beside what is tested, once for all mutants."""
    for name in modules:
        if name.partition(".")[0] not in (PACKAGE, "tests", "conftest"):
            with contextlib.suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
    # forked processes leave alone what is not looked at again
    gc.freeze()


@dataclass
class Tally:
    """What became of the mutants of a module."""

    module: str
    made: int = 0
    killed: int = 0
    survivors: list[Mutant] = field(default_factory=list)
    unjudged: list[Mutant] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    seconds: float = 0.0


def examine(module: str, entry: dict[str, Any], pattern: str, all_: bool) -> Tally:
    """Run the mutants of a module.

    :param entry: of the table
    :param pattern: regular expression of the names of mutants to run
    :param all_: show those as well that are noticed
    """
    began = time.monotonic()
    name = f"{PACKAGE}.{module}"
    path = ROOT / "plugin" / f"{name.replace('.', '/')}.py"
    tests, judged = entry["tests"], entry.get("survivors") or {}
    clean = run_tests(tests, 600)
    if clean.killer:
        raise SystemExit(f"{module}: its tests fail without any change: {clean.killer}")
    preload(clean.modules)
    started = time.monotonic()
    run_tests(tests, 600)
    limit = PATIENCE + 4 * (time.monotonic() - started)
    tally = Tally(module)
    for mutant in mutants(path.read_text(), str(path)):
        if not re.search(pattern, mutant.name):
            continue
        tally.made += 1
        killer = run_tests(tests, limit, install(name, str(path), mutant.code)).killer
        if killer:
            tally.killed += 1
            if all_:
                say(f"  killed  {module}:{mutant.line} {mutant.name}  by {killer}")
            continue
        tally.survivors.append(mutant)
        verdict = judged.get(mutant.name)
        if verdict is None:
            tally.unjudged.append(mutant)
        say(f"SURVIVED  {module}:{mutant.line} {mutant.name}  {verdict or ''}".rstrip())
    survived = {mutant.name for mutant in tally.survivors}
    tally.stale = [
        known for known in judged if re.search(pattern, known) and known not in survived
    ]
    for known in tally.stale:
        say(f"NO SURVIVOR, but in the table  {module} {known}")
    tally.seconds = time.monotonic() - began
    return tally


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


def main() -> int:
    """Run the tool and return its exit code."""
    parser = argparse.ArgumentParser(
        description="Change the code that decides, and see whether tests notice."
    )
    table: dict[str, dict[str, Any]] = yaml.safe_load(TABLE.read_text())
    parser.add_argument("modules", nargs="*", choices=[[], *table], metavar="MODULE")
    parser.add_argument(
        "-k", dest="pattern", default="", metavar="PATTERN",
        help="only mutants whose name matches this regular expression",
    )  # fmt: skip
    parser.add_argument(
        "-a", "--all", action="store_true", help="name the test that noticed, too"
    )
    options = parser.parse_args()
    os.chdir(ROOT)
    tallies = []
    for module in options.modules or table:
        tally = examine(module, table[module], options.pattern, options.all)
        tallies.append(tally)
        say(row(tally))
    if len(tallies) > 1:
        say(f"\n{'module':32}mutants  killed  survive  unjudged  seconds")
        for tally in tallies:
            say(row(tally))
    return int(any(tally.unjudged or tally.stale for tally in tallies))


def row(tally: Tally) -> str:
    """Return a line of the table of results."""
    return (
        f"{tally.module:32}{tally.made:7}{tally.killed:8}{len(tally.survivors):9}"
        f"{len(tally.unjudged):10}{tally.seconds:9.0f}"
    )


if __name__ == "__main__":
    sys.exit(main())
