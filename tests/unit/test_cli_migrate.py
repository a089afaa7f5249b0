# SPDX-License-Identifier: Apache-2.0
"""`migrate plan`: what is to be done in which order, and Nova's cell mappings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from tests.functional import commands

from hybrid_messaging import urls

OLD, NEW = "rabbit://u:SECRET@old:5672/", "amqp://u:SECRET@new:5672/"
BOTH = str(urls.moving(urls.parse(NEW), OLD))


@pytest.fixture(autouse=True)
def new_bus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYBRID_RPC_URL", NEW)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def written(path: Path, url: str, more: str = "") -> Path:
    path.write_text(f"[DEFAULT]\ntransport_url = {url}\n{more}")
    return path


def planned(
    capsys: pytest.CaptureFixture[str], *words: object
) -> list[tuple[str, str, str]]:
    found = commands.run(capsys, "migrate", "plan", "-f", "json", *words)
    assert found.code == 0, found.err
    assert "SECRET" not in found.out + found.err
    rows: list[dict[str, Any]] = found.rows
    assert [row["order"] for row in rows if row["action"] != "none"] == list(
        range(1, 1 + sum(row["action"] != "none" for row in rows))
    )
    return [(Path(row["what"]).name, row["bus"], row["action"]) for row in rows]


@pytest.mark.parametrize(
    ("stages", "actions"),
    [
        ({"heat": OLD, "manila": OLD}, {"heat": "start", "manila": "start"}),
        # the first round is to be completed first
        (
            {"heat": BOTH, "manila": OLD, "magnum": OLD},
            {"manila": "start", "heat": "none", "magnum": "none"},
        ),
        ({"heat": BOTH, "manila": NEW}, {"heat": "finish", "manila": "none"}),
        # these do not reach each other
        ({"heat": OLD, "manila": NEW}, {"heat": "start", "manila": "start"}),
        ({"heat": NEW}, {"heat": "none"}),
    ],
)
def test_what_is_done_first(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    stages: dict[str, str],
    actions: dict[str, str],
) -> None:
    files = [written(tmp_path / f"{name}.conf", url) for name, url in stages.items()]
    found = planned(capsys, *files)
    assert [(name, action) for name, _, action in found] == [
        (f"{name}.conf", action) for name, action in actions.items()
    ]


def test_cell_mappings_follow_their_files(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path}/api.db"
    engine = sqlalchemy.create_engine(database)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "CREATE TABLE cell_mappings (uuid TEXT, name TEXT, transport_url TEXT,"
                " database_connection TEXT)"
            )
        )
        connection.execute(
            sqlalchemy.text(
                "INSERT INTO cell_mappings VALUES ('u1', 'cell1', :url, 'mysql://c1')"
            ),
            {"url": OLD},
        )
    more = f"[api_database]\nconnection = {database}\n"
    path = written(tmp_path / "nova.conf", OLD, more)
    assert planned(capsys, path)[-1] == ("cell cell1", "old", "start")
    for step, stage, action in (("start", "both", "update"), ("undo", "old", "start")):
        assert commands.run(capsys, "migrate", step, path).code == 0
        found = {name: each for name, *each in planned(capsys, path)}
        assert found["nova.conf"][0] == stage
        assert found["cell cell1"] == ["old", action]
    found = commands.run(capsys, "migrate", "start", path, "-f", "json")
    (row,) = found.rows
    (command,) = (step for step in row["next"] if "update_cell" in step)
    assert "--cell_uuid u1" in command
    engine.dispose()


@pytest.mark.parametrize(
    ("variable", "url", "words"),
    [
        ("HYBRID_RPC_URL", "kafka://u:SECRET@new/", []),
        ("HYBRID_RPC_URL", f"migrate+{NEW}", []),
        ("HYBRID_NOTIFY_URL", "zmq://u:SECRET@new/", ["--notifications"]),
    ],
)
def test_what_services_cannot_move_to(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
    url: str,
    words: list[str],
) -> None:
    monkeypatch.setenv(variable, url)
    path = written(tmp_path / "heat.conf", OLD)
    before = path.read_bytes()
    for step in ("plan", "start", "status"):
        found = commands.run(capsys, "migrate", step, *words, path)
        assert found.code in (1, 2)
        assert "://" in found.err
        assert "SECRET" not in found.err
    assert path.read_bytes() == before
