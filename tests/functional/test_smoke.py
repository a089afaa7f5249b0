# SPDX-License-Identifier: Apache-2.0
"""The smoke checks against real servers: they pass where all is well, else they fail.

One test shows that every check passes; the others that each of them can fail, and
tells the right cause.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import kombu
import psutil
import pytest
from tests.functional.deployments import Deployment, deployed
from tests.functional.routers import Router, Settings
from tests.functional.waiting import until

from hybrid_messaging import modes, state, state_directory, urls
from hybrid_messaging.engines import ports, rabbitmq_management
from hybrid_messaging.engines.kinds import rabbitmq
from hybrid_messaging.engines.kinds.router import ADDRESSES
from hybrid_messaging.servers import options
from hybrid_messaging.service_configs import reading
from hybrid_messaging.smoke import context, runner
from hybrid_messaging.smoke.checks import fail_fast, notifications, rpc
from hybrid_messaging.smoke.context import CALL_TIMEOUT
from hybrid_messaging.smoke.outcome import Result, Status
from hybrid_messaging.smoke.run import PREFIX
from hybrid_messaging.smoke.table import CHECKS, Check, select

TIMEOUT = 200
MARK = "SMOKE_TEST_PID"
ALL = [check.name for check in CHECKS]
MULTICAST = "openstack.org/om/rpc/multicast"


class Outcome(NamedTuple):
    """What a run on the command line has ended with."""

    code: int
    rows: dict[str, dict[str, Any]]
    told: str

    def status(self) -> dict[str, str]:
        return {name: row["result"] for name, row in self.rows.items()}

    def failed(self) -> list[str]:
        return [name for name, status in self.status().items() if status == "failed"]


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A whole `qpid-hybrid`; its tests leave it up, and empty."""
    with deployed(tmp_path_factory.mktemp("smoke") / "state") as made:
        made.up()
        yield made


@pytest.fixture(autouse=True)
def nothing_is_left(hybrid: Deployment) -> Iterator[None]:
    """No test leaves processes, nor queues and exchanges but those that expire."""
    yield
    assert not workers()
    broker = hybrid.engine("rabbitmq")
    queues = rabbitmq_management.queues(broker)
    expiring = {item["name"] for item in queues if "x-expires" in item["arguments"]}
    names = {item["name"] for item in (*queues, *rabbitmq_management.exchanges(broker))}
    assert not {name for name in names - expiring if name.startswith(PREFIX)}
    if expiring:
        until(lambda: not rabbitmq_management.queues(broker), "the queues have expired")


@pytest.fixture(scope="module", autouse=True)
def mark() -> Iterator[None]:
    """What we start, and what that starts, can be told from other processes."""
    os.environ[MARK] = str(os.getpid())
    yield
    del os.environ[MARK]


