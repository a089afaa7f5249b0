# SPDX-License-Identifier: Apache-2.0
"""Nova's cell mappings, in a database as Nova makes it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import sqlalchemy

from hybrid_messaging.service_configs import cells
from hybrid_messaging.service_configs.cells import DatabaseUnread, NovaFile, outdated

CELL0 = ("00000000-0000-0000-0000-000000000000", "cell0", "none:///", "sqlite:///c0")
OLD = "rabbit://u:secret@old:5672/"
NEW = "amqp://router:5672/"


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'api.db'}"


def fill(database: str, *rows: tuple[str, str, str, str]) -> None:
    engine = sqlalchemy.create_engine(database)
    with engine.begin() as connection:
        # the columns of nova/db/api/models.py
        connection.execute(
            sqlalchemy.text(
                "CREATE TABLE cell_mappings (id INTEGER PRIMARY KEY, uuid VARCHAR(36),"
                " name VARCHAR(255), transport_url TEXT, database_connection TEXT,"
                " disabled BOOLEAN)"
            )
        )
        for row in (CELL0, *rows):
            connection.execute(
                sqlalchemy.text(
                    "INSERT INTO cell_mappings"
                    " (uuid, name, transport_url, database_connection, disabled)"
                    " VALUES (:uuid, :name, :url, :database, 0)"
                ),
                dict(zip(("uuid", "name", "url", "database"), row, strict=True)),
            )
    engine.dispose()


def nova(
    database: str | None,
    cell_database: str = "sqlite:///c1",
    now: str = NEW,
    before: str = OLD,
    name: str = "/etc/nova/nova.conf",
) -> NovaFile:
    return NovaFile(Path(name), now, before, cell_database, database)


def test_the_cell_with_the_same_database(database: str) -> None:
    fill(database, ("uuid-1", "cell1", OLD, "sqlite:///c1"))
    [cell] = outdated([nova(database)])
    assert cell.name == "cell1"
    assert cell.transport_url == "rabbit://u:***@old:5672/"
    assert cell.command == (
        "nova-manage --config-file /etc/nova/nova.conf cell_v2 update_cell "
        "--cell_uuid uuid-1"
    )


def test_a_cell_with_files_of_its_own(database: str) -> None:
    """As DevStack sets it up: nova.conf has cell0's database."""
    fill(
        database,
        ("uuid-1", "cell1", OLD + "nova_cell1", "sqlite:///c1"),
        ("uuid-2", "cell2", "rabbit://elsewhere/", "sqlite:///c2"),
    )
    files = [
        nova(database, "sqlite:///c0"),
        nova(None, now=NEW + "nova_cell1", name="/etc/nova/nova_cell1.conf"),
    ]
    [cell] = outdated(files)
    assert cell.command == (
        "nova-manage --config-file /etc/nova/nova.conf "
        "--config-file /etc/nova/nova_cell1.conf cell_v2 update_cell "
        "--cell_uuid uuid-1"
    )


def test_the_cell_with_the_same_former_url_keeps_its_database(database: str) -> None:
    fill(
        database,
        ("uuid-1", "cell1", OLD, "mysql://u:hush@db/c1"),
        ("uuid-2", "cell2", "rabbit://elsewhere/", "sqlite:///c2"),
    )
    [cell] = outdated([nova(database, "sqlite:///c0")])
    assert "--database_connection" in cell.command
    assert "list_cells --verbose" in cell.command
    assert "hush" not in cell.command


def test_the_only_cell_is_that_of_nova_conf(database: str) -> None:
    fill(database, ("uuid-1", "cell1", "rabbit://other/", "sqlite:///c1"))
    [cell] = outdated([nova(database, "sqlite:///c0")])
    assert cell.command.endswith("--database_connection sqlite:///c1")


def test_mappings_that_are_right_need_nothing(database: str) -> None:
    fill(database, ("uuid-1", "cell1", NEW, "sqlite:///c1"))
    assert outdated([nova(database)]) == []


@pytest.mark.parametrize(
    ("template", "right"),
    [
        ("{scheme}://{hostname}:{port}/{path}?{query}", True),
        ("rabbit://{username}:{password}@{hostname}:{port}/{path}", False),
        ("{scheme}://{hostname1}:{port1},{hostname2}:{port2}/", False),
        ("{scheme}://{nonsense}/", False),
    ],
)
def test_a_template_follows_nova_conf(
    database: str, template: str, right: bool
) -> None:
    fill(database, ("uuid-1", "cell1", template, "sqlite:///c1"))
    assert (outdated([nova(database)]) == []) is right


def test_a_template_of_several_servers(database: str) -> None:
    url = "amqp://u:p@a:1,v:q@b:2/x"
    fill(
        database,
        (
            "uuid-1",
            "cell1",
            "{scheme}://{username1}:{password1}@{hostname1}:{port1},"
            "{username2}:{password2}@{hostname2}:{port2}/{path}",
            "sqlite:///c1",
        ),
    )
    assert outdated([nova(database, now=url)]) == []


def test_without_a_database_nothing_is_known() -> None:
    with pytest.raises(DatabaseUnread, match="names Nova's API database"):
        outdated([nova(None)])


@pytest.mark.parametrize(
    "connection", ["sqlite:////nonexistent/x.db", "nonsense://u:secret@h/", "nonsense"]
)
def test_a_database_that_does_not_answer(connection: str) -> None:
    with pytest.raises(DatabaseUnread) as caught:
        outdated([nova(connection)])
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_sqlalchemy(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(DatabaseUnread, match="SQLAlchemy is not installed"):
        cells.read_mappings(database)
