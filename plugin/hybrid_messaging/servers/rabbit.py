# SPDX-License-Identifier: Apache-2.0
"""rabbit://: RabbitMQ, asked through its management, rabbitmqctl, or AMQP 0-9-1."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import amqp
from kombu.utils.url import parse_url

from hybrid_messaging import urls
from hybrid_messaging.engines import HOST, EngineError, ports
from hybrid_messaging.servers.census import Census
from hybrid_messaging.servers.insight import Insight, Look
from hybrid_messaging.servers.transport import (
    CLIENT,
    TIMEOUT,
    ConnectError,
    Inventory,
    Names,
    Transport,
    protocol_error,
    tls_failed,
    unreachable,
)

if TYPE_CHECKING:
    from hybrid_messaging.servers.rabbit_management import Management

#: Queues that outlive a restart of RabbitMQ, with the option of oslo.messaging's
#: driver that asks for them.
QUEUES = {"durable": "amqp_durable_queues", "quorum": "rabbit_quorum_queue"}

#: Arguments of quorum queues by the options that ask for them
#: (`impl_rabbit._get_queue_arguments`).
_LIMITS = {
    "x-delivery-limit": "rabbit_quorum_delivery_limit",
    "x-max-in-memory-length": "rabbit_quorum_max_memory_length",
    "x-max-in-memory-bytes": "rabbit_quorum_max_memory_bytes",
}
_INEQUIVALENT = re.compile(r"inequivalent arg '([\w-]+)'")

#: What oslo.messaging's driver calls the queues and exchanges of RPC
#: (`impl_rabbit.Connection.declare_*_consumer`).
_RPC_NAMES = re.compile(r"reply_[0-9a-f]+|.+_fanout(_.+)?")

#: Seconds for rabbitmqctl, which starts Erlang.
_CTL_TIMEOUT = 40.0
#: Where nodes of this machine are registered, unless the environment tells.
_EPMD_PORT = 4369
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Rabbit(Transport):
    """RabbitMQ, as oslo.messaging's driver uses it."""

    title = "RabbitMQ"
    port = 5672
    delivery = "queued"
    group = "oslo_messaging_rabbit"
    look_at = {
        "separation": (
            "`rabbitmqctl list_queues name consumers`: a queue with consumers belongs"
            " to a service that needs `hybrid-messaging configure` or a restart;"
            " delete one without consumers, or wait until it expires"
        ),
        "notify-stored": "RabbitMQ's log, and its alarms: `rabbitmqctl status`",
        "notify-delivered": (
            "[oslo_messaging_rabbit] amqp_durable_queues or rabbit_quorum_queue: one"
            " must be true, or notifications do not survive a restart"
        ),
    }

    _without_tls = {"ssl": False}
    _ca_files = ("ssl_ca_file",)

    @property
    def defect(self) -> str:
        """See `Transport`.

        The driver builds a URL for kombu from the parts of the transport URL
        (`impl_rabbit.Connection._transform_transport_url`) in which a `/` of user
        name and password and the whole virtual host stand as they are.
        """
        vhost = self.url.vhost
        for host in self.url.hosts:
            user, password = host.username or "guest", host.password or "guest"
            given = f"amqp://{quote(user)}:{quote(password)}@localhost/{vhost or ''}"
            try:
                seen = parse_url(given)
                taken = (seen["userid"], seen["password"]) == (user, password)
            except ValueError:
                taken = False
            if not taken:
                return (
                    "oslo.messaging's rabbit driver does not support this user name or"
                    " password: choose one without a slash"
                )
            if (seen["virtual_host"] or "/") != (vhost or "/"):
                return (
                    "oslo.messaging's rabbit driver does not support virtual host"
                    f" {vhost!r}: choose one without ?, # and %"
                )
        return ""

    def trial_query(self, role: str, configured: bool) -> Mapping[str, str]:
        """See `Transport`."""
        if role == "rpc":
            # nobody knows the names of the queues of replies and fanouts: they are
            # left to expire once nobody uses them
            return {"rabbit_transient_queues_ttl": "5"}
        return {} if configured else {QUEUES["durable"]: "true"}

    @property
    def encrypted(self) -> bool:
        """See `Transport`."""
        return bool(self.options.ssl)

    @property
    def durable(self) -> bool:
        """See `Transport`."""
        return any(getattr(self.options, option) for option in QUEUES.values())

    def engine_kind(self, said: str) -> str | None:
        """See `Transport`."""
        return "rabbitmq"

    @contextlib.contextmanager
    def connection(self, host: urls.Host, timeout: float) -> Iterator[amqp.Connection]:
        """An open connection, with the settings of oslo.messaging's driver.

        :param host: one of the servers
        :param timeout: seconds for each step
        :raises ConnectError: there is none
        """
        name, _ = self.address(host)
        server = self.shown(host)
        vhost = self.url.vhost or "/"
        connection = amqp.Connection(
            host=server,
            # as kombu fills them in for the driver
            userid=host.username or "guest",
            password=host.password or "guest",
            login_method=self.options.rabbit_login_method,
            virtual_host=vhost,
            ssl=_tls(self.options, name),
            connect_timeout=timeout,
            read_timeout=timeout,
            write_timeout=timeout,
            client_properties={
                "product": CLIENT,
                "capabilities": {
                    "authentication_failure_close": True,
                    "connection.blocked": True,
                },
            },
        )
        with _explained(server, host.username or "guest", vhost):
            try:
                connection.connect()
                yield connection
            finally:
                with contextlib.suppress(OSError, amqp.AMQPError):
                    connection.close()

    def declared_otherwise(
        self, host: urls.Host, exchange: str, queues: list[str], timeout: float
    ) -> dict[str, str]:
        """Which of an exchange and its queues are not as the driver declares them.

        Those that are not there are passed over. RabbitMQ has no way to ask: declaring
        something that exists changes nothing, and fails if it is not as declared.

        :param host: one of the servers
        :param timeout: seconds for each step
        :returns: by `exchange NAME` and `queue NAME`, the first argument that differs,
            such as `durable`
        :raises ConnectError: the server cannot be asked
        """
        with self.connection(host, timeout) as connection:
            return self._differing(connection, exchange, queues)

    def _differing(
        self, connection: amqp.Connection, exchange: str, queues: list[str]
    ) -> dict[str, str]:
        auto_delete = self.options.amqp_auto_delete
        arguments: dict[str, Any] = {}
        if self.options.rabbit_quorum_queue:
            arguments = {"x-queue-type": "quorum"} | {
                argument: value
                for argument, option in _LIMITS.items()
                if (value := getattr(self.options, option))
            }
        declarations: list[tuple[str, Callable[..., Any]]] = [
            (
                f"exchange {exchange}",
                lambda channel, **how: channel.exchange_declare(
                    exchange, "topic", auto_delete=auto_delete, **how
                ),
            )
        ]
        declarations += [
            (
                f"queue {queue}",
                lambda channel, queue=queue, **how: channel.queue_declare(
                    queue, auto_delete=auto_delete, arguments=arguments, **how
                ),
            )
            for queue in queues
        ]
        found = {
            name: _difference(connection, declare, self.durable)
            for name, declare in declarations
        }
        return {name: argument for name, argument in found.items() if argument}

    def _connect(self, host: urls.Host, timeout: float) -> str:
        with self.connection(host, timeout) as connection:
            server = connection.server_properties
            return f"{server.get('product', '')} {server.get('version', '')}".strip()

    def _inspect(
        self, hosts: Sequence[urls.Host], look: Look, insight: Insight
    ) -> None:
        from hybrid_messaging.servers import rabbit_state

        vhost = self.url.vhost or "/"
        clusters: dict[str, str] = {}
        for number, host in enumerate(hosts):
            try:
                with self.connection(host, look.timeout) as connection:
                    name = connection.server_properties.get("cluster_name")
                    if isinstance(name, str):
                        clusters[self.shown(host)] = name
                    if number == 0:  # it tells what all others would
                        insight.problems += rabbit_state.unread(
                            connection, look.queues, vhost
                        )
                        insight.problems += rabbit_state.alarmed(
                            connection, look.timeout, insight
                        )
            except ConnectError as error:
                insight.unseen.append(str(error))
        insight.network |= set(clusters.values())
        insight.problems += rabbit_state.of_one_cluster(clusters)
        self._look_at_management(hosts[0], look, insight)

    def _look_at_management(
        self, host: urls.Host, look: Look, insight: Insight
    ) -> None:
        if look.management is None:
            insight.unseen.append(
                f"policies, nodes and replicas of {self.shown(host)}, which only its"
                " management reports: add --rabbitmq-management"
            )
            return
        self._management(host, look.management, look).look_at(insight)

    def _management(self, host: urls.Host, port: int, look: Look) -> Management:
        from hybrid_messaging.servers import rabbit_management

        # with TLS if AMQP has it, so that no password is sent with less care
        scheme = "https" if self.encrypted else "http"
        access = rabbit_management.Access(
            f"{scheme}://{urls.Host(self.address(host)[0], port)}",
            host.username or "guest",
            host.password or "guest",
            self.ca_file,
        )
        return rabbit_management.Management(
            access, self.url.vhost or "/", len(self.hosts), look
        )

    def census(self, look: Look) -> Census:
        """See `Transport`; the first node that answers tells."""
        from hybrid_messaging.servers import rabbit_census

        vhost = self.url.vhost or "/"
        if self.engine is not None:
            from hybrid_messaging.engines import rabbitmq_management

            engine = self.engine
            return rabbit_census.of_management(
                lambda path: rabbitmq_management.request(engine, "GET", path), vhost
            )
        if look.management is None:
            program = self._ctl()
            if program is not None:
                with self._any_connection() as connection:
                    port = connection.sock.getsockname()[1]
                    return rabbit_census.of_ctl(program, vhost, port)
            raise EngineError(
                "RabbitMQ does not say to its clients who they are: let its management "
                "be asked (--rabbitmq-management), run this where rabbitmqctl is, or, "
                "if `up` has started it, name its state directory (--old-state-dir)"
            )
        for host in self.hosts:
            try:
                management = self._management(host, look.management, look)
                return rabbit_census.of_management(management.get, vhost)
            except EngineError as error:
                failure = error
        raise failure

    def waiting(self, names: Names) -> int | None:
        """See `Transport`.

        :raises EngineError: it is no quorum queue, where these are wanted
        """
        with self._any_connection() as connection:
            try:
                found = connection.channel().queue_declare(names.notify_queue, True)
            except amqp.NotFound:
                return 0
            if self.options.rabbit_quorum_queue and self._differing(
                connection, names.notify_exchange, [names.notify_queue]
            ):
                raise EngineError(f"{names.notify_queue} is not a quorum queue")
            return int(found[1])

    def inventory(self, names: Names) -> Inventory:
        """See `Transport`.

        An engine of ours tells everything through its management, a node of this
        machine through rabbitmqctl if we may use it. Otherwise the run's own names
        are looked for.
        """
        if self.engine is not None:
            from hybrid_messaging.engines import rabbitmq_management as management

            return Inventory(
                "its management",
                _named(
                    management.queues(self.engine), management.exchanges(self.engine)
                ),
            )
        return self._from_ctl(names) or self._from_probing(names)

    def is_rpc(self, name: str) -> bool:
        """See `Transport`."""
        return _RPC_NAMES.fullmatch(name) is not None

    def clean_up(self, names: Names) -> None:
        """See `Transport`."""
        self.delete(names.queues, names.exchanges)

    def delete(self, queues: Iterable[str], exchanges: Iterable[str]) -> None:
        """Delete queues and exchanges, as far as they are there.

        :raises EngineError: no server can be asked
        """
        with self._any_connection() as connection:
            channel = connection.channel()
            # neither complains about what is not there
            for queue in queues:
                channel.queue_delete(queue)
            for exchange in exchanges:
                channel.exchange_delete(exchange)

    def _from_ctl(self, names: Names) -> Inventory | None:
        """What rabbitmqctl tells, if it tells of the very broker that we use."""
        program = self._ctl()
        if program is None:
            return None
        listed = []
        for what in ("list_queues", "list_exchanges"):
            command = [program, "-q", what, "-p", self.url.vhost or "/"]
            try:
                done = subprocess.run(
                    [*command, "--formatter", "json", "name"],
                    capture_output=True,
                    timeout=_CTL_TIMEOUT,
                    check=True,
                )
                listed.append(json.loads(done.stdout))
            except (OSError, ValueError, subprocess.SubprocessError):
                return None
        found = _named(*listed)
        # there may be several nodes: ours is the one that has what we have made
        if names.notify_exchange not in found["exchanges"]:
            return None
        return Inventory("rabbitmqctl", found)

    def _ctl(self) -> str | None:
        """What may tell of a node of this machine."""
        if not any(host.host in _LOOPBACK for host in self.hosts):
            return None
        # without a node, it would start an epmd that listens on all interfaces, and
        # leave it behind
        return shutil.which("rabbitmqctl") if _epmd_answers() else None

    def _from_probing(self, names: Names) -> Inventory:
        """Which of the names that a run uses are there, found out one by one."""
        with self._any_connection() as connection:

            def exists(declare: str, name: str, *arguments: Any) -> bool:
                channel = connection.channel()
                try:
                    getattr(channel, declare)(name, *arguments, passive=True)
                except amqp.NotFound:
                    return False
                return True

            found = {
                "queues": [
                    name for name in names.queues if exists("queue_declare", name)
                ],
                "exchanges": [
                    name
                    for name in names.exchanges
                    if exists("exchange_declare", name, "topic")
                ],
            }
        return Inventory("passive declarations", found, complete=False)

    @contextlib.contextmanager
    def _any_connection(self) -> Iterator[amqp.Connection]:
        """A connection to the first node that answers."""
        with contextlib.ExitStack() as stack:
            for host in self.hosts:
                try:
                    connection = stack.enter_context(self.connection(host, TIMEOUT))
                    break
                except ConnectError as error:
                    failure = error
            else:
                raise EngineError(str(failure)) from failure
            yield connection


