# SPDX-License-Identifier: Apache-2.0
"""The options of [oslo_messaging_amqp]: names, defaults, sample configuration."""

from __future__ import annotations

import subprocess
import sys
import traceback
from pathlib import Path

import oslo_messaging
import pytest
from oslo_config import cfg
from oslo_messaging.exceptions import ConfigurationError

from hybrid_messaging.drivers import logs, opts
from hybrid_messaging.drivers.amqp import options
from hybrid_messaging.drivers.amqp.driver import AmqpDriver

#: oslo.messaging 14.9.0, _drivers/amqp1_driver/opts.py: what operators have set.
RETIRED = {
    "container_name": None,
    "idle_timeout": 0,
    "trace": False,
    "ssl": False,
    "ssl_ca_file": "",
    "ssl_cert_file": "",
    "ssl_key_file": "",
    "ssl_key_password": None,
    "ssl_verify_vhost": False,
    "sasl_mechanisms": "",
    "sasl_config_dir": "",
    "sasl_config_name": "",
    "sasl_default_realm": "",
    "connection_retry_interval": 1,
    "connection_retry_backoff": 2,
    "connection_retry_interval_max": 30,
    "link_retry_delay": 10,
    "default_reply_retry": 0,
    "default_reply_timeout": 30,
    "default_send_timeout": 30,
    "default_notify_timeout": 30,
    "default_sender_link_timeout": 600,
    "addressing_mode": "dynamic",
    "pseudo_vhost": True,
    "server_request_prefix": "exclusive",
    "broadcast_prefix": "broadcast",
    "group_request_prefix": "unicast",
    "rpc_address_prefix": "openstack.org/om/rpc",
    "notify_address_prefix": "openstack.org/om/notify",
    "multicast_address": "multicast",
    "unicast_address": "unicast",
    "anycast_address": "anycast",
    "default_notification_exchange": None,
    "default_rpc_exchange": None,
    "reply_link_credit": 200,
    "rpc_server_credit": 100,
    "notify_server_credit": 100,
    "pre_settled": ["rpc-cast", "rpc-reply"],
}
#: Those whose default was a defect.
CHANGED = {
    "connection_retry_interval_max",
    "default_send_timeout",
    "idle_timeout",
    "pre_settled",
}
ADDED = {"restart_timeout", "connect_timeout", "rebalance_interval", "ssl_version"}

DEFAULTS = {option.dest: option.default for option in options.OPTIONS}


def test_options_of_the_retired_driver_are_kept() -> None:
    assert DEFAULTS.keys() == RETIRED.keys() | ADDED


@pytest.mark.parametrize("name", sorted(RETIRED.keys() - CHANGED))
def test_defaults_of_the_retired_driver_are_kept(name: str) -> None:
    assert DEFAULTS[name] == RETIRED[name]


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_defaults_that_were_defects_are_not(name: str) -> None:
    assert DEFAULTS[name] != RETIRED[name]


def test_the_page_names_what_differs() -> None:
    page = (Path(__file__).parents[2] / "doc" / "source" / "amqp.rst").read_text()
    section = page.partition("Options that differ")[2].partition(
        "TLS and authentication"
    )[0]
    assert [name for name in CHANGED | ADDED if f"``{name}``" not in section] == []


def test_every_option_is_described() -> None:
    assert all(option.help.endswith(".") for option in options.OPTIONS)


def test_the_password_is_secret() -> None:
    secret = {option.dest for option in options.OPTIONS if option.secret}
    assert secret == {"ssl_key_password"}


def test_sample_configuration_shows_them(tmp_path: Path) -> None:
    sample = tmp_path / "sample.conf"
    subprocess.run(
        [
            Path(sys.executable).parent / "oslo-config-generator",
            "--namespace",
            "hybrid_messaging",
            "--output-file",
            sample,
        ],
        check=True,
        timeout=120,
    )
    text = sample.read_text()
    assert "[oslo_messaging_amqp]" in text
    for option in options.OPTIONS:
        assert f"\n#{option.dest} =" in text
    assert (options.GROUP, options.OPTIONS) in opts.list_opts()


