# SPDX-License-Identifier: Apache-2.0
"""The mode table: what it says, and how it is read by both halves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hybrid_messaging import modes
from hybrid_messaging.engines import kinds

# what users have been promised
PROMISED = {
    "rabbit": ("rabbit", "rabbitmq", "rabbit", "rabbitmq"),
    "rabbit-dual": ("rabbit", "rabbitmq", "rabbit", "rabbitmq"),
    "qpid-hybrid": ("amqp", "router", "rabbit", "rabbitmq"),
    "qpid-kafka": ("amqp", "router", "kafka", "kafka"),
    "qpid-dual": ("amqp", "router", "amqp", "broker"),
    "qpid": ("amqp", "broker", "amqp", "broker"),
    "zmq-hybrid": ("zmq", "redis", "rabbit", "rabbitmq"),
    "zmq-kafka": ("zmq", "redis", "kafka", "kafka"),
    "rabbit-kafka": ("rabbit", "rabbitmq", "kafka", "kafka"),
    "external": ("any", "none", "any", "none"),
}


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "modes"
    path.write_text(text)
    return path


def test_every_promised_mode_is_there() -> None:
    found = {
        name: (mode.rpc, mode.rpc_engine, mode.notify, mode.notify_engine)
        for name, mode in modes.load().items()
    }
    assert found == PROMISED


def test_the_default_mode_can_be_started() -> None:
    mode = modes.get(modes.DEFAULT)
    assert all(kinds.is_available(item.kind) for item in mode.engines)


@pytest.mark.parametrize(
    ("name", "placements"),
    [
        ("qpid-hybrid", [("router", ("rpc",)), ("rabbitmq", ("notify",))]),
        ("rabbit", [("rabbitmq", ("rpc", "notify"))]),
        ("rabbit-dual", [("rabbitmq-rpc", ("rpc",)), ("rabbitmq-notify", ("notify",))]),
        ("external", []),
    ],
)
def test_engines_of_a_mode(
    name: str, placements: list[tuple[str, tuple[str, ...]]]
) -> None:
    found = [(item.name, item.roles) for item in modes.get(name).engines]
    assert found == placements


def test_the_shell_reads_the_same_table() -> None:
    script = """
        while read -r mode rpc rpc_engine notify notify_engine; do
            case "$mode" in '#'*|'') continue ;; esac
            [ "$notify_engine" = same ] && notify_engine=$rpc_engine
            echo "$mode" "$rpc" "$rpc_engine" "$notify" "$notify_engine"
        done < "$1"
    """
    output = subprocess.run(
        ["bash", "-c", script, "read", modes.TABLE],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = {row.split()[0]: tuple(row.split()[1:]) for row in output.splitlines()}
    assert found == PROMISED


def test_comments_and_empty_lines_are_no_modes(tmp_path: Path) -> None:
    path = table(tmp_path, "# mode\n\n  # indented\n a amqp router kafka kafka \n")
    assert list(modes.load(path)) == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a amqp router kafka\n", ":1: a mode needs 5 columns"),
        ("# x\na b c d e f\n", ":2: a mode needs 5 columns"),
        ("a b c d e\na b c d e\n", ":2: mode a is already defined"),
    ],
)
def test_a_broken_table_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(modes.ModeError, match=message):
        modes.load(table(tmp_path, text))


def test_an_unknown_mode_lists_those_there_are() -> None:
    with pytest.raises(modes.ModeError, match=r"'qpd'.*qpid-hybrid.*external"):
        modes.get("qpd")
