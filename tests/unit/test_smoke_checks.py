# SPDX-License-Identifier: Apache-2.0
"""Every check can fail: on buses that do what no real one does on request."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from oslo_messaging.exceptions import MessageDeliveryFailure, MessagingTimeout

from hybrid_messaging import state, state_directory
from hybrid_messaging.servers.transport import ConnectError, Inventory, Transport
from hybrid_messaging.smoke import bus
from hybrid_messaging.smoke.checks import (
    connect,
    encryption,
    fail_fast,
    notifications,
    recovery,
    rpc,
    separation,
)
from hybrid_messaging.smoke.context import Context
from hybrid_messaging.smoke.endpoint import SmokeError
from hybrid_messaging.smoke.outcome import Failure, Skip
from hybrid_messaging.smoke.records import Records
from hybrid_messaging.smoke.run import SERVERS, Run

ROUTER = "amqp://router/"
BROKER = "rabbit://u:secret@broker/"

Answer = Callable[..., Any]


class Servers:
    """Server processes that have got certain messages."""

    def __init__(self, run: Run, noted: dict[int, int]) -> None:
        self.processes = [
            SimpleNamespace(
                name=name,
                left=noted.get(number, 0),
                kill=lambda: None,
                tell=lambda do: None,
            )
            for number, name in enumerate(run.servers)
        ]
        for process in self.processes:
            process.wait = self._waiter(process)

    def _waiter(self, process: SimpleNamespace) -> Answer:
        def wait(event: str, timeout: float, **values: Any) -> dict[str, Any] | None:
            if not process.left:
                return None
            process.left -= 1
            return {"event": event, **values}

        return wait

    def get(self, count: int, timeout: float) -> list[SimpleNamespace]:
        return self.processes[:count]

    def any(self) -> SimpleNamespace:
        return self.processes[0]


class Misbehaving(Context):
    """A context on whose bus one answers what one likes.

    :param answer: called with method, target and arguments of each call
    :param noted: how many copies of a cast each server gets
    """

    def __init__(
        self,
        directory: Path,
        answer: Answer = lambda method, target, **arguments: None,
        noted: dict[int, int] | None = None,
        rpc_url: str = ROUTER,
        notify_url: str = BROKER,
    ) -> None:
        super().__init__(Run(rpc_url, notify_url), directory, Records())
        self._answer = answer
        self.servers = Servers(self.run, noted or {})  # type: ignore[assignment]

    def client(self, **target: Any) -> Any:
        return SimpleNamespace(
            call=lambda context, method, **arguments: self._answer(
                method, target, **arguments
            ),
            cast=lambda context, method, **arguments: None,
        )


def echo(server: str, data: str | None = None) -> Answer:
    """One server answers everything, maybe always the same."""

    def answer(method: str, target: Any, **arguments: Any) -> dict[str, Any]:
        return {"server": server, "data": data or arguments["data"]}

    return answer


def raising(error: Exception) -> Answer:
    def answer(method: str, target: Any, **arguments: Any) -> None:
        raise error

    return answer


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for what will not come."""
    monkeypatch.setattr(rpc, "ARRIVAL_TIMEOUT", 0.05)
    monkeypatch.setattr(notifications, "CALL_TIMEOUT", 0.05)


# -- RPC ----------------------------------------------------------------------


def test_other_data_comes_back(tmp_path: Path) -> None:
    context = Misbehaving(tmp_path, echo("one", "other"))
    for check in (rpc.call, rpc.large):
        with pytest.raises(Failure, match="one answered with other data"):
            check(context)


def test_another_server_answers(tmp_path: Path) -> None:
    context = Misbehaving(tmp_path)
    name = context.run.servers[0]
    context._answer = echo(name)
    with pytest.raises(Failure, match=rf"server-2\S+ was answered by {name}"):
        rpc.directed(context)


def test_one_server_answers_all_calls(tmp_path: Path) -> None:
    context = Misbehaving(tmp_path)
    context._answer = echo(context.run.servers[0])
    with pytest.raises(Failure, match=r"server-1\S+: 60, server-2\S+: 0"):
        rpc.round_robin(context)


def test_servers_at_other_routers_answer_when_the_nearest_is_busy(
    tmp_path: Path,
) -> None:
    context = Misbehaving(tmp_path)
    near, *far = context.run.servers
    turns = itertools.cycle([*[near] * 14, *far])
    together = threading.Barrier(rpc.AT_ONCE)

    def answer(
        method: str, target: Any, *, data: str, seconds: float = 0.0
    ) -> dict[str, Any]:
        if not seconds:
            return {"server": near, "data": data}
        together.wait(60)
        return {"server": next(turns), "data": data}

    context._answer = answer
    assert re.search(
        r"server-1\S+: 54, server-2\S+: 3, ", rpc.round_robin(context).detail
    )


