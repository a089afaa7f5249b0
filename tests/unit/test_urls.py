# SPDX-License-Identifier: Apache-2.0
"""Transport URLs: built and parsed as oslo.messaging does, passwords hidden."""

from __future__ import annotations

import string

import pytest
from oslo_config import cfg
from oslo_messaging import TransportURL

from hybrid_messaging import urls

NASTY = [
    string.punctuation,
    "p@ss:w/rd?#[]%,",
    "%41 is no A",
    "пароль 密码 🔑",
    "with blank\tand tab",
    "'\"\\",
]


def upstream(url: str) -> TransportURL:
    return TransportURL.parse(cfg.ConfigOpts(), url)


@pytest.mark.parametrize("secret", NASTY)
def test_any_character_reaches_oslo_messaging(secret: str) -> None:
    url = urls.build("rabbit", [("h", 5672)], secret, secret, vhost=secret)
    parsed = upstream(url)
    assert parsed.hosts[0].username == secret
    assert parsed.hosts[0].password == secret
    assert parsed.virtual_host == secret
    assert parsed.hosts[0].hostname == "h"
    assert parsed.hosts[0].port == 5672


@pytest.mark.parametrize("secret", NASTY)
def test_any_character_survives_a_round_trip(secret: str) -> None:
    url = urls.build("amqp", [("h", 1)], secret, secret, secret, {"key": secret})
    parsed = urls.parse(url)
    assert parsed.hosts == (urls.Host("h", 1, secret, secret),)
    assert (parsed.vhost, parsed.query) == (secret, {"key": secret})
    assert str(parsed) == url


def test_several_hosts_and_ipv6() -> None:
    url = urls.build("amqp", [("::1", 5672), ("b.example", 5673)], "u", "p")
    assert url == "amqp://u:p@[::1]:5672,u:p@b.example:5673/"
    assert [host.host for host in urls.parse(url).hosts] == ["::1", "b.example"]


def test_what_is_not_given_is_not_there() -> None:
    assert urls.build("amqp", [("h", None)]) == "amqp://h/"
    assert urls.build("amqp", [("h", 1)], username="u") == "amqp://u@h:1/"
    assert urls.build("amqp", [("h", 1)], password="p") == "amqp://:p@h:1/"
    parsed = urls.parse("amqp://u@h:65535/")
    assert (parsed.vhost, parsed.hosts) == (None, (urls.Host("h", 65535, "u", None),))


def test_options_for_tls() -> None:
    assert urls.tls("rabbit", None) == {}
    assert urls.tls("rabbit", "/ca") == {"ssl": "true", "ssl_ca_file": "/ca"}


