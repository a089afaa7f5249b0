# SPDX-License-Identifier: Apache-2.0
"""Checks are made in order, within their deadlines, and reported for what they are."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_messaging import state, state_directory, urls
from hybrid_messaging.engines import EngineError
from hybrid_messaging.servers.transport import TransportError
from hybrid_messaging.smoke import records, runner
from hybrid_messaging.smoke.context import Context
from hybrid_messaging.smoke.outcome import Failure, Result, Skip, Status, Success
from hybrid_messaging.smoke.table import Check

RPC = "amqp://127.0.0.1:1/"
NOTIFY = "rabbit://user:secret@127.0.0.1:1/"


def setup(directory: Path, rpc: str = RPC, disruptive: bool = False) -> runner.Setup:
    return runner.Setup(
        urls.parse(rpc), urls.parse(NOTIFY), directory, disruptive=disruptive
    )


def fine(context: Context) -> Success:
    return Success("as it should be", {"queues": ["one"]})


def wrong(context: Context) -> Success:
    raise Failure("it is wrong", found={"queues": []})


def impossible(context: Context) -> Success:
    raise Skip("not here")


def make(directory: Path, *checks: Check, disruptive: bool = False) -> list[Result]:
    return list(runner.results(setup(directory, disruptive=disruptive), checks))


def only(directory: Path, check: Check) -> Result:
    (result,) = make(directory, check)
    return result


def test_a_finding_is_a_passed_check(tmp_path: Path) -> None:
    result = only(tmp_path, Check("one", fine, "rpc"))
    assert (result.check, result.status) == ("one", Status.PASSED)
    assert (result.detail, result.found) == ("as it should be", {"queues": ["one"]})
    assert result.seconds is not None and 0 <= result.seconds < 60


def test_what_is_not_promised_is_information(tmp_path: Path) -> None:
    def slow(context: Context) -> Success:
        return Success("took its time", promised=False)

    assert only(tmp_path, Check("one", slow, "rpc")).status is Status.INFO


def test_a_failure_tells_cause_and_what_to_look_at(tmp_path: Path) -> None:
    result = only(tmp_path, Check("one", wrong, "rpc", look_at="the log"))
    assert (result.status, result.detail) == (Status.FAILED, "it is wrong")
    assert (result.look_at, result.found) == ("the log", {"queues": []})


def test_a_failure_knows_better_than_the_table(tmp_path: Path) -> None:
    def knowing(context: Context) -> Success:
        raise Failure("it is wrong", "the moon")

    result = only(tmp_path, Check("one", knowing, "rpc", look_at="the log"))
    assert result.look_at == "the moon"


def test_the_kind_of_transport_knows_better_than_the_table(tmp_path: Path) -> None:
    result = only(tmp_path, Check("fanout", wrong, "rpc", look_at="the log"))
    assert "openstack.org/om/rpc/multicast" in result.look_at


ROUTER = state.RouterDetails(router="embedded", id="r")


def test_the_log_of_our_own_engine_is_named(tmp_path: Path) -> None:
    engine = state.Engine(
        *("router", "router", ("rpc",), "127.0.0.1", 1, RPC, 1, 0.0, "/the/log"),
        details=ROUTER,
    )
    state_directory.save(tmp_path, state.State("qpid-hybrid", RPC, NOTIFY, (engine,)))
    result = only(tmp_path, Check("one", wrong, "rpc"))
    assert result.found["log of router"] == ["/the/log"]


def test_a_check_that_cannot_be_made_is_skipped_with_the_reason(tmp_path: Path) -> None:
    result = only(tmp_path, Check("one", impossible, "rpc"))
    assert (result.status, result.detail) == (Status.SKIPPED, "not here")


def test_what_a_bus_raises_is_the_cause(tmp_path: Path) -> None:
    def broken(context: Context) -> Success:
        raise EngineError("no answer from amqp://user:secret@host/")

    result = only(tmp_path, Check("one", broken, "rpc", look_at="the log"))
    assert result.detail == "EngineError: no answer from amqp://user:***@host/"
    assert result.look_at == "the log"
    assert "traceback" not in result.found


def test_our_own_mistake_comes_with_its_traceback(tmp_path: Path) -> None:
    def mistaken(context: Context) -> Success:
        raise LookupError("nothing")

    result = only(tmp_path, Check("one", mistaken, "rpc"))
    assert (result.status, result.detail) == (Status.FAILED, "LookupError: nothing")
    assert "in mistaken" in "".join(result.found["traceback"])


def test_a_check_that_hangs_fails_at_its_deadline(tmp_path: Path) -> None:
    release = threading.Event()

    def hanging(context: Context) -> Success:
        release.wait(60)
        return Success("too late")

    checks = (Check("one", hanging, "rpc", deadline=0.1), Check("two", fine, "rpc"))
    hung, next_one = make(tmp_path, *checks)
    release.set()
    assert (hung.status, hung.detail) == (Status.FAILED, "it did not end within 0.1 s")
    assert next_one.status is Status.PASSED


def test_a_check_whose_need_is_unmet_is_skipped(tmp_path: Path) -> None:
    results = make(
        tmp_path,
        Check("one", wrong, "rpc"),
        Check("two", fine, "rpc", ("one",)),
        Check("three", fine, "rpc", ("two", "one")),
    )
    assert [result.status for result in results[1:]] == [Status.SKIPPED] * 2
    assert results[1].detail == "it requires one, which failed"
    assert results[2].detail == "it requires two, which was skipped, one, which failed"


def test_a_disruptive_check_has_to_be_allowed(tmp_path: Path) -> None:
    check = Check("one", fine, "rpc", disruptive=True)
    result = only(tmp_path, check)
    assert result.status is Status.SKIPPED
    assert "--disruptive" in result.detail
    (allowed,) = make(tmp_path, check, disruptive=True)
    assert allowed.status is Status.PASSED


def test_what_was_logged_is_evidence(tmp_path: Path) -> None:
    def noisy(context: Context) -> Success:
        for _ in range(3):
            logging.getLogger("oslo_messaging.x").error("no way to %s", NOTIFY)
        raise Failure("it is wrong")

    quiet, loud = make(tmp_path, Check("one", wrong, "rpc"), Check("two", noisy, "rpc"))
    assert "logged in this process" not in quiet.found
    hidden = NOTIFY.replace("secret", "***")
    assert loud.found["logged in this process"] == [f"no way to {hidden}"]


def test_each_check_is_announced(tmp_path: Path) -> None:
    seen: list[str] = []
    checks = [Check("one", fine, "rpc"), Check("two", fine, "rpc")]
    for result in runner.results(
        setup(tmp_path), checks, lambda check: seen.append(f"begin {check.name}")
    ):
        seen.append(result.check)
    assert seen == ["begin one", "one", "begin two", "two"]


def test_a_transport_without_checks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="no smoke checks for carrier-pigeon://"):
        list(runner.results(setup(tmp_path, "carrier-pigeon://host/"), []))


def test_only_servers_that_let_us_in_are_cleaned_up(tmp_path: Path) -> None:
    told: list[str] = []
    checks = [Check("notify-connect", wrong, "notify")]
    list(runner.results(setup(tmp_path), checks, progress=told.append))
    assert told == []


def test_what_cannot_be_cleaned_up_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    checks = [Check("notify-connect", fine, "notify")]
    list(runner.results(setup(tmp_path), checks, progress=told.append))
    (line,) = told
    assert "could not be removed" in line and "Connection refused" in line
    assert "secret" not in line


def test_it_is_cleaned_up_when_somebody_stops_halfway(tmp_path: Path) -> None:
    told: list[str] = []
    checks = [Check("notify-connect", fine, "notify"), Check("two", fine, "rpc")]
    results = runner.results(setup(tmp_path), checks, progress=told.append)
    next(results)
    assert not told
    results.close()
    assert told


class TestFinishing:
    """A restart that has begun is not left halfway when we are told to end."""

    @pytest.fixture
    def interrupted(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
        """The first wait for a thread is interrupted."""
        join = threading.Thread.join
        seen: list[str] = []

        def interrupt(thread: threading.Thread, timeout: float | None = None) -> None:
            if not seen:
                seen.append("interrupted")
                raise KeyboardInterrupt
            join(thread, timeout)

        monkeypatch.setattr(threading.Thread, "join", interrupt)
        yield seen

    @pytest.mark.parametrize("disruptive", [True, False])
    def test_interrupt(
        self, tmp_path: Path, interrupted: list[str], disruptive: bool
    ) -> None:
        release, ended = threading.Event(), threading.Event()

        def restart(context: Context) -> Success:
            release.wait(0.2 if disruptive else 60)
            ended.set()
            return Success("restarted")

        check = Check("one", restart, "rpc", disruptive=disruptive)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path, check, disruptive=True)
        assert ended.is_set() is disruptive
        release.set()


class TestRecords:
    def test_the_console_is_spared_for_the_time_of_a_run(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        logger = logging.getLogger("oslo_messaging.y")
        with records.Records() as kept:
            logger.warning("during")
            logger.info("unimportant")
        logger.warning("after")
        assert kept.lines() == ["during"]
        assert caplog.messages == ["after"]

    def test_exceptions_that_were_only_logged_are_found(self) -> None:
        logger = logging.getLogger("oslo_messaging.y")
        with records.Records() as kept:
            assert kept.error() is None
            for number in range(2):
                try:
                    raise ValueError(number)
                except ValueError:
                    logger.exception("ignored")
            assert repr(kept.error()) == "ValueError(1)"
            kept.clear()
            assert kept.error() is None
