# SPDX-License-Identifier: Apache-2.0
"""How far a migration is, by what two buses tell."""

from __future__ import annotations

import json
import subprocess
import types
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hybrid_messaging import urls
from hybrid_messaging.engines import EngineError
from hybrid_messaging.servers import census, rabbit_census
from hybrid_messaging.servers.census import Census, Listener, Process, Queue
from hybrid_messaging.service_configs import migration
from hybrid_messaging.service_configs.migration_status import (
    compare,
    files,
    notified,
    pairs,
)
from hybrid_messaging.service_configs.rewriting import Target

ONE, TWO = Process("10.0.0.1", "heat-api", 7), Process("10.0.0.2", "heat-api", 7)


def bus(
    *servers: str,
    processes: set[Process] | None = None,
    requests: dict[str, int] | None = None,
    **more: Any,
) -> Census:
    """A bus by its servers, such as `heat/one`."""
    listeners = Counter(Listener(*name.split("/")) for name in servers)
    return Census(
        "a test",
        listeners,
        None if processes is None else frozenset(processes),
        None if requests is None else Counter(requests),
        **more,
    )


def test_servers_are_sorted_by_the_buses_that_they_are_on() -> None:
    old = bus("heat/a", "heat/b", "heat/b", "nova/x")
    new = bus("heat/b", "heat/c", "cinder/y")
    found = compare((old, old), (new, new), 0)
    rows = {row.name: (row.old, row.both, row.new) for row in found.topics}
    assert rows == {
        "cinder": ([], [], ["y"]),
        # one of two processes of b has moved
        "heat": (["a", "b"], ["b"], ["c"]),
        "nova": (["x"], [], []),
    }
    assert found.missing == [
        "servers of heat on the old bus alone: a, b",
        "servers of nova on the old bus alone: x",
    ]


def test_a_bus_without_servers_is_not_ready() -> None:
    nobody = bus()
    found = compare((nobody, nobody), (nobody, nobody), 0)
    assert found.missing == ["no server listens on the new bus"]


def test_requests_over_the_old_bus_are_missing_and_counted() -> None:
    moved = ["heat/a"]
    old = [bus(*moved, requests={"heat": count, "gone": 7}) for count in (5, 8)]
    new = [bus(*moved, requests={"heat": count}) for count in (100, 102)]
    found = compare((old[0], old[1]), (new[0], new[1]), 10)
    (row,) = found.topics
    assert (row.over_old, row.over_new) == (3, 2)
    assert found.missing == ["3 requests for heat over the old bus within 10 s"]
    # a server that was started again counts anew
    found = compare((old[1], old[0]), (new[0], new[1]), 10)
    assert found.missing == []
    # nothing was counted, or is told
    for seconds, counting in ((0, old[0]), (10, bus(*moved))):
        found = compare((counting, counting), (new[0], new[1]), seconds)
        assert found.topics[0].over_old is None
        assert found.missing == []


@pytest.mark.parametrize(
    ("old", "new", "behind"),
    [
        ({ONE, TWO}, {ONE, TWO}, []),
        ({ONE, TWO}, {ONE}, [TWO]),
        # behind a proxy, all have one address
        ({ONE._replace(host="10.0.0.9")}, {ONE, TWO}, []),
        (
            {ONE._replace(host="10.0.0.9", pid=8)},
            {ONE},
            [ONE._replace(host="10.0.0.9", pid=8)],
        ),
        (None, {ONE}, None),
        ({ONE}, None, None),
    ],
)
def test_processes_that_are_left_behind(old: Any, new: Any, behind: Any) -> None:
    buses = [bus("heat/a", processes=each) for each in (old, new)]
    found = compare((buses[0], buses[0]), (buses[1], buses[1]), 0)
    assert found.processes == behind
    assert bool(found.missing) is bool(behind)
    assert bool(found.unknown) is (behind is None)


def test_what_is_not_seen_is_said() -> None:
    old, new = bus("heat/a", unseen=["this"]), bus("heat/a", unseen=["that"])
    found = compare((old, old), (new, new), 0)
    assert found.unknown[-2:] == ["old bus: this", "new bus: that"]


def notifications(**queues: Queue) -> Census:
    return bus(notifications={f"{name}.info": each for name, each in queues.items()})


