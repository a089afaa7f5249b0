# SPDX-License-Identifier: Apache-2.0
"""`check` against a real RabbitMQ, real routers, and what is neither."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import amqp
import kombu
import pytest
import sqlalchemy
import trustme
from tests.functional import commands, matchmakers, routers
from tests.functional.commands import Result
from tests.functional.conftest import MakeRouter
from tests.functional.deployments import deployed
from tests.functional.waiting import until

from hybrid_messaging import state, urls
from hybrid_messaging.engines import rabbitmq_management
from hybrid_messaging.engines.kinds import rabbitmq
from hybrid_messaging.service_configs import interpreter

Check = Callable[..., Result]

NOTIFICATIONS = "oslo_messaging_notifications"
VHOST = "check"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[state.Engine]:
    """A private RabbitMQ."""
    with deployed(tmp_path_factory.mktemp("node") / "state") as made:
        made.up("rabbit")
        engine = made.engine("rabbitmq")
        rabbitmq_management.add_vhost(engine, VHOST)
        yield engine


@pytest.fixture
def notify(node: state.Engine) -> str:
    """A transport URL that is right."""
    return urls.build(
        "rabbit",
        [(node.host, node.port)],
        node.details.username,
        node.details.password,
        VHOST,
    )


#: Asking an interpreter takes longer than all else; its answer stays the same.
ask = functools.cache(interpreter.ask)


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setattr(interpreter, "ask", ask)

    def call(*words: object) -> Result:
        return commands.run(capsys, "check", *words)

    return call


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """Writes a service's file as `configure` would."""

    def write(rpc: str, notify: str, more: str = "", name: str = "cinder.conf") -> Path:
        path = tmp_path / name
        path.write_text(
            f"[DEFAULT]\ntransport_url = {rpc}\n\n[{NOTIFICATIONS}]\n"
            f"transport_url = {notify}\ndriver = messagingv2\n\n"
            f"[oslo_messaging_rabbit]\namqp_durable_queues = true\n{more}"
        )
        return path

    return write


def problems(result: Result) -> list[tuple[str, str]]:
    [row] = result.rows
    return [(item["severity"], item["code"]) for item in row["problems"]]


def other(url: str, **parts: Any) -> str:
    """A URL like another one, apart from some of its parts."""
    parsed = urls.parse(url)
    [host] = parsed.hosts
    given: dict[str, Any] = {
        "hosts": [(host.host, host.port)],
        "username": host.username,
        "password": host.password,
        "vhost": parsed.vhost,
        **parts,
    }
    return urls.build(parsed.scheme, **given)


# -- what is right -----------------------------------------------------------


def test_a_sound_service(
    check: Check,
    config: Callable[..., Path],
    bus: routers.Router,
    notify: str,
    node: state.Engine,
) -> None:
    path = config(bus.url("some"), notify)
    result = check(path, "-f", "json")
    assert result.code == 0
    product = "hybrid-messaging-router" if bus.kind == "embedded" else "skupper-router"
    [row] = result.rows
    [note] = row.pop("notes")
    assert note["code"] == "waits-without-end"
    assert row == {
        "service": "cinder",
        "files": [str(path)],
        "rpc": {
            "url": bus.url("some"),
            "engine": product,
            "delivery": "direct",
            "durable": None,
            "encryption": None,
            "from": None,
        },
        "notifications": {
            "url": urls.redact(notify),
            "engine": "RabbitMQ",
            "delivery": "queued",
            "durable": True,
            "encryption": None,
            "from": None,
            "drivers": ["messagingv2"],
            "topics": ["notifications"],
        },
        "problems": [],
        "unseen": [
            f"policies, nodes and replicas of {node.host}:{node.port}, which "
            "only its management reports: add --rabbitmq-management"
        ],
    }


def test_what_people_see(
    check: Check, config: Callable[..., Path], notify: str, node: state.Engine
) -> None:
    path = config("amqp://127.0.0.1:1/", notify)
    result = check(path)
    assert result.code == 1
    assert "RabbitMQ, queued, durable" in result.out
    assert "messagingv2 → notifications" in result.out
    assert "1 error" in result.out
    assert "cinder: error: 127.0.0.1:1 cannot be reached" in result.out
    assert f"({path}, line 2)" in result.out
    assert "cure: start the server" in result.out
    assert "connecting to amqp://127.0.0.1:1/" in result.err
    assert node.details.password not in result.out + result.err


