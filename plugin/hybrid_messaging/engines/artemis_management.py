# SPDX-License-Identifier: Apache-2.0
"""Ask ActiveMQ Artemis about itself, over AMQP 1.0.

Messages to the broker's management address name an attribute or an operation of
its control objects; parameters and answers are JSON
(https://artemis.apache.org/components/artemis/documentation/latest/management.html).
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, TypedDict

import proton

from hybrid_messaging import state
from hybrid_messaging.engines import EngineError, amqp_connection

_ADDRESS = "activemq.management"
_CONTROL = "broker"


class Queue(TypedDict):
    """What is read of a queue; there is more."""

    name: str
    #: a number, written out
    messageCount: str


class ArtemisManagement:
    """A connection to the management of a broker; use it as a context manager.

    :param host: name or address
    :param port: TCP port
    :param username: with `password`, of a user who may manage the broker
    :param ca_file: the certificate to trust, for a broker that wants TLS
    :param timeout: seconds that connecting or any answer may take
    :raises EngineError: if there is no broker, or it does not let us in
    """

    def __init__(
        self,
        host: str,
        port: int,
        username: str,
        password: str,
        ca_file: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        self._where = f"{host}:{port}"
        try:
            self._requests = amqp_connection.Requests(
                (host, port), _ADDRESS, username, password, ca_file, timeout
            )
        except OSError as error:
            raise self._error(error) from error

    @classmethod
    def of(cls, engine: state.Engine) -> ArtemisManagement:
        """Connect to the management of a broker.

        :raises EngineError: if it does not answer
        """
        username, password = engine.details.username, engine.details.password
        assert username is not None and password is not None
        return cls(engine.host, engine.port, username, password, engine.ca_file)

    def __enter__(self) -> ArtemisManagement:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._requests.close()

    def get(self, attribute: str) -> Any:
        """Return an attribute of the broker.

        :raises EngineError: if it has none of this name
        """
        return self._ask({"_AMQ_Attribute": attribute})

    def queues(self) -> list[Queue]:
        """All queues but the one of our own answers."""
        listed = json.loads(self._call("listQueues", "", 1, -1))
        own = self._requests.reply_to
        return [row for row in listed["data"] if row["name"] != own]

    def remove(self, queue: str) -> None:
        """Remove a queue with what is in it, and whoever still listens there.

        :raises EngineError: if there is no such queue
        """
        self._call("destroyQueue", queue, True)

    def _call(self, operation: str, *parameters: Any) -> Any:
        return self._ask({"_AMQ_OperationName": operation}, list(parameters))

    def _ask(
        self, question: dict[str, str], parameters: list[Any] | None = None
    ) -> Any:
        request = proton.Message(
            properties={"_AMQ_ResourceName": _CONTROL, **question},
            body=json.dumps(parameters or []),
        )
        try:
            answer = self._requests.call(request)
        except OSError as error:
            raise self._error(error) from error
        values = json.loads(str(answer.body)) if answer.body else [None]
        properties: dict[str, Any] = answer.properties or {}
        if not properties.get("_AMQ_OperationSucceeded"):
            raise EngineError(
                f"the broker at {self._where} refused a management request: {values[0]}"
            )
        return values[0]

    def _error(self, error: Exception) -> EngineError:
        return EngineError(
            f"cannot reach the management of a broker at {self._where}:"
            f" {error or type(error).__name__}"
        )
