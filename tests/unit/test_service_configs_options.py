# SPDX-License-Identifier: Apache-2.0
"""Options that do nothing, by what the service's own environment knows."""

from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path

import pytest

from hybrid_messaging.service_configs import checks, interpreter, retired
from hybrid_messaging.service_configs.interpreter import Environment, Known
from hybrid_messaging.service_configs.problem import Problem, Severity

OPTIONS = ("option-deprecated", "option-removed", "option-unknown")

own = functools.cache(lambda: interpreter.ask(Path(sys.executable)))

#: As the service's environment of an older release says.
OLD = Environment(
    {"rabbit": ""},
    {"messagingv2": ""},
    "14.9.0",
    {
        "DEFAULT": {
            "transport_url": Known(),
            "kombu_reconnect_delay": Known(
                "oslo_messaging_rabbit", "kombu_reconnect_delay"
            ),
        },
        "oslo_messaging_rabbit": {
            "kombu_reconnect_delay": Known(),
            "heartbeat_in_pthread": Known(deprecated=True, reason="It is of eventlet."),
            "ssl": Known(),
            "rabbit_use_ssl": Known("oslo_messaging_rabbit", "ssl"),
        },
    },
)


#: Options that oslo.messaging has removed, or means to remove, since its release 18.
_OF_18 = ("heartbeat_in_pthread", "ssl_enforce_fips_mode")


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def judged(
    tmp_path: Path, text: str, environment: Environment, name: str = "cinder.conf"
) -> list[Problem]:
    path = tmp_path / name
    path.write_text(f"{text}\n")
    [report] = checks.check([[path]], lambda _: environment, None)
    return [problem for problem in report.problems if problem.code in OPTIONS]


RABBIT = "[oslo_messaging_rabbit]\n"


def test_what_another_release_may_see_otherwise(tmp_path: Path) -> None:
    """Where nobody has said which Python the service has."""
    path = tmp_path / "cinder.conf"
    path.write_text(f"{RABBIT}heartbeat_in_pthread = 1\nrabbit_use_ssl = 1\nnever = 1")
    for environment, removed in ((own(), "option-removed"), (OLD, "option-deprecated")):
        guess = dataclasses.replace(environment, is_guess=True)
        [report] = checks.check([[path]], lambda _, guess=guess: guess, None)
        notes = {note.code: note for note in report.notes}
        assert removed in notes and "option-unknown" not in notes
        assert environment.release in notes[removed].cure
        assert "with --python" in notes[removed].cure
        unknown = [each.code for each in report.problems if each.code in OPTIONS]
        assert unknown == ["option-unknown"]


@pytest.mark.parametrize(
    ("text", "code", "message", "cure"),
    [
        # as openstack-helm has it, in 23 places
        (
            f"{RABBIT}rabbit_quorum_queues = true",
            "option-unknown",
            "[oslo_messaging_rabbit] rabbit_quorum_queues has no effect",
            "did you mean rabbit_quorum_queue?",
        ),
        # as kolla-ansible has it, in 24 files
        (
            f"{RABBIT}heartbeat_in_pthread = false",
            "option-removed",
            "oslo.messaging 18.0.0 removed it, and the checked release is 18",
            "remove it",
        ),
        (f"{RABBIT}rabbit-ha-queues = true", "option-unknown", "", "rabbit_ha_queues?"),
        (
            f"{RABBIT}nonsense = 1",
            "option-unknown",
            "nonsense has no effect",
            "remove it",
        ),
        (f"{RABBIT}hu:sh@h/x = 1", "option-unknown", "hu has no effect", "remove it"),
        (
            f"{RABBIT}hu/sh@h = 1",
            "option-unknown",
            "an option has no effect",
            "remove it",
        ),
        (f"{RABBIT}transport_url = x", "option-unknown", "", "write it as [DEFAULT] "),
        (f"{RABBIT}rabbit_host = x", "option-removed", "9.0.0 removed", "remove"),
        (
            f"{RABBIT}ssl_enforce_fips_mode = true",
            "option-deprecated",
            "is deprecated in oslo.messaging: FIPS_mode_set API was removed",
            "remove it",
        ),
        (
            f"{RABBIT}kombu_reconnect_timeout = 1",
            "option-deprecated",
            "is a former name",
            "write [oslo_messaging_rabbit] kombu_missing_consumer_retry_timeout",
        ),
        (
            "[DEFAULT]\nrpc_thread_pool_size = 1",
            "option-deprecated",
            "former name",
            "write [DEFAULT] executor_thread_pool_size",
        ),
        (
            "[DEFAULT]\namqp_durable_queues = true",
            "option-removed",
            "[DEFAULT] amqp_durable_queues has no effect",
            "write it as [oslo_messaging_rabbit] amqp_durable_queues",
        ),
        (
            "[DEFAULT]\nrabbit_quorum_queue = true",
            "option-unknown",
            "",
            "write it as [oslo_messaging_rabbit] rabbit_quorum_queue",
        ),
        (
            "[DEFAULT]\nrpc_backend = rabbit",
            "option-removed",
            "9.0.0",
            "remove it; use [DEFAULT] transport_url instead",
        ),
        (
            "[DEFAULT]\nrpc_response_timout = 1",
            "option-unknown",
            "",
            "did you mean rpc_response_timeout?",
        ),
        (
            "[oslo_messaging_notification]\ndriver = x",
            "option-unknown",
            "[oslo_messaging_notification] has no effect",
            "did you mean [oslo_messaging_notifications]?",
        ),
        ("[oslo_messaging_nats]\na = 1", "option-unknown", "has no effect", "remove"),
        ("[oslo_messaging_pika]\nssl = 1", "option-removed", "6.0.0", "the section"),
        ("[oslo_messaging_amqp]\nusername = x", "option-removed", "9.0.0", "remove"),
        ("[oslo_messaging_amqp]\nidle_timout = 1", "option-unknown", "", "idle_timeo"),
        ("[oslo_messaging_zmq]\nuse_pub_sub = 1", "option-removed", "9.0.0", ""),
        ("[matchmaker_redis]\nport = 1", "option-removed", "9.0.0", ""),
    ],
)
def test_options_that_do_nothing(
    tmp_path: Path, text: str, code: str, message: str, cure: str
) -> None:
    if _release(own().release) < (18,) and any(name in text for name in _OF_18):
        pytest.skip(f"oslo.messaging {own().release} still has it")
    [problem] = judged(tmp_path, text, own())
    assert (problem.code, problem.severity) == (code, Severity.WARNING)
    assert message in problem.message
    assert cure in problem.cure
    assert problem.where == f"{tmp_path}/cinder.conf, line 2"
    assert "sh@h" not in str(problem)


