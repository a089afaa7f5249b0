# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a service's file: one row for it, and no password in that."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_messaging import urls
from hybrid_messaging.service_configs import checks, preview, rewriting
from hybrid_messaging.service_configs.document import Document
from hybrid_messaging.service_configs.errors import ServiceConfigError
from hybrid_messaging.service_configs.interpreter import Environment, Known
from hybrid_messaging.service_configs.rewriting import Target
from hybrid_messaging.service_configs.transports import Transports

SECRET = "S3CR3T"
#: Of an example that takes a tenth of a second.
SLOW = settings(max_examples=max(settings.default.max_examples // 5, 1))
ENVIRONMENT = Environment(
    dict.fromkeys(("amqp", "kafka", "rabbit", "zmq"), ""),
    {"messagingv2": ""},
    "18.0.0",
    {
        "DEFAULT": {"transport_url": Known()},
        "oslo_messaging_notifications": {"driver": Known(), "transport_url": Known()},
        "oslo_messaging_rabbit": {"amqp_durable_queues": Known()},
    },
)
TRANSPORTS = Transports(
    urls.parse("amqp://u:p@127.0.0.1:1/"), urls.parse("rabbit://u:p@127.0.0.1:2/")
)
SOUND = """[DEFAULT]
transport_url = amqp://h:1/
[oslo_messaging_notifications]
transport_url = rabbit://h:2/
driver = messagingv2
[oslo_messaging_rabbit]
amqp_durable_queues = true
"""

KEYS = st.sampled_from(
    [
        *(
            "transport_url",
            "driver",
            "topics",
            "control_exchange",
            "amqp_durable_queues",
        ),
        *("rpc_response_timeout", "connection", "messaging_urls", "a", "b", "password"),
        *("config_file", "config_dir", "url", "$a", "", "é", "\x1b[31m"),
    ]
)
SECTIONS = st.sampled_from(
    [
        *("DEFAULT", "default", "oslo_messaging_notifications", "database", "a", ""),
        *("OSLO_MESSAGING_RABBIT", "oslo_messaging_amqp", "notification", "a]b", "$a"),
        *("oslo_messaging_zmq", "oslo_messaging_kafka", "filter:ceilometer"),
    ]
)
VALUES = st.sampled_from(
    [
        *("$transport_url", "$a", "${b}", "$DEFAULT.a", "$a.b.c", "${", "$$", r"\$a"),
        *(f"a:{SECRET}@h", f"rabbit:/a:{SECRET}@h", f"rabbit://a:{SECRET}"),
        *(
            f"rabbit://a:{SECRET}@h:1,b:{SECRET}@[::1]:2/v?ssl=1",
            f"amqp://:{SECRET}@h/",
        ),
        *(f"rabbit://a:{SECRET}@h:70000/", f"kafka://a:b/{SECRET}@h:1", "zmq://h/"),
        *("rabbit://h/?no_such=1", "rabbit://h/?heartbeat_rate=x", "rabbit://h..x/"),
        *("messagingv2", "noop", "true", "1", "-1", "x", "9" * 5000, '"', "''", ""),
        *("\x1b]0;title\x07", "\u202e", "a\x0bb", "a\u2028b", "/etc", "fifo"),
    ]
)
LINES = st.one_of(
    st.builds("[{}]\n".format, SECTIONS),
    st.builds(
        "{}{}{}{}".format,
        KEYS,
        st.sampled_from([" = ", "=", ":", " : ", " ", "="]),
        VALUES,
        st.sampled_from(["\n", "\r\n", "\r", "\n\n", ""]),
    ),
    st.builds(" {}\n".format, VALUES),
    st.builds("# {} = {}\n".format, KEYS, VALUES),
    st.text(max_size=20),
)
FILES = st.builds("{}{}".format, st.just("[DEFAULT]\n"), st.lists(LINES).map("".join))
DATA = st.one_of(
    FILES.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(LINES).map(lambda lines: "".join(lines).encode("utf-8", "surrogatepass")),
    st.binary(),
)
NAMES = st.sampled_from(["nova.conf", "ceilometer.conf", "proxy-server.conf", "x.conf"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("files")
    (found / "cinder.conf").write_text(SOUND)
    return found


@SLOW
@given(name=NAMES, data=DATA)
def test_one_file_is_one_row(place: Path, name: str, data: bytes) -> None:
    (place / name).write_bytes(data)
    odd, sound = checks.check(
        [[place / name], [place / "cinder.conf"]], lambda _: ENVIRONMENT, None
    )
    # amqp:// may lead to a broker as well, and nobody has been asked
    assert (sound.service, sound.problems) == ("cinder", [])
    shown = [str(problem) for problem in odd.problems]
    shown += [urls.shown(route.text) for route in (odd.rpc, odd.notify) if route]
    assert SECRET not in "\n".join(shown)


@given(name=NAMES, data=DATA)
def test_a_file_is_rewritten_or_refused(place: Path, name: str, data: bytes) -> None:
    path = place / name
    path.write_bytes(data)
    try:
        (item,) = rewriting.plan([Target(path)], TRANSPORTS)
    except ServiceConfigError as error:
        assert str(path) in str(error)
        assert SECRET not in str(error)
        return
    assert path.read_bytes() == data
    again = Document(item.data, path)
    if item.service.rpc:
        assert again.value("DEFAULT", "transport_url") == str(TRANSPORTS.rpc)
    removed = [
        line
        for line in preview.diff(item.before, item.after).splitlines()
        if line.startswith("-") and "transport_url" in line
    ]
    assert SECRET not in "\n".join(removed)
    covered = 0
    for tag, i1, i2, j1, j2 in item.after.opcodes():
        assert i1 == covered
        covered = i2
        if tag == "equal":
            assert item.before.lines[i1:i2] == item.after.lines[j1:j2]
    assert covered == len(item.before.lines)