def test_notifications_wait_until_they_are_read() -> None:
    full = notifications(nova=Queue(3, 0, 9), heat=Queue(0, 1, 5))
    found = notified(full, full, 10)
    assert found.missing == ["3 notifications wait in nova.info of the old bus"]
    assert found.unknown == []
    with pytest.raises(census.NotToldError, match="does not say"):
        notified(full, bus("heat/a"), 10)


def test_notifications_that_are_read_at_once_may_still_come() -> None:
    """A queue with consumers is empty although publishers are left."""
    before = notifications(
        heat=Queue(0, 1, 5), nova=Queue(0, 1, 7), first=Queue(0, 1, None)
    )
    after = notifications(
        heat=Queue(0, 1, 9),
        nova=Queue(0, 1, 2),
        first=Queue(0, 1, 3),
        new=Queue(0, 1, 4),
    )
    found = notified(before, after, 10)
    # RabbitMQ counts anew after a restart
    assert found.missing == [
        "3 notifications came to first.info of the old bus within 10 s",
        "4 notifications came to heat.info of the old bus within 10 s",
        "4 notifications came to new.info of the old bus within 10 s",
    ]
    assert found.unknown == []


@pytest.mark.parametrize(("arrived", "seconds"), [(None, 10), (5, 0)])
def test_what_is_not_counted_is_said(arrived: int | None, seconds: float) -> None:
    quiet = notifications(heat=Queue(0, 1, arrived))
    found = notified(quiet, quiet, seconds)
    assert found.missing == []
    assert found.unknown == ["whether notifications still come to the old bus"]


def test_virtual_hosts_of_one_bus_are_put_together() -> None:
    one = bus("heat/a", processes={ONE}, requests={"heat": 1}, unseen=["x"])
    two = bus("nova/a", "heat/a", processes={TWO}, requests={"heat": 2}, unseen=["x"])
    found = census.together([one, two])
    assert found.listeners == {Listener("heat", "a"): 2, Listener("nova", "a"): 1}
    assert found.processes == {ONE, TWO}
    assert found.requests == {"heat": 3}
    assert found.unseen == ["x"]
    # what one does not tell
    found = census.together([one, bus("nova/a")])
    assert (found.processes, found.requests) == (None, None)


def test_services_that_come_to_share_a_virtual_host_are_one_pair(
    tmp_path: Path,
) -> None:
    """And cells are not."""
    new = "amqp://new:1/"

    def found(*vhosts: str, keep: bool) -> list[tuple[str, int]]:
        plan = migration.Plan(urls.parse(new), keep)
        places = []
        for number, vhost in enumerate(vhosts):
            path = tmp_path / f"{number}.conf"
            path.write_text(f"[DEFAULT]\ntransport_url = rabbit://u:p@old/{vhost}\n")
            places.append(migration.look(Target(path), plan))
        return [(pair.name, len(pair.old.transports)) for pair in pairs(places, plan)]

    assert found("heat", "nova", keep=False) == [("/", 2)]
    assert found("heat", "nova", "heat", keep=True) == [("nova", 1), ("heat", 1)]


def test_files_that_have_not_been_moved_are_missing(tmp_path: Path) -> None:
    """Their services may not run, so that no bus knows of them."""
    old, new = "rabbit://u:p@old/", urls.parse("amqp://new:1/")
    moved = {"heat": old, "nova": str(urls.moving(new, old)), "manila": str(new)}
    places = []
    for name, url in moved.items():
        path = tmp_path / f"{name}.conf"
        path.write_text(f"[DEFAULT]\ntransport_url = {url}\n")
        places.append(migration.look(Target(path), migration.Plan(new)))
    assert list(files(places)) == [
        f"files that are only on the old bus: {tmp_path / 'heat.conf'}"
    ]


def test_queues_are_topics_and_servers() -> None:
    consumers = {
        "compute": 2,
        "compute.host-1.example.org": 1,
        "compute.host-2.example.org": 0,
        "cinder-volume": 1,
        "cinder-volume.a@lvm": 1,
        "cinder-volume.a@lvm.a@lvm": 1,
        "alone.with.dots": 1,
    }
    assert census.listeners(consumers) == {
        Listener("compute", "host-1.example.org"): 1,
        Listener("cinder-volume", "a@lvm"): 1,
        Listener("cinder-volume", "a@lvm.a@lvm"): 1,
    }


