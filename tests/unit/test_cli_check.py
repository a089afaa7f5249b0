# SPDX-License-Identifier: Apache-2.0
"""What `check` prints, and how it exits: for people, scripts and monitoring."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.functional import commands
from tests.functional.commands import Result
from tests.unit.test_service_configs_checks import DRIVERS, files

from hybrid_messaging.service_configs import interpreter

Check = Callable[..., Result]
Write = Callable[..., Path]

SOUND = files()
WARNING = files(driver="noop")
ERROR = files(rpc="no url|x")


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setattr(interpreter, "ask", lambda *_: DRIVERS)

    def call(*words: object) -> Result:
        return commands.run(capsys, "check", "--no-connect", *words)

    return call


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "cinder.conf") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "words", "usual", "nagios", "word"),
    [
        (SOUND, (), 0, 0, "OK"),
        (WARNING, (), 1, 1, "WARNING"),
        (WARNING, ("--ignore-warnings",), 0, 0, "OK"),
        (ERROR, (), 1, 2, "CRITICAL"),
        (ERROR, ("--ignore-warnings",), 1, 2, "CRITICAL"),
    ],
)
def test_exit_codes(
    check: Check,
    write: Write,
    text: str,
    words: tuple[str, ...],
    usual: int,
    nagios: int,
    word: str,
) -> None:
    path = write(text)
    for format_ in ("table", "json"):
        assert check(path, "-f", format_, *words).code == usual
    assert check(path, "-f", "prometheus", *words).code == 0
    result = check(path, "-f", "nagios", *words)
    assert result.code == nagios
    assert result.out.startswith(f"MESSAGING {word}: ")


def test_nagios_sees_one_line_and_its_performance_data(
    check: Check, write: Write
) -> None:
    paths = [write(ERROR), write(WARNING, "nova.conf")]
    first, *others = check(*paths, "-f", "nagios").out.splitlines()
    text, data = first.split("|")
    assert text == "MESSAGING CRITICAL: errors 1, warnings 1, services 2 "
    assert data == " errors=1;;;0 warnings=1;;;0 services=2;;;0"
    assert [line.partition(" ")[0] for line in others] == ["cinder:", "nova:"]
    assert "|" not in "".join(others)
    many = [write(WARNING, f"{number}/cinder.conf") for number in range(25)]
    assert check(*many, "-f", "nagios").out.splitlines()[-1] == "and 5 more"


@pytest.mark.parametrize("words", [(), ("--discover", "/nonexistent")])
def test_nagios_is_told_what_could_not_be_done(
    check: Check, words: tuple[str, ...]
) -> None:
    result = check("-f", "nagios", *words)
    assert result.code == 3
    assert result.out.startswith("MESSAGING UNKNOWN: ")
    assert check(*words).code == 1


def test_prometheus_reads_it(check: Check, write: Write) -> None:
    odd = write(WARNING, 'h"o\\s\nté/etc/cinder/cinder.conf').parents[2]
    write(ERROR, "b/etc/nova/nova.conf")
    write(WARNING, "b/etc/cinder/cinder.conf")
    result = check("--hosts", odd.parent, "-f", "prometheus", "-c", "files")
    samples = [
        sample
        for family in text_string_to_metric_families(result.out)
        for sample in family.samples
    ]
    found = {
        (sample.name.removeprefix("hybrid_messaging_check_"), *sample.labels.values())
        for sample in samples
        if sample.value
    }
    assert found == {
        ("service_problems", "b", "nova", "error"),
        ("service_problems", "b", "cinder", "warning"),
        ("service_problems", 'h"o\\s?t?', "cinder", "warning"),
        ("problems", "b", "nova", "bad-url", "error"),
        ("problems", "b", "cinder", "no-notification-driver", "warning"),
        ("problems", 'h"o\\s?t?', "cinder", "no-notification-driver", "warning"),
        ("timestamp_seconds",),
    }
    zeros = [sample for sample in samples if sample.value == 0]
    assert len(zeros) == 3, "without them, an alert would not end"


def test_many_hosts(check: Check, write: Write, tmp_path: Path) -> None:
    for host in ("b", "a"):
        write(WARNING, f"{host}/etc/nova/nova.conf")
        write(WARNING, f"{host}/etc/cinder/cinder.conf")
    write(ERROR, "c/heat/heat.conf")
    (tmp_path / "database").mkdir()
    rows = json.loads(check("--hosts", tmp_path, "-f", "json").out)
    assert [(row["host"], row["service"]) for row in rows] == [
        *(("a", "cinder"), ("a", "nova"), ("b", "cinder"), ("b", "nova")),
        ("c", "heat"),
    ]
    lines = check("--hosts", tmp_path).out.splitlines()
    assert lines[0] == "error bad-url: heat on c"
    summary = lines[: lines.index(next(line for line in lines if line[0] == "+"))]
    assert "warning no-notification-driver: cinder, nova on a, b" in summary
    assert len([line for line in summary if line.startswith("  the service")]) == 1


def test_services_of_one_name_on_two_hosts_that_part(
    check: Check, write: Write, tmp_path: Path
) -> None:
    for number in range(3):
        write(SOUND, f"{number}/etc/cinder/cinder.conf")
    write(files(rpc="amqp://other/"), "3/etc/cinder/cinder.conf")
    rows = json.loads(check("--hosts", tmp_path, "-f", "json").out)
    found = [
        (row["host"], problem["code"]) for row in rows for problem in row["problems"]
    ]
    assert found == [("3", "rpc-elsewhere")]


def test_hosts_are_all_or_nothing(check: Check, write: Write, tmp_path: Path) -> None:
    result = check("--hosts", tmp_path, write(SOUND))
    assert result.code == 1 and "--hosts excludes FILE" in result.err
    (tmp_path / "cinder.conf").unlink()
    assert "no files given" in check("--hosts", tmp_path).err
    assert "is not a directory" in check("--hosts", tmp_path / "none").err


def test_the_bus_that_a_service_moves_away_from(check: Check, write: Write) -> None:
    text = (
        "[DEFAULT]\ntransport_url = {}\n[oslo_messaging_notifications]\ndriver = log\n"
    )
    moving = "migrate+amqp://u:hush@new/?from_url=rabbit%3A%2F%2Fu%3Ahush%40old%2Fv"
    path = write(text.format(moving))
    shown = check(path, "--no-connect")
    assert "from rabbit://u:***@old/v" in shown.out
    assert "RabbitMQ, queued" in shown.out
    [row] = check(path, "--no-connect", "-f", "json").rows
    assert row["rpc"]["from"]["url"] == "rabbit://u:***@old/v"
    assert row["rpc"]["from"]["engine"] == "RabbitMQ"
    assert row["rpc"]["from"]["from"] is None
    assert "hush" not in shown.out + str(row)