def test_warnings_alone_can_be_accepted(
    check: Check, config: Callable[..., Path], notify: str
) -> None:
    path = config(notify, notify)
    result = check(path, "-f", "json")
    assert (result.code, problems(result)) == (1, [("warning", "shared-backend")])
    assert check(path, "--ignore-warnings").code == 0


def test_without_connecting(check: Check, config: Callable[..., Path]) -> None:
    path = config("amqp://nowhere.invalid/", "rabbit://u:p@nowhere.invalid/")
    assert check(path, "--no-connect").code == 0


# -- RabbitMQ ----------------------------------------------------------------


def test_a_wrong_password(
    check: Check, config: Callable[..., Path], bus: routers.Router, notify: str
) -> None:
    result = check(config(bus.url(), other(notify, password="hush")), "-f", "json")
    assert (result.code, problems(result)) == (1, [("error", "wrong-credentials")])
    [row] = result.rows
    assert "refuses user" in row["problems"][0]["message"]
    assert "rabbitmqctl change_password" in row["problems"][0]["cure"]
    assert "hush" not in result.out + result.err


def test_a_missing_virtual_host(
    check: Check, config: Callable[..., Path], bus: routers.Router, notify: str
) -> None:
    result = check(config(bus.url(), other(notify, vhost="nope")), "-f", "json")
    assert problems(result) == [("error", "vhost-missing")]
    [problem] = result.rows[0]["problems"]
    assert "has no virtual host 'nope'" in problem["message"]
    assert "rabbitmqctl add_vhost 'nope'" in problem["cure"]


def test_a_virtual_host_that_the_user_may_not_use(
    check: Check,
    config: Callable[..., Path],
    bus: routers.Router,
    notify: str,
    node: state.Engine,
) -> None:
    user = f"stranger-{bus.kind}"
    wrong, right = ({"password": word, "tags": ""} for word in ("p/$%@", "p$%@"))
    rabbitmq_management.request(node, "PUT", f"users/{user}", wrong)
    url = other(notify, username=user, password="p$%@")
    assert problems(check(config(bus.url(), url), "-f", "json")) == [
        ("error", "wrong-credentials")
    ]
    rabbitmq_management.request(node, "PUT", f"users/{user}", right)
    result = check(config(bus.url(), url), "-f", "json")
    assert problems(result) == [("error", "vhost-missing")]
    assert f"denies user {user} access" in result.out
    rabbitmq_management.request(
        node,
        "PUT",
        f"permissions/{VHOST}/{user}",
        {"configure": ".*", "write": ".*", "read": ".*"},
    )
    assert check(config(bus.url(), url)).code == 0


def test_several_servers(
    check: Check,
    config: Callable[..., Path],
    bus: routers.Router,
    notify: str,
    node: state.Engine,
) -> None:
    closed = (node.host, routers.free_port())
    one = other(notify, hosts=[closed, (node.host, node.port)])
    result = check(config(bus.url(), one), "-f", "json")
    assert problems(result) == [("warning", "unreachable")]
    none = other(notify, hosts=[closed, (node.host, routers.free_port())])
    result = check(config(bus.url(), none), "-f", "json")
    assert problems(result) == [
        *[("error", "unreachable")] * 2,
        ("warning", "waits-without-end"),
    ]