def workers() -> list[psutil.Process]:
    """The server processes of runs that we have started, whoever's they are now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (
                "hybrid_messaging.smoke.worker" in process.cmdline()
                and process.environ().get(MARK) == str(os.getpid())
            ):
                found.append(process)
    return found


def start(*words: object, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start `smoke` in a process of its own, as a user does."""
    program = Path(sys.executable).with_name("hybrid-messaging")
    clean = {key: value for key, value in os.environ.items() if "HYBRID" not in key}
    return subprocess.Popen(
        [program, "smoke", "-f", "json", *map(str, words)],
        env={**clean, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Outcome:
    output, told = process.communicate(timeout=TIMEOUT)
    rows = {row["check"]: row for row in json.loads(output or "[]")}
    return Outcome(process.returncode, rows, told)


def smoke(*words: object, **env: str) -> Outcome:
    return finish(start(*words, env=env))


def over(rpc: str, notify: str, *words: object) -> Outcome:
    """Check servers of which nothing is known but their URLs."""
    return smoke(
        "--state-dir",
        "/nonexistent",
        *words,
        HYBRID_RPC_URL=rpc,
        HYBRID_NOTIFY_URL=notify,
    )


def rpc_url(hybrid: Deployment) -> str:
    return hybrid.engine("router").url


def notify_url(hybrid: Deployment) -> str:
    return hybrid.engine("rabbitmq").url


def make(rpc: str, notify: str, *names: str) -> Iterator[Result]:
    """Make checks in this process."""
    setup = runner.Setup(urls.parse(rpc), urls.parse(notify), Path("/nonexistent"))
    return runner.results(setup, select(names))


def by_name(results: Iterator[Result]) -> dict[str, Result]:
    return {result.check: result for result in results}


# -- all is well --------------------------------------------------------------


def test_every_check_passes_and_restarts_are_survived(hybrid: Deployment) -> None:
    outcome = smoke("--state-dir", hybrid.dir, "--disruptive")
    assert outcome.code == 0, outcome.told
    expected = {**dict.fromkeys(ALL, "passed"), "plain-refused": "skipped"}
    assert outcome.status() == expected, outcome.told
    for name in ALL:
        word = {"passed": "ok", "skipped": "skipped"}[expected[name]]
        assert f"{word:8} {name} " in outcome.told
    proof = outcome.rows["separation"]
    broker = urls.redact(hybrid.engine("rabbitmq").url)
    assert f"no RPC is on {broker}, by its management" in proof["detail"]
    found = proof["found"]
    assert any("/rpc/multicast/" in name for name in found["rpc addresses"])
    assert [name.startswith(PREFIX) for name in found["notify queues"]] == [True]
    password = hybrid.engine("rabbitmq").details.password
    assert password not in outcome.told + json.dumps(outcome.rows)
    summary = outcome.told.splitlines()[-1]
    assert summary.startswith(f"{len(ALL) - 1} passed, 1 skipped in ")


def test_two_runs_at_once_do_not_disturb_each_other(hybrid: Deployment) -> None:
    only = ("--only", "cast", "fanout", "notify-delivered", "separation", "killed")
    both = [start("--state-dir", hybrid.dir, *only) for _ in range(2)]
    for outcome in map(finish, both):
        assert outcome.code == 0, outcome.told
        assert set(outcome.status().values()) == {"passed"}


def test_every_kind_of_router(bus: Router, hybrid: Deployment) -> None:
    outcome = over(bus.url(), notify_url(hybrid), "--only", "killed", *ALL[:13])
    assert outcome.code == 0, outcome.told
    status = outcome.status()
    assert status.pop("plain-refused") == "skipped"
    assert set(status.values()) == {"passed"}


def test_a_services_own_configuration(hybrid: Deployment, tmp_path: Path) -> None:
    file = tmp_path / "cinder.conf"
    file.write_text(
        f"[DEFAULT]\ntransport_url = {rpc_url(hybrid)}\ncontrol_exchange = cinder\n"
        "[oslo_messaging_notifications]\ndriver = messagingv2\n"
        f"transport_url = {notify_url(hybrid)}\n"
        "[oslo_messaging_amqp]\nrestart_timeout = 5\n"
        "[oslo_messaging_rabbit]\namqp_durable_queues = true\n"
    )
    only = ("--only", "nobody", "notify-delivered", "separation")
    outcome = smoke("--state-dir", hybrid.dir, "--config", file, *only)
    assert outcome.code == 0, outcome.told
    assert 5 <= outcome.rows["nobody"]["seconds"] < 30


# -- nothing gets through ------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"password": "sesame"}, "refuses user hybrid: wrong user name or password"),
        ({"username": "nobody"}, "refuses user nobody"),
        ({"vhost": "nowhere"}, "has no virtual host 'nowhere'"),
        ({"port": 1}, "127.0.0.1:1 cannot be reached: Connection refused"),
    ],
)
def test_notifications_have_no_way(
    hybrid: Deployment, change: dict[str, Any], cause: str
) -> None:
    engine = hybrid.engine("rabbitmq")
    parts = {
        "username": engine.details.username,
        "password": engine.details.password,
        "vhost": None,
        "port": engine.port,
        **change,
    }
    port = parts.pop("port")
    url = urls.build("rabbit", [(engine.host, port)], **parts)
    outcome = over(rpc_url(hybrid), url, "--only", "notify-stored")
    assert outcome.code == 1
    assert outcome.status() == {"notify-connect": "failed", "notify-stored": "skipped"}
    assert cause in outcome.rows["notify-connect"]["detail"]
    assert outcome.rows["notify-connect"]["look_at"]
    assert parts["password"] not in outcome.told


