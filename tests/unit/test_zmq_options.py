# SPDX-License-Identifier: Apache-2.0
"""The options of the `zmq` driver, and how transport URLs choose its matchmaker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg
from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging.drivers import opts
from hybrid_messaging.drivers.zmq import matchmaker, options
from hybrid_messaging.drivers.zmq.driver import ZmqDriver

#: oslo.messaging 8.1.4: those that mean the same, and their defaults.
RETIRED = {
    "rpc_zmq_bind_address": "*",
    "rpc_zmq_host": None,
    "rpc_zmq_min_port": 49153,
    "rpc_zmq_max_port": 65536,
    "rpc_zmq_bind_port_retries": 100,
    "rpc_zmq_matchmaker": "redis",
    "use_router_proxy": False,
    "zmq_target_expire": 300,
    "zmq_target_update": 180,
}
#: Those whose default was a defect.
CHANGED = {
    "rpc_zmq_bind_address",
    "rpc_zmq_max_port",
    "zmq_target_expire",
    "zmq_target_update",
}

DEFAULTS = {option.dest: option.default for option in options.OPTIONS}


@pytest.mark.parametrize("name", sorted(RETIRED))
def test_options_of_the_retired_driver_are_kept(name: str) -> None:
    assert (DEFAULTS[name] == RETIRED[name]) is (name not in CHANGED)


def test_the_page_names_what_differs() -> None:
    page = (Path(__file__).parents[2] / "doc" / "source" / "zmq.rst").read_text()
    section = page.partition("Options of the retired driver")[2]
    assert [name for name in CHANGED if f"``{name}``" not in section] == []


def test_registrations_are_renewed_before_they_expire() -> None:
    assert DEFAULTS["zmq_target_update"] * 2 < DEFAULTS["zmq_target_expire"]


def test_every_option_is_described_and_listed() -> None:
    listed = dict(opts.list_opts())
    for group, found in (
        (options.GROUP, options.OPTIONS),
        (options.REDIS_GROUP, options.REDIS_OPTIONS),
    ):
        assert listed[group] == found
        assert all(option.help.endswith(".") for option in found)


def driver(url: str) -> Any:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    found = oslo_messaging.get_rpc_transport(conf, url)._driver
    assert isinstance(found, ZmqDriver)
    return found


def test_options_in_the_url_win() -> None:
    found = driver("zmq://host/?restart_timeout=0.5&rpc_zmq_min_port=50000")
    assert found._options.restart_timeout == 0.5
    assert found._options.rpc_zmq_min_port == 50000
    assert found._options.rpc_server_credit == DEFAULTS["rpc_server_credit"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("zmq://", "Redis at localhost:6379"),
        ("zmq://host/vhost", "Redis at host:6379"),
        ("zmq+redis://:secret@[::1]:7000", "Redis at [::1]:7000"),
        ("zmq+sentinel://a:1,b", "Sentinel at a:1, b:26379"),
        ("zmq://a?rpc_zmq_matchmaker=sentinel", "Sentinel at a:26379"),
        ("zmq+static:///?zmq_static_file=/some/file", "/some/file"),
    ],
)
def test_the_url_names_the_matchmaker(url: str, shown: str) -> None:
    assert str(driver(url)._open_matchmaker()) == shown


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("zmq+etcd://host", "not a matchmaker"),
        ("zmq://a,b", "use Sentinels"),
        ("zmq+static://", "zmq_static_file"),
    ],
)
def test_wrong_urls_are_refused(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        driver(url)


def test_notifications_are_refused_with_the_reason() -> None:
    found = driver("zmq://")
    for attempt in (
        lambda: found.listen_for_notifications([], None, 1, None),
        lambda: found.send_notification(None, {}, {}, 2.0),
    ):
        with pytest.raises(NotImplementedError, match="transport_url"):
            attempt()


def test_hosts_that_clients_are_told() -> None:
    def told(query: str) -> str:
        return options.host(driver(f"zmq://host/?{query}")._options)

    assert told("rpc_zmq_bind_address=10.0.0.1") == "10.0.0.1"
    assert told("rpc_zmq_bind_address=10.0.0.1&rpc_zmq_host=name") == "name"
    assert told("") not in ("0.0.0.0", "")


# -- the static matchmaker -------------------------------------------------


def static(path: Path) -> matchmaker.StaticMatchmaker:
    return matchmaker.StaticMatchmaker(str(path), None)


def test_static_files_tell_servers(tmp_path: Path) -> None:
    file = tmp_path / "servers"
    file.write_text("# comment\n\nopenstack volume host@lvm 10.0.0.1:5000\n")
    topic = matchmaker.topic(None, "openstack", "volume")
    found = static(file).read([topic, "other"])
    record = matchmaker.Record("host@lvm", "tcp://10.0.0.1:5000", "static")
    assert found[topic].records == (record,)
    assert found["other"].records == ()
    assert static(file).assigned(topic, "host@lvm") == record


@pytest.mark.parametrize("text", ["too few columns", "one or two columns too many"])
def test_static_files_with_mistakes_name_the_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "servers"
    file.write_text(f"# fine\n{text}\n")
    with pytest.raises(matchmaker.MatchmakerAway, match=f"{file}:2"):
        static(file).read(["topic"])


def test_static_files_that_are_missing_are_away(tmp_path: Path) -> None:
    with pytest.raises(matchmaker.MatchmakerAway, match="missing"):
        static(tmp_path / "missing").news(["topic"])


# -- names -----------------------------------------------------------------


def test_topics_of_other_virtual_hosts_and_exchanges_are_others() -> None:
    names = [
        matchmaker.topic(vhost, exchange, topic)
        for vhost in (None, "a", "a/b")
        for exchange in ("b", "b/c", "")
        for topic in ("c", "b/c", "c@d.e")
    ]
    assert len(set(names)) == len(names)
