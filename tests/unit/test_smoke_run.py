# SPDX-License-Identifier: Apache-2.0
"""What the processes of a run agree upon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hybrid_messaging import state, urls
from hybrid_messaging.servers import options
from hybrid_messaging.service_configs import reading
from hybrid_messaging.smoke import bus, run, runner


def make(rpc: str, notify: str, settings: Any = None) -> run.Run:
    setup = runner.Setup(
        urls.parse(rpc), urls.parse(notify), Path("/nonexistent"), settings
    )
    return runner.plan(setup)


def test_a_run_travels_between_processes() -> None:
    settings = {"oslo_messaging_notifications": {"driver": ["messaging"]}}
    one = run.Run("amqp://u:p@host/", "rabbit://host/", settings)
    assert run.Run.from_json(one.to_json()) == one
    assert "\n" not in one.to_json()


def test_runs_do_not_meet() -> None:
    one, two = (run.Run("amqp://host/", "rabbit://host/") for _ in range(2))
    names = {*one.queues, *one.exchanges}
    assert not names & {*two.queues, *two.exchanges}
    assert all(one.token in name for name in names)
    assert all(name.startswith(run.PREFIX) for name in names)


def test_names_of_notifications_are_not_taken_for_rpc() -> None:
    one = run.Run("amqp://host/", "rabbit://host/")
    assert not one.notify_queue.startswith(one.topic)
    assert not one.notify_exchange.startswith(one.topic)


def test_notifications_are_durable_unless_a_service_has_its_own_will() -> None:
    planned = make("amqp://h/", "rabbit://h/")
    assert planned.notify_url.endswith("?amqp_durable_queues=true")
    given = make("amqp://h/", "rabbit://h/?amqp_durable_queues=false")
    assert given.notify_url.endswith("?amqp_durable_queues=false")
    configured = make("amqp://h/", "rabbit://h/", {})
    assert configured.notify_url == "rabbit://h/"


def test_what_cannot_be_removed_expires() -> None:
    planned = make("rabbit://h/", "rabbit://h/")
    assert "rabbit_transient_queues_ttl=5" in planned.rpc_url


class TestConfiguration:
    def test_defaults_without_files(self) -> None:
        conf = run.Run("amqp://h/", "rabbit://h/").conf()
        assert conf.oslo_messaging_amqp.restart_timeout == 60
        # what oslo.messaging has on the global object only
        assert conf.oslo_messaging_metrics.metrics_enabled is False

    def test_a_services_files_decide(self, tmp_path: Path) -> None:
        file = tmp_path / "nova.conf"
        file.write_text(
            "[DEFAULT]\ncontrol_exchange = nova\nplace = /there\n"
            "[oslo_messaging_amqp]\nrestart_timeout = 7\nssl_ca_file = $place/$$ca\n"
            "[oslo_messaging_notifications]\ndriver = log\ndriver = messaging\n"
            "topics = $$a, b\n"
        )
        (tmp_path / "nova.conf.d").mkdir()
        (tmp_path / "nova.conf.d" / "x.conf").write_text(
            "[oslo_messaging_amqp]\nrestart_timeout = 8\n"
        )
        settings = options.settings(reading.load([file]).conf)
        one = run.Run("amqp://h/", "rabbit://h/", settings)
        conf = run.Run.from_json(one.to_json()).conf()
        assert conf.oslo_messaging_amqp.restart_timeout == 8
        assert conf.oslo_messaging_amqp.ssl_ca_file == "/there/$ca"
        assert conf.oslo_messaging_notifications.driver == ["log", "messaging"]
        assert conf.oslo_messaging_notifications.topics == ["$a", "b"]
        assert conf.control_exchange == one.notify_exchange

    def test_nothing_of_a_former_run_is_left(self) -> None:
        settings = {"oslo_messaging_amqp": {"restart_timeout": 7}}
        run.Run("amqp://h/", "rabbit://h/", settings).conf()
        conf = run.Run("amqp://h/", "rabbit://h/").conf()
        assert conf.oslo_messaging_amqp.restart_timeout == 60


class TestBus:
    def test_options_of_the_url_win(self) -> None:
        conf = run.Run("amqp://h/", "rabbit://h/").conf()
        made = bus.make("rpc", "amqp://h/?restart_timeout=0.5", conf, None)
        assert made.transport.grace() == 0.5

    def test_the_engine_is_the_one_that_listens_there(self) -> None:
        conf = run.Run("amqp://h/", "rabbit://h/").conf()
        engines = tuple(
            state.Engine(name, name, (), "127.0.0.1", port, "", 1, 0.0, "")
            for name, port in (("router", 5001), ("rabbitmq", 5002))
        )
        running = state.State("qpid-hybrid", "", "", engines)
        made = bus.make("notify", "rabbit://u:p@127.0.0.1:5002/v", conf, running)
        assert made.transport.engine is engines[1]
        made = bus.make("notify", "rabbit://127.0.0.1/", conf, running)
        assert made.transport.engine is None

    def test_as_text_it_has_no_secrets(self) -> None:
        conf = run.Run("amqp://h/", "rabbit://h/").conf()
        made = bus.make("notify", "rabbit://u:p@h/v?ssl=true", conf, None)
        assert str(made) == "rabbit://u:***@h/v"
        assert made.transport.title == "RabbitMQ"
        made = bus.make("notify", "rabbit:///", conf, None)
        assert made.transport.hosts[0].host == "localhost"
