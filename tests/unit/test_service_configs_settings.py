# SPDX-License-Identifier: Apache-2.0
"""What is set in a service's file: transports, driver, durability, no more."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_config import cfg
from oslo_messaging import TransportURL

from hybrid_messaging import urls
from hybrid_messaging.service_configs import settings as wanted
from hybrid_messaging.service_configs.document import Document
from hybrid_messaging.service_configs.reading import load
from hybrid_messaging.service_configs.services import identify
from hybrid_messaging.service_configs.transports import Transports

AMQP = urls.parse("amqp://router:5672/")
RABBIT = urls.parse("rabbit://u:p@broker:5672/")
OTHER = urls.parse("rabbit://u:p@other:5672/")
KAFKA = urls.parse("kafka://log:9092/")
NOTIFY = "oslo_messaging_notifications"
GROUP = "oslo_messaging_rabbit"


def apply(
    text: str,
    rpc: urls.TransportURL = AMQP,
    notify: urls.TransportURL = RABBIT,
    name: str = "cinder.conf",
) -> Document:
    document = Document(text.encode(), name)
    wanted.apply(document, identify(name), rpc, notify)
    again = Document(document.dump(), name)
    wanted.apply(again, identify(name), rpc, notify)
    assert again.dump() == document.dump(), "not idempotent"
    return document


QUORUM = urls.parse("rabbit://u:p@broker:5672/?rabbit_quorum_queue=true")


@pytest.mark.parametrize(
    ("rpc", "group"),
    [
        # the exchange that both use has to be declared alike
        (RABBIT, "true"),
        (OTHER, None),
        (AMQP, "true"),
    ],
)
def test_a_url_that_asks_for_quorum_queues_stays_as_it_is(
    rpc: urls.TransportURL, group: str | None
) -> None:
    document = apply("", rpc, QUORUM)
    assert document.value(NOTIFY, "transport_url") == str(QUORUM)
    assert document.value(GROUP, "amqp_durable_queues") == group


def test_a_single_rabbitmq_becomes_two_transports() -> None:
    text = "[DEFAULT]\ntransport_url = rabbit://all\ndebug = true\n"
    assert apply(text).dump().decode() == (
        "[DEFAULT]\ntransport_url = amqp://router:5672/\ndebug = true\n\n"
        f"[{NOTIFY}]\ntransport_url = rabbit://u:p@broker:5672/\n"
        "driver = messagingv2\n\n"
        f"[{GROUP}]\namqp_durable_queues = true\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ["messagingv2"]),
        ("driver = noop\n", ["messagingv2"]),
        ("driver =\n", ["messagingv2"]),
        ("driver = noop\ndriver = noop\n", ["noop", "messagingv2"]),
        ("driver = messaging\n", ["messaging"]),
        ("driver = log\ndriver = routing\n", ["log", "routing"]),
        ("driver = noop\ndriver = messagingv2\n", ["noop", "messagingv2"]),
    ],
)
def test_a_driver_that_the_operator_chose_stays(before: str, after: list[str]) -> None:
    assert apply(f"[{NOTIFY}]\n{before}").values(NOTIFY, "driver") == after


def test_topics_stay() -> None:
    assert apply(f"[{NOTIFY}]\ntopics = a,b\n").values(NOTIFY, "topics") == ["a,b"]


@pytest.mark.parametrize(
    "name", ["keystone.conf", "glance-api.conf", "ceilometer.conf"]
)
def test_rpc_of_a_service_without_any_is_left_alone(name: str) -> None:
    document = apply("[DEFAULT]\ntransport_url = rabbit://all\n", name=name)
    assert document.value("DEFAULT", "transport_url") == "rabbit://all"
    assert document.value(NOTIFY, "transport_url") == str(RABBIT)
    assert document.value(GROUP, "amqp_durable_queues") == "true"


@pytest.mark.parametrize(
    ("text", "rpc", "notify", "group", "query"),
    [
        # the usual case: only notifications use this group
        ("", AMQP, RABBIT, "true", {}),
        ("amqp_durable_queues = false", AMQP, RABBIT, "true", {}),
        ("amqp_durable_queues = on", AMQP, RABBIT, "on", {}),
        ("rabbit_quorum_queue = True", AMQP, RABBIT, None, {}),
        # RPC's queues on the other RabbitMQ stay as they are
        ("", OTHER, RABBIT, None, {"amqp_durable_queues": "true"}),
        ("amqp_durable_queues = true", OTHER, RABBIT, "true", {}),
        # one RabbitMQ for both: exchanges are shared, so both have to agree
        ("", RABBIT, RABBIT, "true", {}),
        ("", AMQP, KAFKA, None, {}),
        ("", AMQP, AMQP, None, {}),
    ],
)
def test_notifications_in_rabbitmq_are_durable(
    text: str,
    rpc: urls.TransportURL,
    notify: urls.TransportURL,
    group: str | None,
    query: dict[str, str],
) -> None:
    document = apply(f"[{GROUP}]\n{text}\n", rpc, notify)
    assert document.value(GROUP, "amqp_durable_queues") == group
    url = urls.parse(document.value(NOTIFY, "transport_url") or "")
    assert url.query == query


@pytest.mark.parametrize(
    ("url", "text", "expected"),
    [
        ("kafka://u:p@log:9092/", "", "SASL_PLAINTEXT"),
        ("kafka://u:p@log:9092/", "security_protocol = SASL_SSL", "SASL_SSL"),
        ("kafka://u:p@log:9092/?security_protocol=SASL_SSL", "", None),
        ("kafka://log:9092/", "", None),
        (str(RABBIT), "", None),
    ],
)
def test_credentials_are_sent_to_kafka(
    url: str, text: str, expected: str | None
) -> None:
    document = apply(f"[oslo_messaging_kafka]\n{text}\n", notify=urls.parse(url))
    assert document.value("oslo_messaging_kafka", "security_protocol") == expected


SECRETS = st.text(min_size=1, max_size=20).filter(
    lambda text: not any("\ud800" <= char <= "\udfff" for char in text)
)


@settings(max_examples=200)
@given(user=SECRETS, password=SECRETS, vhost=SECRETS)
def test_the_service_sees_exactly_the_credentials_that_were_meant(
    tmp_path_factory: pytest.TempPathFactory, user: str, password: str, vhost: str
) -> None:
    rpc = urls.parse(urls.build("amqp", [("::1", 5672)], user, password, vhost))
    path = tmp_path_factory.getbasetemp() / "secrets.conf"
    path.write_bytes(apply("", rpc, RABBIT).dump())
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[str(path)], default_config_dirs=[], use_env=False)
    seen = TransportURL.parse(conf)
    assert seen.virtual_host == vhost
    [host] = seen.hosts
    assert (host.hostname, host.port) == ("::1", 5672)
    assert (host.username, host.password) == (user, password)


@pytest.mark.parametrize("secret", ["$my_ip", "a$$b", "${x}", r"\$y", "%24", "$"])
def test_dollars_are_not_taken_for_references(
    tmp_path_factory: pytest.TempPathFactory, secret: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "dollar.conf"
    url = urls.parse(urls.build("rabbit", [("h", 1)], secret, secret, secret))
    path.write_bytes(apply("", AMQP, url).dump())
    config = load([path])
    assert urls.parse(config.notify_url) == url


@pytest.mark.parametrize(
    ("rpc", "notify", "durable_rpc", "durable_notify"),
    [
        (AMQP, RABBIT, False, True),
        (RABBIT, RABBIT, True, True),
        (OTHER, RABBIT, False, True),
        (RABBIT, KAFKA, False, False),
    ],
)
def test_urls_alone_can_ask_for_durable_queues(
    rpc: urls.TransportURL,
    notify: urls.TransportURL,
    durable_rpc: bool,
    durable_notify: bool,
) -> None:
    found = wanted.in_urls(Transports(rpc, notify))
    for before, after, durable in (
        (rpc, found.rpc, durable_rpc),
        (notify, found.notify, durable_notify),
    ):
        query = "?amqp_durable_queues=true" if durable else ""
        assert str(after) == str(before) + query


@pytest.mark.parametrize(
    ("url", "query"),
    [
        ("kafka://u:p@log:9092/", "?security_protocol=SASL_PLAINTEXT"),
        ("kafka://u:p@log:9092/?security_protocol=SASL_SSL", ""),
        ("kafka://log:9092/", ""),
    ],
)
def test_urls_alone_can_send_credentials_to_kafka(url: str, query: str) -> None:
    found = wanted.in_urls(Transports(AMQP, urls.parse(url)))
    assert found == Transports(AMQP, urls.parse(url + query))


def test_swift_has_one_url_that_says_everything() -> None:
    text = "[filter:ceilometer]\nset log_level = WARN\nurl = rabbit://all/\n"
    document = apply(text, notify=RABBIT, name="proxy-server.conf")
    wanted_url = f"{RABBIT}?amqp_durable_queues=true"
    assert document.dump().decode() == text.replace("rabbit://all/", wanted_url)
