# SPDX-License-Identifier: Apache-2.0
"""Which bus a file is on during a migration, and what each step makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_messaging import urls
from hybrid_messaging.service_configs import migration
from hybrid_messaging.service_configs.document import Document
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.migration import Plan, Stage, of_url
from hybrid_messaging.service_configs.rewriting import Target

OLD = "rabbit://nova:S%40CRET@old:5672/nova"
NEW = "amqp://u:NEW@new:5672/"
BOTH = str(urls.moving(urls.parse(NEW), OLD))
BACK = str(urls.moving(urls.parse("rabbit://nova:SECRET@old:5672/nova"), NEW))
PLAN = Plan(urls.parse(NEW))


def written(path: Path, rpc: str | None, notify: str = "", more: str = "") -> Path:
    text = "[DEFAULT]\n" + (f"transport_url = {rpc}\n" if rpc else "")
    if notify:
        text += f"[oslo_messaging_notifications]\ntransport_url = {notify}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + more)
    return path


def after(
    path: Path, step: migration.Step, plan: Plan = PLAN, vhost: str | None = None
) -> Document:
    (found,) = migration.rewrites([Target(path, vhost)], plan, step)
    return found.after


def rpc(document: Document) -> str | None:
    return document.value("DEFAULT", "transport_url")


def notify(document: Document) -> str | None:
    return document.value("oslo_messaging_notifications", "transport_url")


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        (OLD, Stage.OLD),
        ("zmq://redis:6379/", Stage.OLD),
        ("amqp://u:p@another:5672/", Stage.OLD),
        # the same server, and another virtual host
        ("amqp://u:p@new:5672/cell1", Stage.OLD),
        (NEW, Stage.NEW),
        # with other credentials, the default port, or one host of several
        ("amqp://other:p@new/", Stage.NEW),
        ("amqp://a:1,new:5672/", Stage.NEW),
        (BOTH, Stage.BOTH),
        # it prefers the old bus, on the way back
        (BACK, Stage.BOTH),
        (str(urls.moving(urls.parse("zmq://redis/"), OLD)), Stage.FOREIGN),
        ("kafka://h:9092/", Stage.FOREIGN),
        ("fake:/", Stage.FOREIGN),
        ("no url", Stage.FOREIGN),
        ("rabbit://u:$password@old:5672/", Stage.FOREIGN),
        ("migrate+amqp://u:p@new:5672/?from_url=u:SECRET@h", Stage.FOREIGN),
    ],
)
def test_the_stage_of_a_url(text: str, stage: Stage) -> None:
    found = of_url(text, PLAN.new)
    assert found.stage is stage
    assert bool(found.reason) is (stage is Stage.FOREIGN)
    assert "SECRET" not in found.reason


def test_both_buses_are_found_whichever_is_preferred() -> None:
    for text in (BOTH, BACK):
        found = of_url(text, PLAN.new)
        assert urls.parse(found.new or "").hosts[0].host == "new"
        assert urls.parse(found.old or "").vhost == "nova"


def test_the_old_bus_may_stand_beside_the_url() -> None:
    found = of_url(f"migrate+{NEW}", PLAN.new, beside=OLD)
    assert found == migration.Buses(Stage.BOTH, NEW, OLD)
    assert of_url(NEW, PLAN.new, beside=OLD).stage is Stage.NEW


def test_there_and_back(tmp_path: Path) -> None:
    """Each step, each twice; the old URL returns as it was written."""
    path = written(tmp_path / "heat.conf", OLD)
    start, finish, undo = migration.start, migration.finish, migration.undo
    for step, url in (
        (start, BOTH),
        (finish, NEW),
        (start, BOTH),
        (undo, OLD),
        (start, BOTH),
        (undo, OLD),
    ):
        for _ in range(2):
            document = after(path, step)
            assert rpc(document) == url
            assert notify(document) == OLD
            path.write_bytes(document.dump())


def test_each_file_keeps_its_own_old_url_and_notifications(tmp_path: Path) -> None:
    other = "rabbit://glance:X@old:5672/"
    stays = "rabbit://n:N@notify:5672/"
    files = [
        written(tmp_path / "heat.conf", OLD, more="[x]\ny = 1\n"),
        written(tmp_path / "cinder.conf", other, stays),
    ]
    plan = Plan(PLAN.new, keep_vhosts=True)
    first, second = migration.rewrites(list(map(Target, files)), plan, migration.start)
    for item, old, vhost in ((first, OLD, "nova"), (second, other, None)):
        url = urls.parse(rpc(item.after) or "")
        assert urls.origin(url) == old
        assert urls.destination(url).vhost == vhost
    assert notify(first.after) == OLD
    assert notify(second.after) == stays
    assert b"[x]\ny = 1\n" in first.data


@pytest.mark.parametrize(
    ("text", "step", "said"),
    [
        (OLD, migration.finish, "is only on the old bus"),
        (NEW, migration.undo, "is only on the new bus"),
        (NEW, migration.start, "HYBRID_OLD_URL"),
    ],
)
def test_no_file_leaves_those_it_has_to_reach(
    tmp_path: Path, text: str, step: migration.Step, said: str
) -> None:
    path = written(tmp_path / "heat.conf", text)
    with pytest.raises(ServiceConfigError, match=said) as caught:
        after(path, step)
    assert "SECRET" not in str(caught.value)
    assert "CRET" not in str(caught.value)


def test_one_file_keeps_all_from_a_step(tmp_path: Path) -> None:
    files = [
        written(tmp_path / "heat.conf", BOTH),
        written(tmp_path / "cinder.conf", OLD),
    ]
    with pytest.raises(ServiceConfigError, match=r"cinder\.conf"):
        migration.rewrites(list(map(Target, files)), PLAN, migration.finish)


def test_the_old_url_may_be_given(tmp_path: Path) -> None:
    path = written(tmp_path / "heat.conf", NEW)
    plan = Plan(PLAN.new, old=OLD)
    assert rpc(after(path, migration.start, plan)) == BOTH


def test_who_prefers_a_bus_that_stores_turns_first(tmp_path: Path) -> None:
    """What is sent while a service leaves would stay on the new bus."""
    newer = "rabbit://u:p@newer:5672/"
    path = written(tmp_path / "heat.conf", OLD)
    plan, back = Plan(urls.parse(newer)), Plan(urls.parse(OLD))
    path.write_bytes(after(path, migration.start, plan).dump())
    with pytest.raises(ServiceConfigError, match="first have it prefer the old one"):
        after(path, migration.undo, plan)
    path.write_bytes(after(path, migration.start, back).dump())
    url = urls.parse(rpc(Document(path.read_bytes(), path)) or "")
    assert str(urls.destination(url)) == str(urls.parse(OLD))
    assert urls.origin(url) == newer
    for step, used in ((migration.undo, plan), (migration.finish, back)):
        assert urls.parse(rpc(after(path, step, used)) or "") == urls.parse(OLD)


@pytest.mark.parametrize(
    ("name", "text", "more"),
    [
        ("heat.conf", None, ""),
        ("heat.conf", "kafka://h/", ""),
        ("ironic.conf", OLD, "rpc_transport = json-rpc\n"),
        # notifications go over its RPC transport
        ("magnum.conf", OLD, ""),
    ],
)
def test_what_has_no_part_is_left_as_it_is(
    tmp_path: Path, name: str, text: str | None, more: str
) -> None:
    path = written(tmp_path / name, text, more=more)
    for step in (migration.start, migration.finish, migration.undo):
        found = migration.rewrites([Target(path)], PLAN, step)
        assert not found[0].changes
    (warning,) = migration.warnings(found[0], found, PLAN)
    assert "left as it is" in warning


def test_cells_are_kept_apart(tmp_path: Path) -> None:
    files = [
        Target(written(tmp_path / "nova/nova.conf", OLD)),
        Target(written(tmp_path / "nova/nova_cell1.conf", f"{OLD}_cell1")),
    ]
    with pytest.raises(ServiceConfigError, match="--keep-vhosts"):
        migration.rewrites(files, PLAN, migration.start)
    kept = migration.rewrites(files, Plan(PLAN.new, True), migration.start)
    vhosts = [urls.destination(item.rpc).vhost for item in kept if item.rpc]
    assert vhosts == ["nova", "nova_cell1"]
    named = [files[0]._replace(vhost="a"), files[1]._replace(vhost="b")]
    found = migration.rewrites(named, PLAN, migration.start)
    assert [urls.destination(item.rpc).vhost for item in found if item.rpc] == [
        "a",
        "b",
    ]


def test_notifications_move_by_themselves(tmp_path: Path) -> None:
    old, new = "rabbit://n:N@old:5672/", "rabbit://n:N@newer:5672/"
    path = written(tmp_path / "heat.conf", NEW, old)
    plan = Plan(urls.parse(new), notifications=True)
    for step in (migration.start, migration.finish):
        path.write_bytes(after(path, step, plan).dump())
        assert rpc(Document(path.read_bytes(), path)) == NEW
    assert notify(Document(path.read_bytes(), path)) == new


def test_notifications_move_to_kafka_and_rpc_does_not(tmp_path: Path) -> None:
    old, new = "rabbit://n:N@old:5672/", "kafka://n:N@kafka:9092/"
    path = written(tmp_path / "heat.conf", NEW, old)
    plan = Plan(urls.parse(new), notifications=True)
    path.write_bytes(after(path, migration.start, plan).dump())
    both = notify(Document(path.read_bytes(), path)) or ""
    assert both == str(urls.moving(urls.parse(new), old))
    # Kafka stores what nobody reads: first, publishers return to the old bus
    with pytest.raises(ServiceConfigError, match="keeps what is sent"):
        after(path, migration.undo, plan)
    back = Plan(urls.parse(old), notifications=True)
    for step, url in (
        (migration.start, str(urls.moving(urls.parse(old), new))),
        (migration.finish, old),
    ):
        path.write_bytes(after(path, step, back).dump())
        assert notify(Document(path.read_bytes(), path)) == url
    assert rpc(Document(path.read_bytes(), path)) == NEW
    # what has left its old bus returns to one that the operator names
    path = written(tmp_path / "heat.conf", NEW, new)
    named = Plan(urls.parse(new), notifications=True, old=old)
    path.write_bytes(after(path, migration.start, named).dump())
    assert notify(Document(path.read_bytes(), path)) == both

    path = written(tmp_path / "heat.conf", new, old)
    place = migration.look(Target(path), PLAN)
    assert place.buses.stage is Stage.FOREIGN
