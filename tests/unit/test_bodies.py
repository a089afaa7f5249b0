# SPDX-License-Identifier: Apache-2.0
"""Requests, notifications and replies as JSON text."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import uuid
from typing import Any

import oslo_context.context
import pytest
from oslo_messaging.rpc.client import RemoteError
from tests import work

from hybrid_messaging.drivers import bodies

CALL = {"method": "do", "args": {"a": 1}, "version": "1.0"}


class Particular(Exception):
    """An exception of a module that a client may allow."""


class Demanding(Exception):
    """An exception that cannot be built from its arguments alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args)
        if args and args[0] == "sent":
            raise KeyError("not again")


def failure(error: Exception) -> Any:
    try:
        raise error
    except type(error):
        return sys.exc_info()


# -- requests ------------------------------------------------------------


def test_request_has_the_form_of_the_retired_driver() -> None:
    assert json.loads(bodies.request(CALL, {"user": "u"})) == {
        "request": CALL,
        "context": {"user": "u"},
    }
    assert json.loads(bodies.request(CALL, {}, 2.5))["call_monitor_timeout"] == 2.5


def test_notification_travels_in_the_envelope() -> None:
    data = json.loads(bodies.request(CALL, {}, envelope=True))
    assert data["request"]["oslo.version"] == "2.0"
    assert json.loads(data["request"]["oslo.message"]) == CALL


@pytest.mark.parametrize("envelope", [False, True])
@pytest.mark.parametrize("timeout", [None, 3])
def test_requests_come_back(envelope: bool, timeout: float | None) -> None:
    body = bodies.request(CALL, {"user": "ü"}, timeout, envelope)
    assert bodies.read_request(body) == (CALL, {"user": "ü"}, timeout)


def test_what_json_does_not_know_becomes_text() -> None:
    moment, number = datetime.datetime(2026, 1, 2, 3, 4, 5), uuid.uuid4()
    message, _, _ = bodies.read_request(
        bodies.request({"args": {"at": moment, "id": number, "of": {1}}}, {})
    )
    assert message["args"] == {
        "at": "2026-01-02T03:04:05.000000",
        "id": str(number),
        "of": [1],
    }


@pytest.mark.parametrize(
    "body",
    [
        None,
        7,
        b"\xff",
        "",
        "no json",
        "[]",
        "7",
        "{}",
        '{"request": null}',
        '{"request": []}',
        '{"request": {}, "context": ["list"]}',
        '{"request": {}, "context": "text"}',
        '{"request": {}, "call_monitor_timeout": "soon"}',
        '{"request": {}, "call_monitor_timeout": NaN}',
        '{"request": {}, "call_monitor_timeout": Infinity}',
        '{"request": {}, "call_monitor_timeout": -1}',
        '{"request": {}, "call_monitor_timeout": true}',
        '{"request": {"oslo.version": "9.0", "oslo.message": "{}"}}',
        '{"request": {"oslo.version": "2.0", "oslo.message": "no json"}}',
        '{"request": {"oslo.version": [], "oslo.message": {}}}',
        "[" * 100_000,
        '{"request":' * 100_000,
    ],
)
def test_malformed_requests_are_refused(body: Any) -> None:
    with pytest.raises(bodies.MalformedBody):
        bodies.read_request(body)


@pytest.mark.parametrize("member", ["[]", "{}", "0", '""', "[[[[[[[[]]]]]]]]", "[{}]"])
def test_a_body_of_too_many_values_is_refused_before_they_are_built(
    member: str,
) -> None:
    values = ",".join([member] * bodies.MAX_VALUES)
    body = f'{{"request": {{"args": [{values}]}}}}'

    def read() -> None:
        with pytest.raises(bodies.MalformedBody, match="2,000,000 values"):
            bodies.read_request(body)
        with pytest.raises(bodies.MalformedBody, match="2,000,000 values"):
            bodies.read_reply(body, [])

    assert work.allocated(read) < 1 << 20