@pytest.mark.parametrize(
    ("noted", "complaint"),
    [({}, "0 servers"), ({0: 1, 1: 1}, "2 servers"), ({0: 2}, "2 servers")],
)
def test_a_cast_reaches_none_or_too_many(
    tmp_path: Path, noted: dict[int, int], complaint: str
) -> None:
    with pytest.raises(Failure, match=f"{complaint} received a cast"):
        rpc.cast(Misbehaving(tmp_path, noted=noted))


def test_a_fanout_reaches_some(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="only 2 of 3 servers received a fanout"):
        rpc.fanout(Misbehaving(tmp_path, noted={0: 1, 2: 1}))


def test_a_fanout_comes_twice(tmp_path: Path) -> None:
    noted = {0: 2, **{number: 1 for number in range(1, SERVERS)}}
    with pytest.raises(Failure, match="3 servers received 4 copies"):
        rpc.fanout(Misbehaving(tmp_path, noted=noted))


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda *_, **__: "fine", "the caller received a result"),
        (raising(SmokeError("other")), "without its text"),
        (
            raising(LookupError("no")),
            "SmokeError of a server arrived as LookupError: no",
        ),
    ],
)
def test_an_exception_is_lost_or_changed(
    tmp_path: Path, answer: Answer, complaint: str
) -> None:
    with pytest.raises(Failure, match=complaint):
        rpc.exception(Misbehaving(tmp_path, answer))


# -- failing fast ---------------------------------------------------------------


def test_somebody_answers_where_nobody_is(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="an unknown server answered"):
        fail_fast.nobody(Misbehaving(tmp_path, lambda *_, **__: "hello"))


def test_an_answer_of_another_kind_is_no_fast_failure(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        fail_fast.nobody(Misbehaving(tmp_path, raising(LookupError())))


def test_a_call_fails_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fail_fast, "TOLERANCE", 0.0)
    url = f"{ROUTER}?restart_timeout=0"

    def late(method: str, target: Any, **arguments: Any) -> None:
        time.sleep(0.05)
        raise MessagingTimeout("too late")

    with pytest.raises(Failure, match="instead of within 0 s: too late"):
        fail_fast.nobody(Misbehaving(tmp_path, late, rpc_url=url))


def test_a_transport_that_promises_nothing_is_not_blamed(tmp_path: Path) -> None:
    context = Misbehaving(
        tmp_path, raising(MessagingTimeout()), noted={2: 1}, rpc_url=BROKER
    )
    assert not fail_fast.nobody(context).promised
    assert not fail_fast.killed(context).promised


def test_the_victim_does_not_begin(tmp_path: Path) -> None:
    context = Misbehaving(tmp_path, raising(MessageDeliveryFailure("lost")))
    with pytest.raises(Failure, match="has not begun the call"):
        fail_fast.killed(context)


# -- notifications --------------------------------------------------------------


def test_no_notification_comes(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="no notification arrived"):
        notifications.delivered(Misbehaving(tmp_path))


@pytest.mark.parametrize(
    ("times", "changed", "complaint"),
    [(1, True, "with another payload"), (2, False, "twice")],
)
def test_another_notification_comes(
    tmp_path: Path, times: int, changed: bool, complaint: str
) -> None:
    context = Misbehaving(tmp_path)
    payload = {} if changed else {"token": context.run.token}
    events = [{"payload": payload}] * times
    context.servers.any().wait = lambda *_, **__: events.pop() if events else None
    with pytest.raises(Failure, match=complaint):
        notifications.delivered(context)


@pytest.mark.parametrize("drivers", [[], ["noop"]])
def test_a_service_that_publishes_nothing(tmp_path: Path, drivers: list[str]) -> None:
    settings = {"oslo_messaging_notifications": {"driver": drivers}}
    context = Context(Run(ROUTER, BROKER, settings), tmp_path, Records())
    with pytest.raises(Failure, match="publishes no notifications") as caught:
        notifications.stored(context)
    assert "driver = messagingv2" in caught.value.look_at


# -- the servers ----------------------------------------------------------------


def test_only_what_up_has_started_is_restarted(tmp_path: Path) -> None:
    context = Misbehaving(tmp_path, noted={0: 1})
    with pytest.raises(Skip, match="was not started by"):
        notifications.restart(context)


