# SPDX-License-Identifier: Apache-2.0
"""URLs of a migration: two buses and two passwords in one."""

from __future__ import annotations

import logging
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg
from oslo_messaging import Target
from oslo_messaging.exceptions import ConfigurationError
from tests.functional.rpc import configuration
from tests.unit.test_urls import NASTY

from hybrid_messaging import servers, urls
from hybrid_messaging.drivers import opts
from hybrid_messaging.drivers.migrate.driver import MigrateDriver
from hybrid_messaging.servers import options
from hybrid_messaging.servers.amqp import Amqp
from hybrid_messaging.servers.zmq import Zmq


def driver(
    url: str, conf: cfg.ConfigOpts | None = None, exchange: str | None = None
) -> MigrateDriver:
    conf = conf or configuration()
    found = oslo_messaging.get_rpc_transport(conf, url)._driver
    assert isinstance(found, MigrateDriver)
    return found


def moving(new: str, old: str, **more: str) -> str:
    """A URL as an operator's tool would build it."""
    parsed = urls.parse(new)
    query = {**parsed.query, "from_url": old, **more}
    hosts = parsed.hosts[0]
    return urls.build(
        f"migrate+{parsed.scheme}",
        [(hosts.host, hosts.port)],
        hosts.username,
        hosts.password,
        parsed.vhost,
        query,
    )


@pytest.mark.parametrize("secret", NASTY)
def test_both_buses_stand_in_one_url(secret: str) -> None:
    old = urls.build("rabbit", [("old", 5673)], "u", secret, "vold")
    new = urls.build("amqp", [("new", 5672)], "u", secret, "vnew", {"trace": "true"})
    found = driver(moving(new, old))
    for bus, transport, host, vhost in (
        (found._new, "amqp", "new", "vnew"),
        (found._old, "rabbit", "old", "vold"),
    ):
        seen = bus.driver._url
        assert (seen.transport, seen.virtual_host) == (transport, vhost)
        assert (seen.hosts[0].hostname, seen.hosts[0].password) == (host, secret)
    assert found._new.driver._options.trace is True


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ("zmq://h:1/", "rabbit://h:2/"),
        ("zmq+redis://h:1/", "amqp://h:2/"),
        ("amqp://h:1/", "zmq://h:2/"),
        ("rabbit://h:1/", "kombu://h:2/"),
        ("rabbit://h:1/", "amqp://h:2/"),
    ],
)
def test_any_two_of_three_kinds(new: str, old: str) -> None:
    found = driver(moving(new, old))
    assert found._new.driver._url.transport == new.partition(":")[0]
    assert found._old.driver._url.transport == old.partition(":")[0]


@pytest.mark.parametrize(
    ("new", "old"),
    [("kafka://h:1/", "rabbit://h:2/"), ("rabbit://h:1/", "kafka://u:SECRET@h:2/")],
)
def test_kafka_carries_notifications_alone(new: str, old: str) -> None:
    found = driver(moving(new, old))
    for bus, url in ((found._new, new), (found._old, old)):
        assert bus.notifying._url.transport == url.partition(":")[0]
    found.require_features()
    # whichever of the two is Kafka
    target = Target(topic="heat", server="a")
    for act in (
        lambda: found.send(target, {}, {}, wait_for_reply=True, timeout=1),
        lambda: found.listen(target, 1, None),
    ):
        with pytest.raises(ConfigurationError, match="notifications alone") as caught:
            act()
        assert "kafka://h" in str(caught.value)
        assert "SECRET" not in str(caught.value)
    found.cleanup()


def test_the_old_bus_may_stand_in_the_file() -> None:
    conf = configuration()
    conf.register_opts(*reversed(_migrate_options()))
    conf.set_override("from_url", "rabbit://file:1/", group="oslo_messaging_migrate")
    assert driver("migrate+amqp://h/", conf)._old.name == "rabbit://file:1"
    url = moving("amqp://h/", "rabbit://query:2/")
    assert driver(url, conf)._old.name == "rabbit://query:2"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("rabbit://h/", "rabbit://h"),
        ("rabbit://u:p@a:1,u:p@[::1]:2,u:p@[::2]/", "rabbit://a:1, [::1]:2, [::2]"),
        ("rabbit:///", "rabbit://"),
    ],
)
def test_the_name_of_a_bus(url: str, name: str) -> None:
    assert driver(moving("amqp://h/", url))._old.name == name