def test_queues_of_former_days(
    check: Check, config: Callable[..., Path], bus: routers.Router, notify: str
) -> None:
    """What a service has left that published without durable queues."""
    url = notify.replace("rabbit://", "amqp://")
    path = config(bus.url(), notify, name="nova.conf")
    with kombu.Connection(url) as connection:
        exchange = kombu.Exchange("nova", "topic", durable=False)
        queue = kombu.Queue(
            "notifications.info", exchange, durable=False, channel=connection
        )
        queue.declare()
        result = check(path, "-f", "json")
        assert problems(result) == [("error", "not-durable-on-server")] * 2
        messages = [item["message"] for item in result.rows[0]["problems"]]
        assert messages[0].startswith("exchange nova exists")
        assert messages[1].startswith("queue notifications.info exists")
        wanted = config(bus.url(), f"{notify}?rabbit_quorum_queue=true", name="x.conf")
        result = check(wanted, "-f", "json")
        assert problems(result) == [("error", "not-durable-on-server")]
        assert "is not a quorum queue" in result.rows[0]["problems"][0]["message"]
        queue.delete()
        exchange(connection.default_channel).delete()
        assert check(path).code == 0

        # others' control exchange, and what is as it should be
        kombu.Exchange("mine", "topic", durable=False)(
            connection.default_channel
        ).declare()
        durable = kombu.Queue(
            "notifications.info", durable=True, channel=connection.default_channel
        )
        durable.queue_declare()
        assert check(path).code == 0
        text = path.read_text()
        path.write_text(text.replace("queues = true", "queues = false"))
        [problem, _] = check(path, "-f", "json").rows[0]["problems"]
        assert "info exists on RabbitMQ" in problem["message"]
        assert "and is durable: " in problem["message"]
        path.write_text(text.replace("[DEFAULT]", "[DEFAULT]\ncontrol_exchange = mine"))
        [problem] = check(path, "-f", "json").rows[0]["problems"]
        assert problem["message"].startswith("exchange mine exists")
        durable.delete()


def test_quorum_queues_for_rpc_where_the_exchange_is_not_durable(
    check: Check, config: Callable[..., Path], notify: str
) -> None:
    rpc = f"{notify}?rabbit_quorum_queue=true"
    path = config(rpc, "rabbit://127.0.0.1:1/", name="trove.conf")
    with kombu.Connection(notify.replace("rabbit://", "amqp://")) as connection:
        exchange = kombu.Exchange(
            "openstack", "topic", durable=False, channel=connection.default_channel
        )
        exchange.declare()
        found = problems(check(path, "-f", "json"))
        exchange.delete()
    assert ("error", "not-durable-on-server") in found
    assert ("error", "not-durable-on-server") not in problems(check(path, "-f", "json"))


def test_notifications_that_nobody_reads(
    check: Check, config: Callable[..., Path], notify: str
) -> None:
    path = config("", notify, name="keystone.conf")
    with kombu.Connection(notify.replace("rabbit://", "amqp://")) as connection:
        channel = connection.default_channel
        queue = kombu.Queue("notifications.error", durable=True, channel=channel)
        queue.queue_declare()
        assert check(path).code == 0
        kombu.Producer(channel).publish("late", routing_key=queue.name)
        until(lambda: queue.queue_declare(passive=True)[1] == 1, "it is stored")
        result = check(path, "-f", "json")
        assert result.code == 0, "a new cloud is no problem"
        notes = {note["code"]: note for note in result.rows[0]["notes"]}
        message = notes["notifications-waiting"]["message"]
        assert message.startswith("1 notification waits in notifications.error")
        for _ in range(999):
            kombu.Producer(channel).publish("late", routing_key=queue.name)
        until(lambda: queue.queue_declare(passive=True)[1] == 1000, "all are stored")
        assert problems(check(path, "-f", "json")) == [
            ("warning", "notifications-not-read")
        ]
        with kombu.Consumer(channel, [queue], callbacks=[lambda *_: None]):
            assert check(path).code == 0
        queue.delete()


def test_a_rabbitmq_without_room(
    check: Check, config: Callable[..., Path], notify: str, node: state.Engine
) -> None:
    details = node.details_as(state.RabbitMQDetails)

    def limit(disk: str) -> None:
        cookie = ["--erlang-cookie", details.cookie]
        command = ["rabbitmqctl", "-n", details.node, *cookie]
        epmd = {"ERL_EPMD_PORT": str(details.epmd_port)}
        subprocess.run(
            [*command, "set_disk_free_limit", disk],
            env={**os.environ, **epmd, "HOME": str(Path(node.log).parent)},
            check=True,
            capture_output=True,
        )

    path = config("", notify, name="keystone.conf")
    limit("900000GB")
    try:
        until(
            lambda: problems(check(path, "-f", "json")) == [("error", "server-alarm")],
            "it is in want of room",
        )
    finally:
        limit("50MB")
    until(lambda: check(path).code == 0, "it has room again")