def _tls(options: Any, name: str) -> dict[str, Any] | bool:
    """What `impl_rabbit.Connection._fetch_ssl_params` makes of the options."""
    if not options.ssl:
        return False
    parameters: dict[str, Any] = {}
    if options.ssl_key_file:
        parameters["keyfile"] = options.ssl_key_file
    if options.ssl_cert_file:
        parameters["certfile"] = options.ssl_cert_file
    if options.ssl_ca_file:
        parameters["ca_certs"] = options.ssl_ca_file
        parameters["cert_reqs"] = ssl.CERT_REQUIRED
        parameters["server_hostname"] = name
    return parameters or True


def _difference(
    connection: amqp.Connection, declare: Callable[..., Any], durable: bool
) -> str:
    """What differs if something is declared that exists, or ''."""
    try:
        channel = connection.channel()
        declare(channel, passive=True)
        declare(channel, durable=durable)
        channel.close()
    except amqp.PreconditionFailed as error:
        told = _INEQUIVALENT.search(str(error))
        return told[1] if told else ""
    except (amqp.NotFound, amqp.AccessRefused, amqp.ResourceLocked):
        # not there, or not to be declared by this user
        pass
    return ""


@contextlib.contextmanager
def _explained(server: str, user: str, vhost: str) -> Iterator[None]:
    """Tell the ways apart in which a connection can fail."""
    try:
        yield
    except amqp.AccessRefused as error:
        raise ConnectError(
            "wrong-credentials",
            f"{server} refuses user {user}: wrong user name or password",
            f"correct the URL, or set the password: rabbitmqctl change_password {user}",
        ) from error
    except amqp.NotAllowed as error:
        if "not found" in str(error):
            raise ConnectError(
                "vhost-missing",
                f"{server} has no virtual host {vhost!r}",
                f"create it: rabbitmqctl add_vhost '{vhost}' && rabbitmqctl "
                f"set_permissions -p '{vhost}' {user} '.*' '.*' '.*'",
            ) from error
        raise ConnectError(
            "vhost-missing",
            f"{server} denies user {user} access to virtual host {vhost!r}",
            f"give access: rabbitmqctl set_permissions -p '{vhost}' {user} '.*' '.*'"
            " '.*'",
        ) from error
    except ssl.SSLError as error:
        raise tls_failed(server, error) from error
    except TimeoutError as error:
        raise unreachable(server, "no answer in time") from error
    except amqp.AMQPError as error:
        raise protocol_error(server, "RabbitMQ", error) from error
    except OSError as error:
        if error.errno is None:
            # py-amqp's own, about bytes that are no AMQP 0-9-1
            raise protocol_error(server, "RabbitMQ", error) from error
        raise unreachable(server, error.strerror or str(error)) from error


def _named(
    queues: Iterable[Mapping[str, object]], exchanges: Iterable[Mapping[str, object]]
) -> Mapping[str, list[str]]:
    return {
        "queues": sorted(str(item["name"]) for item in queues),
        # every virtual host has these
        "exchanges": sorted(
            name
            for item in exchanges
            if (name := str(item["name"])) and not name.startswith("amq.")
        ),
    }


def _epmd_answers() -> bool:
    port = os.environ.get("ERL_EPMD_PORT", "")
    return ports.answers(HOST, int(port) if port.isdecimal() else _EPMD_PORT)