@pytest.mark.parametrize("password", ["right", "sesame"])
def test_rpc_authenticates(hybrid: Deployment, tmp_path: Path, password: str) -> None:
    router = Router("embedded", tmp_path, Settings(users={"nova@hybrid": "right"}))
    router.start()
    try:
        url = router.url(username="nova@hybrid", password=password)
        outcome = over(url, notify_url(hybrid), "--only", "separation")
    finally:
        router.stop()
    detail = outcome.rows["rpc-connect"]["detail"]
    if password == "right":
        assert outcome.code == 0, outcome.told
        assert "accepts user nova@hybrid" in detail
        proof = outcome.rows["separation"]["detail"]
        assert f"RPC is on {urls.redact(url)}, by its management" in proof
    else:
        assert outcome.code == 1
        assert outcome.failed() == ["rpc-connect"]
        assert "refuses user nova@hybrid" in detail
        assert "sesame" not in outcome.told


def test_notifications_over_a_router_are_not_stored(hybrid: Deployment) -> None:
    url = f"{rpc_url(hybrid)}?restart_timeout=0.2"
    outcome = over(url, url, "--only", "notify-stored")
    assert outcome.failed() == ["notify-stored"]
    assert "stores nothing" in outcome.rows["notify-stored"]["detail"]
    assert "must name a broker" in outcome.rows["notify-stored"]["look_at"]