def test_what_the_management_of_rabbitmq_tells(
    check: Check, config: Callable[..., Path], notify: str, node: state.Engine
) -> None:
    path = config("", notify, name="keystone.conf")
    management = (
        "--rabbitmq-management",
        str(node.details_as(state.RabbitMQDetails).management_port),
    )

    def row(*words: object) -> dict[str, Any]:
        [only] = check(path, "-f", "json", *(words or management)).rows
        return dict(only)

    def drops() -> list[str]:
        return [
            problem["message"]
            for problem in row()["problems"]
            if problem["code"] == "policy-drops-messages"
        ]

    # it takes stock every few seconds
    until(lambda: row()["unseen"] == [] and not drops(), "it finds nothing", 60)
    policy = f"policies/{VHOST}/short"
    rabbitmq_management.request(
        node,
        "PUT",
        policy,
        {"pattern": "^notif", "definition": {"max-length": 5}, "apply-to": "queues"},
    )
    queue = f"queues/{VHOST}/notifications.warn"
    rabbitmq_management.request(node, "PUT", queue, {"durable": True})
    [problem] = until(drops, "the policy counts", 60)
    assert "policy short discards notifications in notif" in problem
    assert "max-length is 5" in problem
    rabbitmq_management.request(node, "DELETE", policy)
    rabbitmq_management.request(node, "DELETE", queue)
    # who may not ask is told so
    user = "plain"
    rabbitmq_management.request(
        node, "PUT", f"users/{user}", {"password": "p", "tags": ""}
    )
    rights = {"configure": ".*", "write": ".*", "read": ".*"}
    rabbitmq_management.request(node, "PUT", f"permissions/{VHOST}/{user}", rights)
    url = other(notify, username=user, password="p")
    path = config("", url, name="keystone.conf")
    assert any("HTTP status 401" in line for line in row()["unseen"])
    # and where nobody answers
    nobody = row("--rabbitmq-management", routers.free_port())
    assert "Connection refused" in nobody["unseen"][0]


def test_a_queue_with_other_arguments(
    check: Check, config: Callable[..., Path], notify: str
) -> None:
    with kombu.Connection(notify.replace("rabbit://", "amqp://")) as connection:
        queue = kombu.Queue(
            "notifications.info",
            durable=True,
            queue_arguments={"x-queue-type": "quorum"},
            channel=connection.default_channel,
        )
        queue.queue_declare()
        found = []
        quorum = f"{notify}?rabbit_quorum_queue=true"
        for url in (f"{quorum}&rabbit_quorum_delivery_limit=5", quorum, notify):
            path = config("", url, name="keystone.conf")
            result = check(path, "-f", "json")
            found += [item["message"] for item in result.rows[0]["problems"]]
        queue.delete()
    limited, classic = found
    assert "with another x-delivery-limit" in limited
    assert "is not a classic queue" in classic


def test_rabbitmq_has_no_quorum_queue_that_deletes_itself(notify: str) -> None:
    """What `quorum-auto-delete` says."""
    with (
        kombu.Connection(notify.replace("rabbit://", "amqp://")) as connection,
        pytest.raises(amqp.PreconditionFailed, match="auto-delete"),
    ):
        connection.default_channel.queue_declare(
            "x",
            durable=True,
            auto_delete=True,
            arguments={"x-queue-type": "quorum"},
        )


def test_tls_where_there_is_none(
    check: Check, config: Callable[..., Path], bus: routers.Router, notify: str
) -> None:
    path = config(bus.url(), notify, "ssl = true\n")
    assert problems(check(path, "-f", "json")) == [
        ("error", "tls-failed"),
        ("warning", "server-not-verified"),
    ]