def test_values_may_not_hide_in_the_text_of_an_envelope() -> None:
    """Escaped, they are no values of the outer text."""
    inner = json.dumps(
        {"args": [[]] * (bodies.MAX_VALUES // 2 + 1)}, separators=(",", ":")
    )
    escaped = inner.replace(",", "\\u002c").replace("[", "\\u005b")
    body = f'{{"request": {{"oslo.version": "2.0", "oslo.message": "{escaped}"}}}}'
    body = body.replace('"args"', '\\"args\\"')
    with pytest.raises(bodies.MalformedBody, match="2,000,000 values"):
        bodies.read_request(body)


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "n" * 256, "", 5, None, "a b"])
@pytest.mark.parametrize("which", ["class", "module"])
def test_exceptions_with_odd_names_reach_no_log(
    name: Any, which: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = {"class": "ValueError", "module": "nova.exception", "message": "told"}
    reply = json.dumps({"failure": json.dumps({**told, which: name})})
    with pytest.raises(RemoteError, match="told"):
        bodies.read_reply(reply, ["nova.exception"])
    assert not caplog.records


def test_a_large_text_is_no_large_number_of_values() -> None:
    text = "[words, and some more]" * 60_000 + "x" * bodies.MAX_VALUES
    request = bodies.request({"method": "m", "args": {"text": text}}, {})
    assert bodies.read_request(request).message["args"] == {"text": text}


# -- replies -------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, "", "ü", [], {"a": [1.5, None]}])
def test_values_come_back(value: Any) -> None:
    assert bodies.read_reply(bodies.reply(value), []) == value


def test_reply_has_the_form_of_the_retired_driver() -> None:
    assert json.loads(bodies.reply([1])) == {"response": [1]}
    assert list(json.loads(bodies.reply(None, failure(ValueError("x"))))) == ["failure"]


def test_allowed_exceptions_are_raised_as_themselves() -> None:
    body = bodies.reply(None, failure(Particular("text", 7)))
    with pytest.raises(Particular, match="text") as caught:
        bodies.read_reply(body, [__name__])
    assert caught.value.args == ("text", 7)


def test_other_exceptions_are_remote_errors() -> None:
    body = bodies.reply(None, failure(Particular("text")))
    with pytest.raises(RemoteError) as caught:
        bodies.read_reply(body, [])
    assert (caught.value.exc_type, caught.value.value) == ("Particular", "text")


def test_exceptions_that_cannot_be_built_are_remote_errors() -> None:
    body = json.dumps(
        {
            "failure": json.dumps(
                {
                    "class": "Demanding",
                    "module": __name__,
                    "message": "sent",
                    "tb": ["line"],
                    "args": ["sent"],
                    "kwargs": {},
                }
            )
        }
    )
    with pytest.raises(RemoteError) as caught:
        bodies.read_reply(body, [__name__])
    assert (caught.value.exc_type, caught.value.value) == ("Demanding", "sent")


class Mute(Exception):
    """An exception that does not even say what it is."""

    def __str__(self) -> str:
        raise LookupError("no words")


class Keyed(Exception):
    """An exception with keywords that no JSON has."""

    kwargs = {"what": object()}


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            RemoteError,
            "UnicodeDecodeError 'utf-8' codec can't decode byte 0xff",
        ),
        (
            subprocess.CalledProcessError(3, ["make"], b"\xff"),
            RemoteError,
            "CalledProcessError Command .* returned non-zero exit status 3",
        ),
        (Particular(b"\xff", 1), Particular, "xff"),
        (Particular({"deep": [{b"\xff": object()}]}), Particular, "deep"),
        (Keyed("words"), Keyed, "words"),
        (Mute(object()), Mute, "cannot be read"),
        (ValueError("\udcff", b"\xff"), ValueError, "udcff"),
    ],
)
def test_exceptions_that_cannot_be_encoded_come_as_text(
    error: Exception, kind: type[Exception], words: str
) -> None:
    body = bodies.reply(None, failure(error))
    with pytest.raises(kind, match=words) as caught:
        bodies.read_reply(body, [__name__])
    assert "test_bodies.py" in str(caught.value)  # where it was raised


def test_a_value_that_cannot_be_encoded_becomes_the_reason() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for value, words in ((loop, "Circular"), (b"\xff", "codec"), (object(), "object")):
        with pytest.raises(ValueError, match=words):
            bodies.read_reply(bodies.reply(value), [])


def test_a_value_whose_own_error_has_no_words_is_refused_all_the_same() -> None:
    class Shy:
        def __iter__(self) -> Any:
            raise Mute

    with pytest.raises(ValueError, match="cannot be read"):
        bodies.read_reply(bodies.reply(Shy()), [])


def test_an_error_made_of_text_has_a_bounded_size() -> None:
    with pytest.raises(Particular, match="x") as caught:
        bodies.read_reply(bodies.refusal(Particular("x" * 10_000_000)), [__name__])
    assert len(caught.value.args[0]) == bodies.TEXT_LIMIT


@pytest.mark.parametrize(
    "body",
    [
        None,
        7,
        "",
        "no json",
        "[]",
        '{"failure": 7}',
        '{"failure": "no json"}',
        '{"failure": "[]"}',
    ],
)
def test_malformed_replies_are_refused(body: Any) -> None:
    with pytest.raises(bodies.MalformedBody):
        bodies.read_reply(body, [])


@pytest.mark.parametrize(
    "told", [{}, {"class": 7, "module": [], "tb": 5}, {"module": "builtins"}]
)
def test_failures_that_tell_little_are_remote_errors(told: dict[str, Any]) -> None:
    with pytest.raises(RemoteError):
        bodies.read_reply(json.dumps({"failure": json.dumps(told)}), [])


def test_a_context_may_be_an_object_that_makes_a_dictionary() -> None:
    context = oslo_context.context.RequestContext(user_id="me")
    read = bodies.read_request(bodies.request({"method": "ping"}, context))
    assert read.context["user"] == "me"