def test_notifications_that_are_not_durable_do_not_outlive_a_restart(
    hybrid: Deployment, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(notifications, "CALL_TIMEOUT", 1.0)
    file = tmp_path / "cinder.conf"
    file.write_text("[oslo_messaging_notifications]\ndriver = messagingv2\n")
    setup = runner.Setup(
        urls.parse(rpc_url(hybrid)),
        urls.parse(notify_url(hybrid)),
        hybrid.dir,
        options.settings(reading.load([file]).conf),
        disruptive=True,
    )
    checks = select(["notify-restart", "notify-delivered"])
    results = by_name(runner.results(setup, checks))
    assert results["notify-restart"].status is Status.PASSED
    assert results["notify-delivered"].status is Status.FAILED
    assert "amqp_durable_queues" in results["notify-delivered"].look_at
    assert results["notify-delivered"].found["log of rabbitmq"]


# -- the router does not do what it should ----------------------------------------


def test_a_router_that_does_not_know_the_fanout_addresses(
    make_router: Any, hybrid: Deployment, monkeypatch: Any
) -> None:
    monkeypatch.setattr(rpc, "ARRIVAL_TIMEOUT", 1.0)
    addresses = tuple(
        (prefix, "balanced" if prefix == MULTICAST else distribution)
        for prefix, distribution in ADDRESSES
    )
    url = make_router(Settings(addresses=addresses)).url()
    results = by_name(make(url, notify_url(hybrid), "fanout", "cast"))
    assert results["cast"].status is Status.PASSED
    assert results["fanout"].status is Status.FAILED
    assert "only 1 of 3 servers" in results["fanout"].detail
    assert f"{MULTICAST} must be multicast" in results["fanout"].look_at


def test_a_router_that_sends_every_call_to_all(
    make_router: Any, hybrid: Deployment
) -> None:
    router = make_router(Settings(addresses=(("openstack.org/om/rpc", "multicast"),)))
    outcome = over(router.url(), notify_url(hybrid), "--only", "cast")
    assert outcome.failed() == ["cast"]
    assert (
        "3 servers received a cast that was for one" in outcome.rows["cast"]["detail"]
    )


def test_death_is_not_told(hybrid: Deployment, monkeypatch: Any) -> None:
    """A call that is pre-settled waits for its server for its whole timeout."""
    monkeypatch.setattr(fail_fast, "CALL_TIMEOUT", 8.0)
    url = f"{rpc_url(hybrid)}?pre_settled=rpc-call&restart_timeout=0"
    results = list(make(url, notify_url(hybrid), "killed"))
    assert results[-1].status is Status.FAILED
    assert "instead of within 1 s" in results[-1].detail
    assert "pre_settled" in results[-1].look_at


def test_servers_that_fall_silent(hybrid: Deployment) -> None:
    """Paused processes keep their connections, but send no heartbeats."""

    def pause(check: Check) -> None:
        if check.name == "long-call":
            for process in workers():
                process.suspend()

    setup = runner.Setup(
        urls.parse(rpc_url(hybrid)), urls.parse(notify_url(hybrid)), hybrid.dir
    )
    for last in runner.results(setup, select(["long-call"]), pause):
        if last.check == "long-call":
            for process in workers():
                process.resume()
    assert last.status is Status.FAILED
    assert "no sign of life" in last.detail
    assert last.seconds is not None and last.seconds < CALL_TIMEOUT


def test_the_router_dies_between_two_checks(
    hybrid: Deployment, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(context, "CALL_TIMEOUT", 2.0)
    router = Router("embedded", tmp_path)
    router.start()
    results = {}
    for result in make(router.url(), notify_url(hybrid), "call", "notify-delivered"):
        results[result.check] = result
        if result.check == "servers":
            router.kill()
    assert results["call"].status is Status.FAILED
    assert "connection refused" in results["call"].detail
    # the driver's own complaints are part of the evidence
    assert results["call"].found["logged in this process"]
    assert results["notify-delivered"].status is Status.PASSED


# -- RPC is where it should not be -------------------------------------------------


def test_one_rabbit_for_both(hybrid: Deployment, monkeypatch: Any) -> None:
    monkeypatch.setattr(fail_fast, "PATIENCE", 1.0)
    url = notify_url(hybrid)
    results = by_name(make(url, url, "separation", "nobody", "killed", "fanout"))
    assert results["fanout"].status is Status.PASSED
    proof = results["separation"]
    assert proof.status is Status.FAILED
    assert "share one server" in proof.detail
    assert any(name.endswith("_fanout") for name in proof.found["notify exchanges"])
    # what rabbit:// does not promise is told, and is no failure
    for name in ("nobody", "killed"):
        assert results[name].status is Status.INFO
        assert (results[name].seconds or 0) >= 1


def test_one_rabbit_for_both_on_purpose(hybrid: Deployment, tmp_path: Path) -> None:
    engine = hybrid.engine("rabbitmq")
    state_directory.save(
        tmp_path, state.State("rabbit", engine.url, engine.url, (engine,))
    )
    assert modes.get("rabbit").shared
    outcome = smoke("--state-dir", tmp_path, "--only", "separation")
    assert (outcome.code, outcome.failed()) == (0, [])
    assert (
        "mode rabbit uses one server for both" in outcome.rows["separation"]["detail"]
    )


def test_a_strangers_rpc_on_the_broker(hybrid: Deployment) -> None:
    url = notify_url(hybrid).replace("rabbit://", "amqp://", 1)
    with kombu.Connection(url) as connection:
        name = "reply_0123456789abcdef0123456789abcdef"
        reply = kombu.Queue(name, channel=connection, exclusive=True)
        reply.declare()
        outcome = smoke("--state-dir", hybrid.dir, "--only", "separation")
    assert outcome.failed() == ["separation"]
    assert name in outcome.rows["separation"]["detail"]
    assert name in outcome.rows["separation"]["found"]["notify queues"]


@pytest.mark.parametrize("how", ["rabbitmqctl", "passive declarations"])
def test_the_proof_on_a_broker_that_is_not_ours(
    hybrid: Deployment, tmp_path: Path, how: str
) -> None:
    ctl = tmp_path / "rabbitmqctl"
    ctl.write_text(_ctl(hybrid) if how == "rabbitmqctl" else "#!/bin/sh\nexit 64\n")
    ctl.chmod(0o755)
    outcome = smoke(
        *("--state-dir", "/nonexistent", "--only", "separation"),
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        ERL_EPMD_PORT=str(_epmd_port(hybrid)),
        HYBRID_RPC_URL=rpc_url(hybrid),
        HYBRID_NOTIFY_URL=notify_url(hybrid),
    )
    assert outcome.code == 0, outcome.told
    detail = outcome.rows["separation"]["detail"]
    assert f"by {how}" in detail
    assert ("weaker evidence" in detail) is (how != "rabbitmqctl")


def test_rabbitmqctl_is_left_alone_where_no_node_can_be(
    hybrid: Deployment, tmp_path: Path
) -> None:
    """It would start an epmd, open to the network, and leave it behind."""
    ctl, called = tmp_path / "rabbitmqctl", tmp_path / "called"
    ctl.write_text(f"#!/bin/sh\ntouch {called}\n")
    ctl.chmod(0o755)
    with ports.Ports() as free:
        nobody = free.take()
    outcome = smoke(
        *("--state-dir", "/nonexistent", "--only", "separation"),
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        ERL_EPMD_PORT=str(nobody),
        HYBRID_RPC_URL=rpc_url(hybrid),
        HYBRID_NOTIFY_URL=notify_url(hybrid),
    )
    assert outcome.code == 0, outcome.told
    assert "weaker evidence" in outcome.rows["separation"]["detail"]
    assert not called.exists()


def _epmd_port(hybrid: Deployment) -> int:
    return int(hybrid.engine("rabbitmq").details.epmd_port)


def _ctl(hybrid: Deployment) -> str:
    """A rabbitmqctl that finds our private node as it would find the system's."""
    engine = hybrid.engine("rabbitmq")
    program = rabbitmq.PACKAGED_SERVER.with_name("rabbitmqctl")
    return (
        "#!/bin/sh\n"
        f"export HOME={hybrid.dir / engine.name}\n"
        f"export RABBITMQ_NODENAME={engine.details.node}\n"
        f"export ERL_EPMD_PORT={_epmd_port(hybrid)}\n"
        f'exec {program} "$@"\n'
    )


# -- it is ended from outside -------------------------------------------------------


def test_sigterm_leaves_nothing_behind(hybrid: Deployment) -> None:
    process = start("--state-dir", hybrid.dir, "--only", "long-call")
    _read_until(process, "call ")
    assert workers()
    process.terminate()
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + 15
    assert not workers()


def test_servers_end_when_smoke_is_killed(hybrid: Deployment) -> None:
    process = start("--state-dir", hybrid.dir, "--only", "long-call")
    _read_until(process, "call ")
    assert workers()
    process.kill()
    process.communicate(timeout=TIMEOUT)
    until(lambda: not workers(), "the server processes have ended")


def test_stopping_halfway_removes_the_queue(hybrid: Deployment) -> None:
    results = make(rpc_url(hybrid), notify_url(hybrid), "notify-stored", "separation")
    for result in results:
        if result.check == "notify-stored":
            break
    broker = hybrid.engine("rabbitmq")
    assert any(
        item["name"].startswith(PREFIX) for item in rabbitmq_management.queues(broker)
    )
    results.close()  # type: ignore[attr-defined]


def _read_until(process: subprocess.Popen[str], word: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            return
    raise AssertionError(f"smoke did not come to {word!r}")