class TlsFront:
    """Takes TLS connections and hands what they carry to a server without TLS."""

    def __init__(self, context: ssl.SSLContext, server: tuple[str, int]) -> None:
        self._context = context
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        # ends with the listener; a client that fails its handshake is gone
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                with contextlib.suppress(ssl.SSLError, ConnectionError):
                    outer = self._context.wrap_socket(plain, server_side=True)
                    inner = socket.create_connection(self._server)
                    threading.Thread(
                        target=self._relay, args=(outer, inner), daemon=True
                    ).start()

    @staticmethod
    def _relay(outer: socket.socket, inner: socket.socket) -> None:
        with outer, inner, contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select([outer, inner], [], [])
                for source, sink in ((outer, inner), (inner, outer)):
                    if source in ready:
                        data = source.recv(65536)
                        if not data:
                            return
                        sink.sendall(data)


def test_rabbitmq_behind_tls(
    check: Check,
    config: Callable[..., Path],
    bus: routers.Router,
    notify: str,
    node: state.Engine,
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    front = TlsFront(context, (node.host, node.port))
    try:
        url = other(notify, hosts=[("localhost", front.port)])
        tls = f"ssl = true\nssl_ca_file = {tmp_path}/ca.pem\n"
        path = config(bus.url(), url, tls)
        assert check(path).code == 0
        found = problems(check(path, "--certificates-days", 1e9, "-f", "json"))
        assert found == [("warning", "certificate-ends")] * 2  # and its authority
        misnamed = other(notify, hosts=[("127.0.0.1", front.port)])
        result = check(config(bus.url(), misnamed, tls), "-f", "json")
        assert problems(result) == [("error", "tls-failed")]
    finally:
        front.stop()


# -- routers -----------------------------------------------------------------


def test_notifications_to_a_router(
    check: Check, config: Callable[..., Path], bus: routers.Router, notify: str
) -> None:
    result = check(config(notify, bus.url()), "-f", "json")
    assert problems(result) == [("error", "notifications-not-stored")]
    assert result.rows[0]["notifications"]["delivery"] == "direct"


def test_a_router_with_passwords(
    check: Check,
    config: Callable[..., Path],
    make_router: MakeRouter,
    notify: str,
) -> None:
    router = make_router(
        routers.Settings(users={"nova@hybrid": "p/@$"}, mechanisms="PLAIN")
    )
    good = router.url(username="nova@hybrid", password="p/@$")
    assert check(config(good, notify)).code == 0
    wrong = router.url(username="nova@hybrid", password="hush")
    for url, code in (
        (wrong, "wrong-credentials"),
        (router.url(), "mechanism-missing"),
    ):
        result = check(config(url, notify), "-f", "json")
        assert problems(result) == [("error", code)]
        assert "hush" not in result.out + result.err


def test_routers_that_do_not_know_each_other(
    check: Check, config: Callable[..., Path], make_router: MakeRouter, notify: str
) -> None:
    ports = [make_router(routers.Settings()).port for _ in range(2)]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    result = check(config(f"amqp://{hosts}/", notify), "-f", "json")
    assert problems(result) == [("error", "routers-apart")]
    # the same router twice is one
    hosts = f"127.0.0.1:{ports[0]},localhost:{ports[0]}"
    assert check(config(f"amqp://{hosts}/", notify)).code == 0


def test_a_router_with_tls(
    check: Check,
    config: Callable[..., Path],
    make_router: MakeRouter,
    notify: str,
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    tls = routers.Tls(tmp_path / "cert.pem", tmp_path / "key.pem")
    router = make_router(routers.Settings(tls=tls))
    url = router.url(host="localhost")
    group = "[oslo_messaging_amqp]\n"
    good = f"{group}ssl_ca_file = {tmp_path}/ca.pem\n"
    assert check(config(url, notify, good)).code == 0
    result = check(config(url, notify, f"{group}ssl = true\n"), "-f", "json")
    assert problems(result) == [("error", "tls-failed")]
    missing = f"{group}ssl_ca_file = /nonexistent\n"
    result = check(config(url, notify, missing), "-f", "json")
    assert problems(result) == [("error", "tls-failed")]
    assert "ssl_ca_file /nonexistent" in result.out

    lax = dataclasses.replace(tls, required=False)
    router = make_router(routers.Settings(tls=lax))
    url = router.url(host="localhost")
    result = check(config(url, notify, good), "-f", "json")
    assert problems(result) == [("warning", "plain-accepted")]


# -- Redis ---------------------------------------------------------------------------


def test_redis_and_its_replica(
    check: Check, config: Callable[..., Path], tmp_path: Path
) -> None:
    small = ("maxmemory 100mb", "maxmemory-policy allkeys-lru")
    blind = "user blind on nopass ~* &* +@all -info"
    with contextlib.ExitStack() as stack:
        servers = []
        for name, settings in (("master", (*small, blind)), ("replica", ())):
            (tmp_path / name).mkdir()
            more = (f"replicaof 127.0.0.1 {servers[0].port}",) if servers else ()
            servers.append(matchmakers.Redis(tmp_path / name, *settings, *more).start())
            stack.callback(servers[-1].stop)
        found = []
        for url in (
            f"zmq://127.0.0.1:{servers[0].port}/",
            f"zmq://127.0.0.1:{servers[1].port}/",
            f"zmq://blind:x@127.0.0.1:{servers[0].port}/",
        ):
            local = f"{url}?rpc_zmq_bind_address=127.0.0.1"
            [row] = check(config(local, "rabbit://127.0.0.1:1/"), "-f", "json").rows
            codes = {item["code"] for item in row["problems"]}
            found.append((codes - {"unreachable", "waits-without-end"}, row["unseen"]))
    assert found[:2] == [({"redis-evicts"}, []), ({"redis-replica"}, [])]
    codes, [unseen] = found[2]
    assert codes == set() and "replicas and memory of Redis: " in unseen


def test_a_sentinel_that_is_alone(
    check: Check, config: Callable[..., Path], tmp_path: Path
) -> None:
    group = "oslo-messaging-zeromq"
    with contextlib.ExitStack() as stack:
        master = matchmakers.Redis(tmp_path).start()
        stack.callback(master.stop)
        watch = f"sentinel monitor {group} 127.0.0.1 {master.port} 2"
        sentinel = matchmakers.Sentinel(tmp_path, watch).start()
        stack.callback(sentinel.stop)
        path = config(sentinel.url(), "rabbit://127.0.0.1:1/")
        [row] = check(path, "-f", "json").rows
    found = {item["code"]: item["message"] for item in row["problems"]}
    for code in ("redis-without-replica", "sentinels-few", "sentinels-without-quorum"):
        assert code in found
    assert "NOQUORUM 1 usable Sentinels" in found["sentinels-without-quorum"]
    assert [note["code"] for note in row["notes"]] == ["redis-writes-alone"]
    assert row["unseen"] == []


# -- what is neither ---------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["amqp", "rabbit"])
def test_a_server_that_is_silent(
    check: Check, config: Callable[..., Path], silent: int, scheme: str
) -> None:
    url = f"{scheme}://u:p@127.0.0.1:{silent}/"
    path = config(url, url, name="keystone.conf")
    result = check(path, "--timeout", 0.5, "-f", "json")
    assert ("error", "unreachable") in problems(result)
    assert "no answer in time" in result.out


def test_a_kafka_that_is_none(
    check: Check, config: Callable[..., Path], silent: int
) -> None:
    pytest.importorskip("confluent_kafka")
    closed = routers.free_port()
    for port, code in ((closed, "unreachable"), (silent, "protocol-error")):
        path = config("", f"kafka://127.0.0.1:{port}/", name="keystone.conf")
        result = check(path, "--timeout", 1, "-f", "json")
        assert problems(result) == [("error", code)]


def test_servers_of_another_kind(
    check: Check, config: Callable[..., Path], bus: routers.Router, notify: str
) -> None:
    swapped = (
        notify.replace("rabbit://", "amqp://"),
        bus.url().replace("amqp://", "rabbit://u:p@"),
    )
    # RabbitMQ speaks AMQP 1.0 from release 4 on, and is found to be no router
    speaks = rabbitmq._version(rabbitmq._server()) >= (4,)
    rpc = "unfit-server" if speaks else "protocol-error"
    result = check(config(*swapped), "-f", "json")
    assert problems(result) == [("error", rpc), ("error", "protocol-error")]


def test_names_that_do_not_exist(check: Check, config: Callable[..., Path]) -> None:
    path = config("amqp://nowhere.invalid/", "rabbit://u:p@nowhere.invalid/")
    result = check(path, "-f", "json")
    assert problems(result) == [
        *[("error", "unreachable")] * 2,
        ("warning", "waits-without-end"),
    ]


# -- several files -----------------------------------------------------------


def test_files_and_directories_that_a_service_is_started_with(
    check: Check, config: Callable[..., Path], tmp_path: Path
) -> None:
    main = config("amqp://one/", "rabbit://two/")
    extra = tmp_path / "a,b.conf"
    extra.write_text("[DEFAULT]\ntransport_url = amqp://three/\n")
    plain = tmp_path / "extra.conf"
    plain.write_text(extra.read_text())
    directory = tmp_path / "dir"
    directory.mkdir()
    (directory / "x.conf").write_text("[DEFAULT]\ntransport_url = amqp://four/\n")
    words = ("--no-connect", "-f", "json")
    both, alone = check(f"{main},{plain}", extra, *words).rows
    assert both["files"] == [str(main), str(plain)]
    assert both["rpc"]["url"] == "amqp://three/"
    assert alone["files"] == [str(extra)]
    [row] = check(main, "--config-dir", directory, *words).rows
    assert row["rpc"]["url"] == "amqp://four/"


def test_services_are_found(
    check: Check, config: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "etc/cinder/cinder.conf.d").mkdir(parents=True)
    main = config("amqp://one/", "rabbit://two/").rename(
        tmp_path / "etc/cinder/cinder.conf"
    )
    fragment = config("amqp://one/", "rabbit://two/").rename(
        tmp_path / "etc/cinder/cinder.conf.d/1.conf"
    )
    result = check("--discover", tmp_path / "etc", "--no-connect", "-f", "json")
    assert [row["files"] for row in result.rows] == [[str(main), str(fragment)]]


def test_a_file_that_cannot_be_read_is_a_problem_of_its_own(
    check: Check, config: Callable[..., Path], tmp_path: Path
) -> None:
    bad = tmp_path / "nova.conf"
    bad.write_text("[DEFAULT]\nhush\n")
    result = check(
        bad, config("amqp://a/", "rabbit://b/"), "--no-connect", "-f", "json"
    )
    assert result.code == 1
    first, second = result.rows
    assert (first["rpc"], first["notifications"]) == (None, None)
    assert first["problems"][0]["where"] == f"{bad}, line 2"
    assert second["problems"] == []
    assert "hush" not in result.out
    assert "unreadable" not in check(bad, "--no-connect").err


def test_cell_mappings_in_novas_database(
    check: Check,
    config: Callable[..., Path],
    bus: routers.Router,
    notify: str,
    tmp_path: Path,
) -> None:
    database = f"sqlite:///{tmp_path}/api.db"
    more = f"[database]\nconnection = db\n[api_database]\nconnection = {database}\n"
    path = config(bus.url(), notify, more, "nova.conf")
    result = check(path, "-f", "json")
    assert problems(result) == [("warning", "cells-not-read")]
    engine = sqlalchemy.create_engine(database)
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE cell_mappings "
            "(uuid TEXT, name TEXT, transport_url TEXT, database_connection TEXT)",
            "INSERT INTO cell_mappings "
            "VALUES ('the-uuid', 'cell1', 'rabbit://u:hush@old/', 'db')",
        ):
            connection.execute(sqlalchemy.text(statement))
    result = check(path, "-f", "json")
    assert problems(result) == [("error", "cell-mapping-outdated")]
    [problem] = result.rows[0]["problems"]
    assert problem["cure"] == (
        f"run nova-manage --config-file {path} cell_v2 update_cell --cell_uuid the-uuid"
    )
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("UPDATE cell_mappings SET transport_url = :url"),
            {"url": bus.url()},
        )
    engine.dispose()
    assert check(path).code == 0
    assert "hush" not in result.out


def test_the_services_interpreter(
    check: Check, config: Callable[..., Path], tmp_path: Path
) -> None:
    path = config("amqp://a/", "rabbit://b/")
    assert check(path, "--no-connect", "--python", sys.executable).code == 0
    result = check(path, "--no-connect", "--python", tmp_path / "none")
    assert result.code == 1
    assert "cannot run" in result.err
