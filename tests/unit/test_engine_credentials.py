# SPDX-License-Identifier: Apache-2.0
"""What is written down while engines get other users, and in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hybrid_messaging import state, state_directory
from hybrid_messaging.engines import EngineError, credentials, kinds
from hybrid_messaging.engines.deployment import Deployment
from hybrid_messaging.engines.supervisor import UP

PASSWORD = "hush"


def engine(
    details: state.Details | None = None, kind: str = "rabbitmq"
) -> state.Engine:
    return state.Engine(
        name=kind,
        kind=kind,
        roles=("notify",),
        host="127.0.0.1",
        port=5672,
        url=f"rabbit://hybrid:{PASSWORD}@127.0.0.1:5672/?ssl=true",
        pid=1,
        started=0.0,
        log="",
        details=details
        or state.RabbitMQDetails(
            username="hybrid",
            password=PASSWORD,
            management_port=1,
            distribution_port=2,
            epmd_port=3,
            cookie="c",
            node="n",
        ),
    )


class Node:
    """Stands for the engine, and for the file that its record is in.

    :param fails_at: which of the steps ends the command
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails_at: int = 99) -> None:
        self.users = {"hybrid"}
        self.written: list[state.Engine] = [engine()]
        self.left = fails_at
        kind = type(kinds.get("rabbitmq"))
        monkeypatch.setattr(kind, "admit", self._admit)
        monkeypatch.setattr(kind, "dismiss", self._dismiss)

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise EngineError("ended")

    def _admit(self, engine: state.Engine, login: state.Login) -> None:
        self._step()
        self.users.add(login.username)

    def _dismiss(self, engine: state.Engine, login: state.Login) -> None:
        self._step()
        self.users.discard(login.username)

    def save(self, engine: state.Engine) -> None:
        self._step()
        self.written.append(engine)

    @property
    def details(self) -> state.RabbitMQDetails:
        return self.written[-1].details_as(state.RabbitMQDetails)


@pytest.mark.parametrize("fails_at", range(4))
def test_a_rotation_may_end_anywhere(
    monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    """The user of the URL is one whom the engine knows, at each moment."""
    node = Node(monkeypatch, fails_at)
    try:
        credentials.rotate(node.written[-1], node.save)
    except EngineError:
        assert fails_at < 3
    for each in node.written:
        assert each.details.username in node.users
        assert f"//{each.details.username}:{each.details.password}@" in each.url
    node.left = 99
    credentials.rotate(node.written[-1], node.save)
    assert node.details.username == "hybrid-2"
    assert node.details.former == state.Login(username="hybrid", password=PASSWORD)
    assert node.details.next is None
    assert node.users == {"hybrid", "hybrid-2"}
    assert node.written[-1].url.endswith("@127.0.0.1:5672/?ssl=true")


@pytest.mark.parametrize("fails_at", range(3))
def test_a_retirement_may_end_anywhere(
    monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    node = Node(monkeypatch)
    credentials.rotate(node.written[-1], node.save)
    url = node.written[-1].url
    node.left = fails_at
    try:
        credentials.retire(node.written[-1], node.save)
    except EngineError:
        assert fails_at < 2
    node.left = 99
    for _ in range(2):
        credentials.retire(node.written[-1], node.save)
    assert node.users == {"hybrid-2"}
    assert node.details.former is None
    assert node.written[-1].url == url


@pytest.mark.parametrize(
    ("name", "following"),
    [
        ("hybrid", "hybrid-2"),
        ("hybrid-2", "hybrid-3"),
        ("hybrid-99@realm", "hybrid-100@realm"),
        ("nova@hybrid-2", "nova-2@hybrid-2"),
        ("a-b", "a-b-2"),
        ("a-" + "9" * 40, "a-" + "9" * 40 + "-2"),
    ],
)
def test_users_are_numbered(name: str, following: str) -> None:
    assert credentials.next_name(name) == following


def test_what_cannot_have_two_users_says_why() -> None:
    assert credentials.objection(engine()) == ""
    open_router = state.RouterDetails(router="embedded", id="x")
    assert "accepts everyone" in credentials.objection(engine(open_router, "router"))
    one = state.Details(username="hybrid", password=PASSWORD)
    assert "its only user" in credentials.objection(engine(one, "broker"))


@pytest.mark.parametrize(
    ("connected", "allowed"), [(0, True), (2, False), (None, False)]
)
def test_who_is_connected_is_not_retired(
    monkeypatch: pytest.MonkeyPatch, connected: int | None, allowed: bool
) -> None:
    def users(kind: object, engine: state.Engine) -> list[str]:
        if connected is None:
            raise EngineError("no answer")
        return ["hybrid"] * connected + ["hybrid-2"]

    monkeypatch.setattr(type(kinds.get("rabbitmq")), "users", users)
    former = state.Login(username="hybrid", password=PASSWORD)
    details = replace(engine().details, username="hybrid-2", former=former)
    if allowed:
        credentials.require_unused([engine(details)])
        return
    with pytest.raises(EngineError, match=r"hybrid at rabbitmq .* --force"):
        credentials.require_unused([engine(details)])


def test_an_engine_that_starts_again_lets_in_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of another supervisor, whose users are not ours, is left alone."""
    node = Node(monkeypatch)
    credentials.rotate(node.written[-1], node.save)
    node.users.clear()
    kind = kinds.get("rabbitmq")
    kind.set_up(node.written[-1])
    assert node.users == {"hybrid"}
    node.users.clear()
    kind.set_up(engine(state.Details(username="nova", password=PASSWORD)))
    assert node.users == set()


def test_what_is_left_alone_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = state.Details(username="hybrid", password=PASSWORD)
    engines = (engine(), engine(one, "broker"))
    found = state.State(mode="test", rpc_url="", notify_url="", engines=engines)
    said: list[str] = []
    deployment = Deployment(tmp_path, said.append)
    monkeypatch.setattr(state_directory, "load", lambda directory: found)
    monkeypatch.setattr(Deployment, "health", lambda self, engine: UP)
    monkeypatch.setattr(credentials, "rotate", lambda engine, save: None)
    deployment.rotate([])
    left, rotated = said
    assert left.startswith("broker: left alone: it reads its only user when it starts")
    assert rotated.startswith("rabbitmq: has a new user")
    # whoever names one is to know that nothing has been done
    with pytest.raises(EngineError, match=r"broker: .*`down`, `up` and `configure`"):
        deployment.rotate(["broker"])


def test_a_directory_in_which_nothing_is_up(tmp_path: Path) -> None:
    """Such as one of `engine prepare` or `cluster render`."""
    deployment = Deployment(tmp_path, lambda line: None)
    with pytest.raises(EngineError, match="Change passwords without an outage"):
        deployment.rotate([])
