# SPDX-License-Identifier: Apache-2.0
"""Give engines that run new users, while services go on.

An engine knows two users meanwhile. What is done is written down step by step, so that
a command that was ended half-way can be run again:

========  ==========  ==================================================
user      next        the engine is being told of the next user
next      former      services get the URL of the next user, one by one
next                  the former user is gone
========  ==========  ==================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from hybrid_messaging import state, urls
from hybrid_messaging.engines import EngineError, kinds

#: What follows the name of a user who is not the first.
_GENERATION = re.compile(r"(?P<name>.*?)(?:-(?P<number>\d{1,9}))?(?P<realm>@.*)?")


@dataclass(frozen=True)
class User:
    """A user of an engine.

    :param role: ``present``, ``next`` or ``former``
    :param connections: how many of its clients there are; None: nobody can tell
    """

    engine: str
    name: str
    role: str
    connections: int | None


def objection(engine: state.Engine) -> str:
    """Why an engine cannot be given another user, or ''."""
    if not isinstance(engine.details, state.RotatingDetails):
        return (
            "it reads its only user when it starts: for a new password, wait until "
            "consumers have read everything, and run `down`, `up` and `configure`"
        )
    if engine.details.login is None:
        return "it accepts everyone without a password"
    return ""


def users(engine: state.Engine) -> list[User]:
    """The users of an engine that can have two of them."""
    kind, details = _kind(engine), _details(engine)
    connected: list[str] | None
    try:
        connected = kind.users(engine)
    except EngineError:
        connected = None
    found = {"present": details.login, "next": details.next, "former": details.former}
    return [
        User(
            engine.name,
            login.username,
            role,
            None if connected is None else connected.count(login.username),
        )
        for role, login in found.items()
        if login is not None
    ]


def rotate(engine: state.Engine, save: Callable[[state.Engine], None]) -> None:
    """Give an engine a new user, whom its URL has from now on; the former one stays.

    Nothing is done where that has been done already.

    :param save: writes down what is known of the engine
    :raises EngineError: the engine does not run, or refuses
    """
    details = _details(engine)
    if details.former is not None or details.login is None:
        return
    following = details.next or state.Login(
        username=next_name(details.login.username), password=kinds.new_password()
    )
    engine = replace(engine, details=replace(details, next=following))
    save(engine)
    _kind(engine).admit(engine, following)
    url = urls.parse(engine.url)
    hosts = tuple(replace(host, **vars(following)) for host in url.hosts)
    save(
        replace(
            engine,
            url=str(replace(url, hosts=hosts)),
            details=replace(
                details, **vars(following), next=None, former=details.login
            ),
        )
    )


def retire(engine: state.Engine, save: Callable[[state.Engine], None]) -> None:
    """Let in the former user of an engine no more.

    :param save: writes down what is known of the engine
    :raises EngineError: the engine does not run, or refuses
    """
    details = _details(engine)
    if details.former is not None:
        _kind(engine).dismiss(engine, details.former)
        save(replace(engine, details=replace(details, former=None)))


def require_unused(engines: Iterable[state.Engine]) -> None:
    """See that no client is connected as a former user.

    :raises EngineError: one is, or nobody can tell
    """
    used = [
        f"{user.name} at {user.engine} "
        + ("may have" if user.connections is None else f"has {user.connections}")
        for engine in engines
        for user in users(engine)
        if user.role == "former" and user.connections != 0
    ]
    if used:
        raise EngineError(
            f"clients are connected as a former user: {', '.join(used)} connections; "
            "run `hybrid-messaging configure` for their services and restart them, or "
            "disconnect them with --force"
        )


def next_name(name: str) -> str:
    """The name of the user who follows another one: hybrid, hybrid-2, hybrid-3."""
    parts = _GENERATION.fullmatch(name)
    assert parts is not None
    number = int(parts["number"] or 1) + 1
    return f"{parts['name']}-{number}{parts['realm'] or ''}"


def _details(engine: state.Engine) -> state.RotatingDetails:
    return engine.details_as(state.RotatingDetails)


def _kind(engine: state.Engine) -> kinds.RotatingKind:
    kind = kinds.get(engine.kind)
    assert isinstance(kind, kinds.RotatingKind), engine.kind
    return kind
