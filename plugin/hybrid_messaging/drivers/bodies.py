# SPDX-License-Identifier: Apache-2.0
"""What a message says: requests, notifications and replies as JSON text.

The form is that of the retired amqp1 driver (oslo.messaging 14.9,
`_drivers/impl_amqp1.py`), so that services on either side of the upgrade
understand each other.
"""

from __future__ import annotations

import contextlib
import json
import threading
import traceback
from typing import Any, NamedTuple

from oslo_messaging.rpc.client import RemoteError
from oslo_serialization import jsonutils

from hybrid_messaging.drivers import oslo

#: Values that a body may have, which is a hundred megabytes of memory at worst.
MAX_VALUES = 2_000_000

#: Characters that the name of an exception's class or module may have.
MAX_NAME = 255
#: Characters that an error reply made of text keeps of each of its parts.
TEXT_LIMIT = 16 * 1024

# One encoder for all threads: json.dumps(default=…) would build one per message.
_encode = json.JSONEncoder(default=jsonutils.to_primitive).encode
_decode = json.JSONDecoder().decode


class MalformedBody(ValueError):
    """A body that is no request or reply of oslo.messaging's."""


class Request(NamedTuple):
    message: dict[str, Any]
    context: dict[str, Any]
    #: seconds between two signs of life that the caller expects, if it does
    call_monitor_timeout: float | None


def request(
    message: dict[str, Any],
    context: Any,
    call_monitor_timeout: float | None = None,
    envelope: bool = False,
) -> str:
    """A request or, with an envelope, a notification.

    :param context: a dictionary, or what makes one: callers without a serializer give
        their context as it is, and the `rabbit` driver takes it
    """
    if hasattr(context, "to_dict"):
        context = context.to_dict()
    data = {
        "request": oslo.serialize_msg(message) if envelope else message,
        "context": context,
    }
    if call_monitor_timeout is not None:
        data["call_monitor_timeout"] = call_monitor_timeout
    return _encode(data)


def read_request(body: Any) -> Request:
    """:raises MalformedBody: the body is no request; no body raises anything else"""
    data = _object(body)
    context = data.get("context") or {}
    timeout = data.get("call_monitor_timeout")
    if not isinstance(context, dict):
        raise MalformedBody("the context of the request is not an object")
    if timeout is not None and not _is_duration(timeout):
        raise MalformedBody("call_monitor_timeout is not a number of seconds")
    try:
        _check_envelope(data["request"])
        message = oslo.deserialize_msg(data["request"])
    except MalformedBody:
        raise
    except Exception as error:  # oslo's exceptions for versions, among others
        raise MalformedBody(f"the request cannot be decoded: {error}") from error
    if not isinstance(message, dict):
        raise MalformedBody("the request is not an object")
    return Request(message, context, timeout)


def reply(value: Any, failure: Any = None) -> str:
    """The answer to a call; there is one for all arguments.

    What cannot be encoded becomes an error that the caller gets instead: it would
    wait for its whole timeout otherwise.

    :param failure: exc_info of an exception that is to be raised at the caller
    """
    try:
        if failure:
            return _encode({"failure": oslo.serialize_remote_exception(failure)})
        return _encode({"response": value})
    except Exception as error:  # a service's own objects raise any
        if failure:
            return refusal(failure[1])
        return refusal(
            ValueError(
                f"The return value of the endpoint cannot be sent: {_text(error)}"
            )
        )


def refusal(error: BaseException) -> str:
    """An answer that says by its text alone what went wrong.

    The class of the exception is named; of its arguments only the text is kept,
    and not all of a long one.
    """
    text, trace = _text(error)[:TEXT_LIMIT], ""
    with contextlib.suppress(Exception):
        trace = "".join(traceback.format_tb(error.__traceback__))[-TEXT_LIMIT:]
    told = {
        "class": type(error).__name__,
        "module": str(type(error).__module__),
        "message": text,
        "tb": [trace] if trace else [],
        "args": [text],
        "kwargs": {},
    }
    return _encode({"failure": _encode(told)})


def _text(error: BaseException) -> str:
    """What an exception says, if it lets itself be asked."""
    try:
        return str(error)
    except Exception:
        return "The text of the exception cannot be read."


def read_reply(body: Any, allowed_remote_exmods: list[str]) -> Any:
    """The value of a reply.

    :raises MalformedBody: it is no reply
    :raises Exception: the remote one, or RemoteError for one that is not allowed
    """
    data = _object(body)
    failure = data.get("failure")
    if failure is None:
        return data.get("response")
    told = _object(failure)
    # oslo.messaging logs the names of what it cannot rebuild
    if not (_is_name(told.get("class")) and _is_name(told.get("module"))):
        raise RemoteError("An exception without a name", told.get("message"))
    try:
        remote = oslo.deserialize_remote_exception(failure, allowed_remote_exmods)
    except Exception:  # the class does not take the arguments that came with it
        remote = RemoteError(told.get("class"), told.get("message"), told.get("tb"))
    raise remote


def _is_name(value: Any) -> bool:
    """Whether a class or a module may be called so."""
    return (
        isinstance(value, str)
        and len(value) <= MAX_NAME
        and all(
            part.isidentifier() for part in value.replace("<locals>.", "").split(".")
        )
    )


def _is_duration(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < threading.TIMEOUT_MAX


def _check_envelope(request: Any) -> None:
    """A request may be JSON text within JSON text, which oslo.messaging decodes.

    :raises MalformedBody: it has too many values
    """
    inner = request.get("oslo.message") if isinstance(request, dict) else None
    if isinstance(inner, str):
        _check_values(inner)


def _check_values(text: str) -> None:
    """:raises MalformedBody: JSON text has too many values to be decoded"""
    if len(text) > MAX_VALUES and sum(map(text.count, ",[{")) > MAX_VALUES:
        raise MalformedBody(f"the body has more than {MAX_VALUES:,} values")


def _object(body: Any) -> dict[str, Any]:
    try:
        # bytes are UTF-8; json.loads would look which encoding they have
        text = body if isinstance(body, str) else str(body, "utf-8")
        _check_values(text)
        data = _decode(text)
    except MalformedBody:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise MalformedBody(f"the body is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise MalformedBody("the JSON text is not an object")
    return data