@pytest.mark.parametrize(
    "text",
    [
        # Neutron's own, and Cinder's
        "[DEFAULT]\nrpc_response_max_timeout = 1\nhost = x\nport = 1\nssl = 1",
        f"{RABBIT}rabbit_quorum_queue = true\nssl_ca_file = /x\nheartbeat_rate = 2",
        "[OSLO_MESSAGING_RABBIT]\nheartbeat_rate = 2",
        "[oslo_messaging_notifications]\nrouting_config = x\ntopics = y",
        "[oslo_messaging_metrics]\nmetrics_enabled = true",
        "[oslo_middleware]\nx = 1\n[oslo_concurrency]\nlock_path = /x",
        "[oslo_messaging_zmq]\nrpc_zmq_host = x",
    ],
)
def test_options_that_do_what_they_say(tmp_path: Path, text: str) -> None:
    assert judged(tmp_path, text, own()) == []


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (f"{RABBIT}heartbeat_in_pthread = 1", OPTIONS[0], "deprecated in oslo.messa"),
        (
            f"{RABBIT}rabbit_use_ssl = 1",
            OPTIONS[0],
            "write [oslo_messaging_rabbit] ssl",
        ),
        ("[DEFAULT]\nkombu_reconnect_delay = 1", OPTIONS[0], "write [oslo_messaging_r"),
        (
            f"{RABBIT}use_queue_manager = 1",
            OPTIONS[2],
            "has it, but the checked release is 14.9.0",
        ),
    ],
)
def test_an_older_release_knows_others(
    tmp_path: Path, text: str, code: str, said: str
) -> None:
    [problem] = judged(tmp_path, text, OLD)
    assert problem.code == code
    assert said in str(problem)


def test_a_driver_that_is_not_installed_is_told_of_elsewhere(tmp_path: Path) -> None:
    assert judged(tmp_path, "[oslo_messaging_amqp]\nidle_timeout = 1", OLD) == []


def test_an_environment_that_cannot_tell(tmp_path: Path) -> None:
    assert judged(tmp_path, f"{RABBIT}nonsense = 1", Environment({}, {})) == []


def test_files_of_another_kind_are_left_alone(tmp_path: Path) -> None:
    text = "[filter:ceilometer]\nurl = rabbit://b/\n[oslo_messaging_rabbit]\nx = 1"
    assert judged(tmp_path, text, own(), "proxy-server.conf") == []


def test_what_is_retired_is_gone() -> None:
    known = own().options
    for (section, name), release in retired.OPTIONS.items():
        if _release(release) <= _release(own().release):
            assert name not in known.get(section, ()), f"[{section}] {name} is back"
    for name, instead in retired.INSTEAD.items():
        section, now = instead[1:].split("] ")
        assert now in known[section], f"{name}: {instead} is gone as well"
    for release in (*retired.OPTIONS.values(), *retired.SECTIONS.values()):
        assert _release(release) < (19,)