def test_no_recovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "RECOVERY_TIMEOUT", 0.0)
    context = Misbehaving(tmp_path)
    restarted: list[Any] = []

    def answer(method: str, target: Any, **arguments: Any) -> dict[str, Any]:
        if restarted:
            raise MessagingTimeout("nobody is back")
        return {"server": target["server"], "data": arguments["data"]}

    context._answer = answer
    monkeypatch.setattr(context, "restart", restarted.append)
    with pytest.raises(Failure, match=r"no recovery within 0 s.*nobody is back"):
        recovery.rpc_restart(context)


class TestConnect:
    @pytest.fixture
    def answers(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """What each host says, or the code of the error it raises."""
        by_host: dict[str, Any] = {}

        def answer(_: Transport, host: Any, timeout: float) -> str:
            said = by_host[host.host]
            if said.startswith("error "):
                raise ConnectError(said[6:], f"{host.host} fails", "cure it")
            return str(said)

        monkeypatch.setattr(Transport, "connect", answer)
        return by_host

    def context(self, tmp_path: Path, url: str) -> Context:
        return Misbehaving(tmp_path, rpc_url=url)

    def test_another_host_makes_up_for_one_that_is_down(
        self, tmp_path: Path, answers: dict[str, Any]
    ) -> None:
        answers |= {"a": "error unreachable", "b": ""}
        finding = connect.rpc(self.context(tmp_path, "amqp://a,u:p@b:1/"))
        assert "AMQP 1.0 router or broker at b:1 accepts user u" in finding.detail
        assert "but a fails" in finding.detail

    def test_a_host_that_refuses_us_is_not_made_up_for(
        self, tmp_path: Path, answers: dict[str, Any]
    ) -> None:
        answers |= {"a": "error wrong-credentials", "b": "something"}
        with pytest.raises(Failure, match="a fails") as caught:
            connect.rpc(self.context(tmp_path, "amqp://a,b/"))
        assert caught.value.look_at == "cure it"

    def test_our_own_engine_has_a_status(
        self, tmp_path: Path, answers: dict[str, Any]
    ) -> None:
        answers["127.0.0.1"] = "error unreachable"
        url = "amqp://127.0.0.1:1/"
        engine = state.Engine(
            *("r", "router", ("rpc",), "127.0.0.1", 1, url, 1, 0.0, ""),
            details=state.RouterDetails(router="r", id="r"),
        )
        state_directory.save(tmp_path, state.State("external", url, BROKER, (engine,)))
        with pytest.raises(Failure) as caught:
            connect.rpc(self.context(tmp_path, url))
        assert caught.value.look_at.startswith("`hybrid-messaging status`")


class TestPlainRefused:
    """What counts as an open door."""

    URLS = ("amqp://u:p@a/?ssl=true", "rabbit://u:p@b/?ssl=true")

    @pytest.fixture
    def plain(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        """How each host ends an attempt without TLS; '' lets it in."""
        by_host: dict[str, str] = {}

        def answer(transport: Transport, host: Any, timeout: float) -> str:
            assert not transport.encrypted
            if by_host[host.host]:
                raise ConnectError(by_host[host.host], "no", "cure it")
            return "something"

        monkeypatch.setattr(Transport, "connect", answer)
        return by_host

    def test_both_refuse(self, tmp_path: Path, plain: dict[str, str]) -> None:
        plain |= {"a": "protocol-error", "b": "unreachable"}
        context = Misbehaving(tmp_path, rpc_url=self.URLS[0], notify_url=self.URLS[1])
        finding = encryption.plain_refused(context)
        assert finding.detail == (
            "amqp://u:***@a/ and rabbit://u:***@b/ refuse connections without TLS"
        )

    @pytest.mark.parametrize("answer", ["", "wrong-credentials", "vhost-missing"])
    def test_one_is_open(
        self, tmp_path: Path, plain: dict[str, str], answer: str
    ) -> None:
        plain |= {"a": "protocol-error", "b": answer}
        context = Misbehaving(tmp_path, rpc_url=self.URLS[0], notify_url=self.URLS[1])
        with pytest.raises(
            Failure,
            match=r"^connections without TLS are accepted by rabbit://u:\*\*\*@b/$",
        ):
            encryption.plain_refused(context)

    def test_only_one_has_tls(self, tmp_path: Path, plain: dict[str, str]) -> None:
        plain["a"] = "protocol-error"
        context = Misbehaving(tmp_path, rpc_url=self.URLS[0])
        finding = encryption.plain_refused(context)
        assert finding.detail.endswith("; rabbit://u:***@broker/ does not use TLS")

    def test_none_has_tls(self, tmp_path: Path) -> None:
        with pytest.raises(Skip, match="neither transport uses TLS"):
            encryption.plain_refused(Misbehaving(tmp_path))


class TestSeparation:
    """What the proof takes for proven, given what is found on the servers."""

    @pytest.fixture
    def found(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """What is on the servers, by role, or why it cannot be told."""
        by_role: dict[str, Any] = {}

        def look(_: Any, which: bus.Bus) -> tuple[Inventory | None, str]:
            said = by_role[which.role]
            return (None, said) if isinstance(said, str) else (said, "")

        monkeypatch.setattr(separation, "_look", look)
        return by_role

    @pytest.fixture
    def context(self, tmp_path: Path, found: dict[str, Any]) -> Misbehaving:
        context = Misbehaving(tmp_path, echo("one"))
        found["rpc"] = Inventory("its management", {"addresses": [context.run.topic]})
        found["notify"] = Inventory(
            "its management",
            {"queues": [context.run.notify_queue, "notifications.info"]},
        )
        return context

    def test_proven(self, context: Misbehaving) -> None:
        finding = separation.separation(context)
        assert (
            "no RPC is on rabbit://u:***@broker/, by its management" in finding.detail
        )
        assert finding.found["rpc addresses"] == [context.run.topic]
        assert len(finding.found["notify queues"]) == 2

    @pytest.mark.parametrize(
        "name",
        [
            "reply_0123456789abcdef0123456789abcdef",
            "cinder-scheduler_fanout",
            "cinder-scheduler_fanout_0123456789abcdef0123456789abcdef",
        ],
    )
    def test_rpc_of_anybody(
        self, context: Misbehaving, found: dict[str, Any], name: str
    ) -> None:
        found["notify"] = Inventory("its management", {"exchanges": ["x", name]})
        with pytest.raises(Failure, match=f"carries RPC: {name}$") as caught:
            separation.separation(context)
        assert caught.value.found["notify exchanges"] == ["x", name]
        assert "secret" not in str(caught.value)

    def test_rpc_on_a_broker_for_amqp(self) -> None:
        run = Run(ROUTER, "amqp://broker/")
        broker = bus.make("notify", run.notify_url, run.conf(), None).transport
        assert broker.is_rpc("openstack.org/om/rpc/anycast/nova/compute")
        assert not broker.is_rpc("openstack.org/om/notify/anycast/nova/x.info")

    def test_rpc_of_this_run(self, context: Misbehaving, found: dict[str, Any]) -> None:
        found["notify"] = Inventory(
            "passive declarations", {"queues": [context.run.topic]}, complete=False
        )
        with pytest.raises(Failure, match=f"carries RPC: {context.run.topic}"):
            separation.separation(context)

    def test_much_rpc_is_cut_short(
        self, context: Misbehaving, found: dict[str, Any]
    ) -> None:
        names = [f"topic{number}_fanout" for number in range(10)]
        found["notify"] = Inventory("its management", {"exchanges": names})
        with pytest.raises(Failure, match="topic5_fanout and 4 more"):
            separation.separation(context)

    def test_calls_went_elsewhere(
        self, context: Misbehaving, found: dict[str, Any]
    ) -> None:
        found["rpc"] = Inventory("its management", {"addresses": ["other"]})
        with pytest.raises(Failure, match="does not have the addresses"):
            separation.separation(context)

    def test_one_server_for_both(self, tmp_path: Path, found: dict[str, Any]) -> None:
        found |= {"rpc": "not told", "notify": "not told"}
        context = Misbehaving(tmp_path, echo("one"), rpc_url=BROKER)
        with pytest.raises(Failure, match="share one server"):
            separation.separation(context)

    def test_one_server_for_both_on_purpose(
        self, tmp_path: Path, found: dict[str, Any]
    ) -> None:
        state_directory.save(tmp_path, state.State("rabbit", BROKER, BROKER))
        context = Misbehaving(tmp_path, echo("one"), rpc_url=BROKER)
        with pytest.raises(Skip, match="mode rabbit uses one server for both"):
            separation.separation(context)

    def test_weaker_proofs_say_so(
        self, context: Misbehaving, found: dict[str, Any]
    ) -> None:
        found["rpc"] = "it is not open to us"
        found["notify"] = Inventory("passive declarations", {}, complete=False)
        detail = separation.separation(context).detail
        assert detail.count("weaker evidence") == 2
        assert "it is not open to us" in detail

    def test_without_rpc_nothing_is_proven(self, context: Misbehaving) -> None:
        context._answer = raising(MessagingTimeout("no"))
        with pytest.raises(MessagingTimeout):
            separation.separation(context)