@pytest.mark.parametrize(
    "url",
    [
        "rabbit://u:p@h:5672/",
        "rabbit://u:p@h:5672//",
        "rabbit://u:p@h/nova_cell1",
        "kombu+memory://",
        "zmq+sentinel://h:26379/v?a=1&a=2&b=x%20y",
        # names beside IPv6 addresses depend on the release of Python there
        "amqp://u%40realm:p@[::1]:5672,u2:p2@[::2]:1/v",
        "rabbit://u:p@h1:1,h2:2/",
        "rabbit://:p@h/",
        "fake:/",
        "fake:",
        "fake://",
    ],
)
def test_parsed_as_oslo_messaging_parses(url: str) -> None:
    ours, theirs = urls.parse(url), upstream(url)
    assert ours.scheme == theirs.transport
    assert [
        (host.host, host.port, host.username, host.password) for host in ours.hosts
    ] == [
        (host.hostname, host.port, host.username, host.password)
        for host in theirs.hosts
    ]
    assert (ours.vhost or "") == (theirs.virtual_host or "")
    assert ours.query == theirs.query


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "it has the form"),
        ("localhost:5672", "it has the form"),
        ("rabbit:/u:hidden@h", "it has the form"),
        ("fake:/x", "it has the form"),
        ("rabbit://u:hid[den@h", "percent-encode"),
        ("rabbit://u:hid/den@h:1/", "percent-encode"),
        ("rabbit://u:hidden@h:port/", "percent-encode"),
        ("rabbit://u:hidden@h:70000/", "port is out of range"),
        ("rabbit://u:hidden@h:65536/", "port is out of range"),
    ],
)
def test_no_transport_url(url: str, reason: str) -> None:
    with pytest.raises(urls.UrlError, match=reason) as caught:
        urls.parse(url)
    if "://" in url:
        assert "den" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rabbit://u:secret@h:5672/v", "rabbit://u:***@h:5672/v"),
        ("transport_url = rabbit://u:secret@h", "transport_url = rabbit://u:***@h"),
        ("a://u:secret@h1:1,v:secret@h2:2/", "a://u:***@h1:1,v:***@h2:2/"),
        ("a://u:s,e@cret@h1:1,v:secret@h2/", "a://u:***@h1:1,v:***@h2/"),
        ("a://u:secret@[::1]:1/", "a://u:***@[::1]:1/"),
        ("a://:secret@h/", "a://:***@h/"),
        ("a://u:sec'ret@h/", "a://u:***@h/"),
        ("a://u:sec/ret@h/v", "a://u:***@h/v"),
        ("a://u:sec?ret@h/v", "a://u:***@h/v"),
        ("a://u:sec#ret@h/v", "a://u:***@h/v"),
        ("a://u:se@cret@h", "a://u:***@h"),
        ("'a://u:secret@h' b://u:secret@h", "'a://u:***@h' b://u:***@h"),
        ('"a://h:1/","b://u:secret@h"', '"a://h:1/","b://u:***@h"'),
        ("a://h/?ssl_key_password=secret&x=1", "a://h/?ssl_key_password=***&x=1"),
        ("a://h:1/v?x=1 mail@example.org", "a://h:1/v?x=1 mail@example.org"),
        ("rabbit://u:a@h,v:b/c@i/x", "rabbit://u:***@i/x"),
        ("nothing to hide: here@there", "nothing to hide: here@there"),
        ("u:secret@h", "u:***"),
        ("x:sec://ret@h", "x:***"),
        # a password with :// in it, and what looks like one
        ("a://u:se://cret@h", "a://u:***@h"),
        ("a://h:b://c", "a://h:***//c"),
        ("see http://h:8080", "see http://h:8080"),
        # no passwords: users and hosts stay
        ("a://user@h/", "a://user@h/"),
        ("a://u@h,v@i/", "a://u@h,v@i/"),
        ("a://h1:1,h2:2/", "a://h1:1,h2:2/"),
        # beside a password, what belongs to no password stays
        ("a://h1,u:secret@h2/", "a://h1,u:***@h2/"),
        ("a://[::1]:1,u:secret@h/", "a://[::1]:1,u:***@h/"),
        ("a://u@h:1,v:secret@i/", "a://u@h:1,v:***@i/"),
        ("a://u:s,ecret@h1:1,v:se,cret@h2/", "a://u:***@h1:1,v:***@h2/"),
        # behind a colon, a user may be the rest of a password
        ("a://u:secret@h1,q@h2/", "a://u:***@h1,***@h2/"),
        ("a://u:secret@h1,x@h2,q@h3/", "a://u:***@h1,***@h2,***@h3/"),
        ("a://u@h:1,q@i/", "a://u@h:1,***@i/"),
        ("see https://example.org:8080/docs", "see https://example.org:8080/docs"),
    ],
)
def test_redacted(text: str, shown: str) -> None:
    assert urls.redact(text) == shown


@pytest.mark.parametrize("secret", NASTY)
def test_a_built_url_is_redacted(secret: str) -> None:
    url = urls.build("rabbit", [("h", 1), ("i", 2)], "u", secret)
    assert urls.redact(f"see <{url}>") == "see <rabbit://u:***@h:1,u:***@i:2/>"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://h/?ssl_key_password=x'SECRET", "amqp://h/?ssl_key_password=***"),
        ("amqp://h/?ssl%5Fkey%5Fpassword=SECRET", "amqp://h/?ssl%5Fkey%5Fpassword=***"),
        ("rabbit://a:SEC RET@h/", "rabbit://a:***@h/"),
        ("amqp://h/?a=b&c=d", "amqp://h/?a=b&c=d"),
        ("amqp://h/u:SECRET", "amqp://h/***"),
        ("amqp://h/v?SECRET&a=b", "amqp://h/v?***&a=b"),
        ("amqp://h/v?x=SEC%40RET", "amqp://h/v?***"),
        ("rabbit:/u:SECRET@h", "rabbit:***"),
        ("u:SECRET@h", "***"),
        ("localhost", "localhost"),
    ],
)
def test_passwords_in_odd_places_are_not_shown(url: str, shown: str) -> None:
    assert urls.shown(url) == shown