def test_the_old_bus_is_closed_if_the_new_one_cannot_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = driver(moving("amqp://h/", "zmq://h:1/"))
    closed: list[str] = []

    def fail() -> None:
        raise OSError("cannot close")

    monkeypatch.setattr(found._new, "close", fail)
    monkeypatch.setattr(found._old, "close", lambda: closed.append("old"))
    with pytest.raises(OSError, match="cannot close"):
        found.cleanup()
    assert closed == ["old"]


def _migrate_options() -> tuple[str, list[cfg.Opt]]:
    (found,) = (
        (group.name, known)
        for group, known in opts.list_opts()
        if group.name == "oslo_messaging_migrate"
    )
    return found


def test_who_waits_for_servers_is_the_driver_for_both() -> None:
    url = moving("amqp://h/?restart_timeout=7", "zmq://h:1/?restart_timeout=8")
    found = driver(url)
    assert found._sender._restart_timeout == 7
    for bus in (found._new, found._old):
        assert bus.driver._options.restart_timeout == 0
    # for a notification, nobody watches both
    assert found._old.notifying._options.restart_timeout == 8


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("migrate+amqp://u:SECRET@h/", "lacks the bus to move away from"),
        ("migrate+amqp://h/?from_url=u:SECRET@h", "from_url is no transport URL"),
        ("migrate+amqp://h/?from_url=rabbit://u:p@h:SECRET", "is no transport URL"),
        ("migrate+fake://h/?from_url=rabbit://u:SECRET@h", "'fake' is none of them"),
        ("migrate://u:SECRET@h/?from_url=rabbit://h", "'' is none of them"),
        (
            "migrate+amqp://h/?from_url=migrate%2Bamqp://u:SECRET@h",
            "'migrate' is none of them",
        ),
        ("migrate+amqp://h/?from_url=rabbit://h&nonsense=SECRET", "nonsense"),
        (
            "migrate+amqp://h/?from_url=rabbit://h&restart_timeout=SECRET",
            "restart_timeout",
        ),
    ],
)
def test_a_url_that_is_wrong_says_what_and_shows_no_password(
    url: str, said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        driver(url)
    assert said in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_the_old_password_is_no_option_that_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    conf = configuration()
    conf.register_opts(*reversed(_migrate_options()))
    url = "rabbit://u:SECRET@h/"
    conf.set_override("from_url", url, group="oslo_messaging_migrate")
    with caplog.at_level(logging.DEBUG):
        conf.log_opt_values(logging.getLogger(), logging.DEBUG)
        driver("migrate+amqp://h/", conf)
    assert "from_url" in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize("secret", [*NASTY, "plain"])
def test_neither_password_is_shown(secret: str) -> None:
    old = urls.build("rabbit", [("old", 1)], "u", f"{secret}SECRET")
    url = moving(urls.build("amqp", [("new", 2)], "u", f"{secret}SECRET"), old)
    for shown in (urls.shown(url), urls.redact(f"transport_url = {url}")):
        assert "SECRET" not in shown
        assert "new:2" in shown


def test_neither_password_is_shown_of_one_that_is_not_encoded() -> None:
    url = "migrate+amqp://u:SECRET@new:2/v?from_url=rabbit://u:SECRET@old:1/&a=b"
    for shown in (urls.shown(url), urls.redact(f"transport_url = {url}")):
        assert "SECRET" not in shown


@pytest.mark.parametrize(
    ("url", "kind", "destination"),
    [
        (
            "migrate+amqp://h:1/v?from_url=rabbit://o/&trace=true&restart_timeout=1",
            Amqp,
            "amqp://h:1/v?trace=true",
        ),
        ("migrate+zmq+sentinel://h:1/", Zmq, "zmq+sentinel://h:1/"),
        ("amqp://h:1/?restart_timeout=3", Amqp, "amqp://h:1/?restart_timeout=3"),
    ],
)
def test_the_servers_of_a_migration_are_those_that_it_leads_to(
    url: str, kind: Any, destination: str
) -> None:
    known = options.transport(options.defaults(), urls.parse(url))
    assert type(known) is kind
    assert str(known.url) == destination
    assert known.options is not None
    assert servers.get(urls.parse(url)).title == kind.title or kind is Zmq