# -- as the driver takes them ----------------------------------------------


def driver(query: str = "") -> AmqpDriver:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    transport = oslo_messaging.get_rpc_transport(conf, f"amqp://host/{query}")
    found = transport._driver
    assert isinstance(found, AmqpDriver)
    return found


def test_entry_point_leads_to_the_driver() -> None:
    assert driver()._options.restart_timeout == 60.0


def test_options_in_the_url_win() -> None:
    options = driver(
        "?restart_timeout=0.5&idle_timeout=3&ssl=true&pseudo_vhost=false"
        "&sasl_mechanisms=PLAIN%20EXTERNAL&pre_settled=rpc-cast"
    )._options
    assert options.restart_timeout == 0.5
    assert options.idle_timeout == 3
    assert options.ssl is True
    assert options.pseudo_vhost is False
    assert options.sasl_mechanisms == "PLAIN EXTERNAL"
    assert options.default_send_timeout == 60


@pytest.mark.parametrize(
    ("query", "settled"),
    [
        ("", {"rpc-reply"}),
        ("?pre_settled=rpc-cast", {"rpc-cast"}),
        ("?pre_settled=rpc-cast,%20RPC-Reply", {"rpc-cast", "rpc-reply"}),
    ],
)
def test_pre_settled_in_the_url(query: str, settled: set[str]) -> None:
    assert driver(query)._options.pre_settled == settled


def test_kinds_that_are_not_understood_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert driver("?pre_settled=rpc-cats")._options.pre_settled == {"rpc-cats"}
    assert logs.flush(60)
    assert "rpc-cats" in caplog.text
    assert "rpc-cast" in caplog.text


@pytest.mark.parametrize("scheme", ["amqp", "zmq"])
@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("restart_timeout=s3cret", "invalid value for restart_timeout, expected Float"),
        ("restart_timeout=-5330", "invalid value for restart_timeout, .*min=0"),
        (
            "rpc_server_credit=s3cret@host",
            "invalid value for rpc_server_credit, expected Integer",
        ),
        ("no_such_option=s3cret", "names no_such_option, which is not an option"),
        ("s3cret=s3cret@host", "names something, which is not an option"),
        ("s3cret@host/=1", "names something, which is not an option"),
    ],
)
def test_wrong_options_in_the_url_are_refused_without_their_values(
    scheme: str, query: str, reason: str
) -> None:
    """They may be a part of a password."""
    url = f"{scheme}://u:s3cret@host/?{query}"
    with pytest.raises(ConfigurationError, match=reason) as caught:
        oslo_messaging.get_rpc_transport(cfg.ConfigOpts(), url)
    shown = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in shown and "5330" not in shown
    assert f"[oslo_messaging_{scheme}]" in shown or "invalid value" in shown


def test_wrong_options_in_a_file_are_what_oslo_config_says(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text("[oslo_messaging_amqp]\nidle_timeout = soon\n")
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[str(path)])
    with pytest.raises(cfg.ConfigFileValueError, match="soon"):
        oslo_messaging.get_rpc_transport(conf, "amqp://host/?idle_timeout=1")


def test_pre_settled_may_be_empty() -> None:
    conf = cfg.ConfigOpts()
    conf.register_opts(
        options.OPTIONS, group=cfg.OptGroup(options.GROUP.name, options.GROUP.title)
    )
    conf.set_override("pre_settled", [""], options.GROUP.name)
    transport = oslo_messaging.get_rpc_transport(conf, "amqp://host/")
    assert transport._driver._options.pre_settled == frozenset()


def test_configurations_are_apart() -> None:
    first, second = cfg.ConfigOpts(), cfg.ConfigOpts()
    for conf in (first, second):
        oslo_messaging.get_rpc_transport(conf, "amqp://host/")
    first.set_override("idle_timeout", 77, options.GROUP.name)
    assert second.oslo_messaging_amqp.idle_timeout == DEFAULTS["idle_timeout"]
