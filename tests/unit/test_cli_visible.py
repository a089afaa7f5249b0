# SPDX-License-Identifier: Apache-2.0
"""Nothing that a command prints is obeyed by a terminal, but what is meant for it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from cliff.app import App
from cliff.commandmanager import CommandManager
from tests.functional.commands import run

from hybrid_messaging.cli import progress
from hybrid_messaging.cli.visible import visible

HOSTILE = "\x1b[31m\r\x07\x7f\x9b\u202e\udcff"
SHOWN = r"\u001b[31m\u000d\u0007\u007f\u009b\u202e\udcff"


#: The same, of what may stand on one line of a text file.
IN_A_FILE = "\x1b[31m\x07\u202e"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_control_characters_become_visible() -> None:
    stream = io.StringIO()
    print(f"a\tb {HOSTILE}", file=visible(stream))
    assert stream.getvalue() == f"a\tb {SHOWN}\n"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "a → b … \u00e9 \u0416"),
        ("latin-1", "a -> b ... \u00e9 \\u0416"),
        ("ascii", "a -> b ... \\xe9 \\u0416"),
    ],
)
def test_characters_that_the_encoding_lacks(encoding: str, shown: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    print("a → b … \u00e9 \u0416", file=visible(stream), flush=True)
    assert stream.buffer.getvalue().decode(encoding) == f"{shown}\n"  # type: ignore[attr-defined]


def test_what_takes_a_line_back_is_obeyed() -> None:
    terminal = Terminal()
    app = App("", "", CommandManager("none"), stderr=visible(terminal))
    app.options = app.parser.parse_args([])
    progress.transient(app, HOSTILE)
    assert terminal.getvalue() == f"\r\x1b[K{SHOWN}"


def test_what_a_file_says_is_shown_and_not_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nova.conf"
    path.write_text(f"[DEFAULT]\ntransport_url = rabbit://h/\n# {IN_A_FILE}\n")
    urls = ("--rpc-url", "amqp://h/", "--notify-url", "rabbit://h/")
    found = run(capsys, "configure", "--dry-run", *urls, path)
    assert found.code == 0
    assert r"# \u001b[31m\u0007\u202e" in found.out
    found = run(capsys, "check", "--no-connect", tmp_path / HOSTILE, "-f", "json")
    assert found.code == 1
    assert HOSTILE in json.loads(found.out)[0]["files"][0]
    assert "\x1b" not in found.out + found.err