NAME = "heat-engine:12:6d5fb8f7-3c26-4d80-b8a5-0a7ea1ed2a5a"
QUEUES: list[dict[str, Any]] = [
    {"name": "heat", "messages": 0, "message_stats": {"publish": 5}},
    {"name": "heat.a", "messages": 0, "message_stats": {"publish": 2}},
    {"name": "heat_fanout_0123", "messages": 0, "message_stats": {"publish": 9}},
    {"name": "reply_0123", "messages": 0},
    {"name": "notifications.info", "messages": 4, "message_stats": {"publish": 6}},
    {"name": "unused"},
]


def management(path: str) -> Any:
    what = path.partition("?")[0]
    owner = {"connection_name": "c1"}
    return {
        "queues/%2F": QUEUES,
        "consumers/%2F": [
            {"queue": {"name": name}, "channel_details": details}
            for name, details in (
                ("heat", owner),
                ("heat.a", owner),
                ("reply_0123", {"connection_name": "c2"}),
                ("notifications.info", {"connection_name": "c3"}),
                # its channel has just been closed
                ("reply_0123", []),
            )
        ],
        "connections": [
            {
                "name": "c1",
                "vhost": "/",
                "peer_host": "10.0.0.1",
                "client_properties": {"connection_name": NAME},
            },
            {"name": "c2", "vhost": "/", "peer_host": "10.0.0.1"},
            {"name": "c3", "vhost": "other", "peer_host": "10.0.0.1"},
        ],
    }[what]


def test_what_the_management_of_rabbitmq_tells() -> None:
    found = rabbit_census.of_management(management, "/")
    assert found.listeners == {Listener("heat", "a"): 1}
    assert found.processes == {Process("10.0.0.1", "heat-engine", 12)}
    assert found.requests == {"heat": 7, "unused": 0}
    assert found.notifications == {"notifications.info": Queue(4, 1, 6)}
    assert len(found.unseen) == 1


def test_a_management_without_statistics_counts_nothing() -> None:
    def quiet(path: str) -> Any:
        found = management(path)
        return [{"name": each["name"]} for each in found] if "queues" in path else found

    found = rabbit_census.of_management(quiet, "/")
    assert found.requests is None
    assert any("no statistics" in text for text in found.unseen)


@pytest.mark.parametrize("answer", [None, [None], [{}], {"error": "no"}])
def test_odd_answers_of_the_management(answer: Any) -> None:
    with pytest.raises(EngineError, match="oddly"):
        rabbit_census.of_management(lambda path: answer, "/")


def test_what_rabbitmqctl_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "list_connections": [
            {
                "pid": "<1>",
                "peer_host": [10, 0, 0, 1],
                "peer_port": 1234,
                "client_properties": [["connection_name", "longstr", NAME]],
            }
        ],
        "list_queues": [{"name": each["name"], "messages": 0} for each in QUEUES],
        "list_consumers": [
            {"queue_name": name, "channel_pid": "<2>"} for name in ("heat", "heat.a")
        ],
        "list_channels": [{"pid": "<2>", "connection": "<1>"}],
    }

    def run(command: list[str], **_: Any) -> Any:
        return types.SimpleNamespace(stdout=json.dumps(answers[command[2]]))

    monkeypatch.setattr(subprocess, "run", run)
    found = rabbit_census.of_ctl("rabbitmqctl", "/", 1234)
    assert found.listeners == {Listener("heat", "a"): 1}
    assert found.processes == {Process("10.0.0.1", "heat-engine", 12)}
    assert found.requests is None
    assert found.unseen
    with pytest.raises(EngineError, match="another RabbitMQ"):
        rabbit_census.of_ctl("rabbitmqctl", "/", 4321)


@pytest.mark.parametrize(
    ("numbers", "address"),
    [
        ([10, 0, 0, 1], "10.0.0.1"),
        ([0x2001, 0xDB8, 0, 0, 0, 0, 0, 1], "2001:db8::1"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_addresses_of_rabbitmqctl(numbers: Any, address: str) -> None:
    assert rabbit_census._address(numbers) == address


def test_rabbitmqctl_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: Any) -> Any:
        raise subprocess.CalledProcessError(69, command, stderr=b"\nno node\nmore")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(EngineError, match=r"list_connections fails: no node$"):
        rabbit_census.of_ctl("rabbitmqctl", "/", 1)
