# SPDX-License-Identifier: Apache-2.0
"""Ask services through their REST interfaces."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from .waiting import NotYet, wait_for

#: Seconds for one request, above the services' rpc_response_timeout.
REQUEST_TIMEOUT = 200.0
#: Seconds for a resource to reach its next state.
STATE_TIMEOUT = 180.0

Json = dict[str, Any]

#: A connection that nobody accepts, or that an ending server closes unread.
_NOT_TAKEN = (ConnectionRefusedError, ConnectionResetError)

#: How many answers there were of each HTTP status; 0 stands for none.
ANSWERS = Counter[int]()


class RestError(Exception):
    """A request was answered with an error, or not at all.

    :param status: the HTTP status, 0 without an answer
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Away(RestError):
    """Nobody is there to answer: the API restarts, or says that its servers do."""


@dataclass(frozen=True)
class Answer:
    """A successful one."""

    headers: Mapping[str, str]
    body: Json


class Rest:
    """A JSON client of one service.

    :param url: what all paths are appended to
    :param headers: sent with every request
    :param later: headers that are looked at with every request, such as a token
    """

    #: Seconds to wait for an API that is away; users' clients do so as well.
    patience = 0.0

    def __init__(
        self, url: str, headers: dict[str, str], later: Mapping[str, str] | None = None
    ) -> None:
        self.url = url
        self._headers = headers
        self._later = {} if later is None else later

    def request(self, method: str, path: str, body: Json | None = None) -> Json:
        """Return what the service answers.

        :raises RestError: for every answer but a successful one
        """
        return self.answer(method, path, body).body

    def answer(self, method: str, path: str, body: Json | None = None) -> Answer:
        """Return what the service answers, with its headers.

        :raises RestError: for every answer but a successful one
        """
        data = None if body is None else json.dumps(body).encode()
        return self._ask(method, path, data, "application/json")

    def upload(self, path: str, content: bytes) -> None:
        """Give the service bytes to keep.

        :raises RestError: for every answer but a successful one
        """
        self._ask("PUT", path, content, "application/octet-stream")

    def _ask(self, method: str, path: str, data: bytes | None, kind: str) -> Answer:
        def answered() -> Answer:
            try:
                return self._ask_once(method, path, data, kind)
            except Away as away:
                if self.patience:
                    raise NotYet(str(away)) from None
                raise

        return wait_for("an answer", answered, self.patience)

    def _ask_once(
        self, method: str, path: str, data: bytes | None, kind: str
    ) -> Answer:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=data,
            headers={"Content-Type": kind, **self._headers, **self._later},
        )
        asked = f"{method} {request.full_url}"
        began = time.monotonic()

        def failed(error: object) -> str:
            return f"{asked}: after {time.monotonic() - began:.1f} s {error}"

        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT) as response:
                content = response.read()
                ANSWERS[response.status] += 1
        except urllib.error.HTTPError as error:
            ANSWERS[error.code] += 1
            answer = f"{error.code} {error.read().decode(errors='replace')}"
            unavailable = error.code == HTTPStatus.SERVICE_UNAVAILABLE
            kind_of_error = Away if unavailable else RestError
            raise kind_of_error(failed(answer), error.code) from None
        except (OSError, http.client.HTTPException) as error:
            ANSWERS[0] += 1
            cause = getattr(error, "reason", error)
            kind_of_error = Away if isinstance(cause, _NOT_TAKEN) else RestError
            raise kind_of_error(failed(error), 0) from None
        return Answer(response.headers, json.loads(content) if content else {})


def reach(rest: Rest, path: str, kind: str, state: str) -> None:
    """Wait until a resource is in a state.

    :raises AssertionError: it is in one of error
    """

    def reached() -> None:
        status = rest.request("GET", path)[kind]["status"]
        assert "error" not in status, f"{path}: {status}"
        if status != state:
            raise NotYet(status)

    wait_for(f"{path} {state}", reached, STATE_TIMEOUT)


def delete(rest: Rest, path: str, kind: str) -> None:
    """Delete a resource, and wait until it is gone.

    :raises AssertionError: it is in a state of error
    """
    rest.request("DELETE", path)

    def gone() -> None:
        try:
            status = rest.request("GET", path)[kind]["status"]
        except RestError as error:
            if error.status == 404:
                return
            raise
        assert "error" not in status, f"{path}: {status}"
        raise NotYet(status)

    wait_for(f"{path} deleted", gone, STATE_TIMEOUT)


def name_of(kind: str) -> str:
    """Return a name that nothing else has."""
    return f"{kind}-{uuid.uuid4().hex[:8]}"
