# SPDX-License-Identifier: Apache-2.0
"""What documents say about commands, files and modes is so."""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import os
import re
import runpy
import shlex
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.unit.test_repository import ROOT, relative, work_tree

from hybrid_messaging import modes
from hybrid_messaging.cli import up
from hybrid_messaging.cli.app import HybridMessaging
from hybrid_messaging.smoke.table import CHECKS

#: Where a command ends on a line of the shell.
SHELL = {"#", "&", "&&", "|", ">", "<", ";"}
#: What `tools/test.sh` calls with its arguments.
RUNNER = "tools/run_tests.py"


@pytest.fixture(scope="module")
def app() -> HybridMessaging:
    return HybridMessaging()


def command_lines(path: Path) -> list[str]:
    """The command lines that a document shows at a prompt, without our own name."""
    joined = path.read_text().replace("\\\n", " ")
    return re.findall(
        r"^ +(?:[\w-]*[$#] |ExecStart=)?(?:[\w./-]+/)?hybrid-messaging ([a-z-].*)$",
        joined,
        re.MULTILINE,
    )


def fault(app: HybridMessaging, line: str) -> str:
    """What the parsers of the command line have against a line; empty if nothing."""
    words = list(takewhile(lambda word: word not in SHELL, shlex.split(line)))
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            _, rest = app.parser.parse_known_args(words)
            factory, name, arguments = app.command_manager.find_command(rest)
            factory(app, None).get_parser(name).parse_args(arguments)
        except ValueError as error:
            return str(error)
        except SystemExit as ended:
            return said.getvalue() if ended.code else ""
    return ""


@pytest.mark.parametrize("path", work_tree("*.rst"), ids=relative)
def test_documents_show_command_lines_that_can_be_typed(
    app: HybridMessaging, path: Path
) -> None:
    faults = {line: fault(app, line) for line in command_lines(path)}
    assert not {line: text for line, text in faults.items() if text}


class Parsed(Exception):
    """A command line could be parsed."""


def tool_lines(path: Path) -> list[tuple[str, str]]:
    """The command lines that a document shows of the repository's own tools."""
    joined = path.read_text().replace("\\\n", " ").replace("tools/test.sh", RUNNER)
    return re.findall(
        r"^ +[$#] (?:sudo )?(?:\S+/python )?(tools/\w+\.py)\b(.*)$",
        joined,
        re.MULTILINE,
    )


def test_documents_show_command_lines_of_tools_that_can_be_typed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parse_args = argparse.ArgumentParser.parse_args

    def parse(*arguments: Any) -> NoReturn:
        parse_args(*arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    for variable in ("RABBIT_URL", "HYBRID_RPC_URL"):
        monkeypatch.setenv(variable, "rabbit://host/")
    monkeypatch.syspath_prepend(ROOT / "tools")
    shown = {line for path in work_tree("*.rst") for line in tool_lines(path)}
    assert {tool for tool, _ in shown} >= {"tools/soak.py", RUNNER}
    for tool, line in sorted(shown):
        line = line.replace("$!", str(os.getpid()))
        words = takewhile(lambda word: word not in SHELL, shlex.split(line))
        monkeypatch.setattr("sys.argv", [tool, *words])
        with pytest.raises(Parsed):
            runpy.run_path(str(ROOT / tool))["main"]()


def test_documents_name_commands_and_options_that_exist(app: HybridMessaging) -> None:
    """In a text, a command need not have its arguments."""
    wrong = {
        f"{relative(path)}: {line}": text
        for path in work_tree("*.rst")
        for line in re.findall(r"``hybrid-messaging\s([a-z][^`]*)``", path.read_text())
        if (text := fault(app, line)) and "are required" not in text
    }
    assert not wrong


def test_up_names_commands_that_can_be_typed(app: HybridMessaging) -> None:
    for command, _ in up.NEXT_COMMANDS:
        assert fault(app, command.format(state_dir=" --state-dir DIR")) == ""


def test_documents_name_files_that_exist() -> None:
    missing = [
        f"{relative(path)}: {name}"
        for path in work_tree("*.rst")
        for name in re.findall(
            r"(?<![\w/.-])((?:tools|files|tests|plugin|\.ci)/[\w./-]*\w)",
            path.read_text(),
        )
        if not (ROOT / name).exists()
    ]
    assert not missing


def test_the_readme_lists_the_modes_of_the_mode_table() -> None:
    rows = re.findall(
        r"^``([a-z-]+)``  +(.*)$", (ROOT / "README.rst").read_text(), re.MULTILINE
    )
    assert [name for name, _ in rows] == list(modes.load())
    for name, row in rows:
        mode = modes.get(name)
        for transport in {mode.rpc, mode.notify} - {modes.ANY_TRANSPORT}:
            assert f"``{transport}://``" in row, name


def test_the_documentation_says_what_every_smoke_check_shows() -> None:
    assert not [check.name for check in CHECKS if not check.shows]


def log_lines(*levels: str) -> set[str]:
    """What the drivers and the router may log, without what is only arguments."""
    found = set()
    for path in work_tree("plugin/**/drivers/*.py", "plugin/**/router/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) in {f"LOG.{level}" for level in levels}
                and isinstance(node.args[0], ast.Constant)
            ):
                found.add(re.sub(r"(%[-.\d]*[a-z])+", "…", str(node.args[0].value)))
    return {line for line in found if re.search("[a-z]", line)}


def test_the_documentation_explains_the_log_lines_of_the_drivers() -> None:
    page = (ROOT / "doc/source/debugging.rst").read_text()
    rows = re.findall(r"^   \* - ``(.*?)``", page, re.MULTILINE | re.DOTALL)
    explained = {" ".join(row.split()) for row in rows}
    assert not log_lines("warning", "error") - explained, "add these"
    assert not explained - log_lines("info", "warning", "error"), "remove these"
