# SPDX-License-Identifier: Apache-2.0
"""Connect to a server of a transport once, as a service would, and say how it went."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import struct
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import amqp
import oslo_messaging
import proton
import redis
from oslo_config import cfg
from oslo_messaging.exceptions import ConfigurationError
from redis.exceptions import NoPermissionError
from redis.sentinel import MasterNotFoundError

from hybrid_messaging import urls
from hybrid_messaging.drivers.amqp import security
from hybrid_messaging.drivers.amqp.addressing import ADVICE, objection
from hybrid_messaging.drivers.amqp.hosts import Host
from hybrid_messaging.drivers.zmq import matchmaker
from hybrid_messaging.drivers.zmq.matchmaker import Matchmaker
from hybrid_messaging.protocol.endpoint import Endpoint, Excessive, Handler
from hybrid_messaging.service_configs.transports import kind

_CLIENT = "hybrid-messaging check"
_CHUNK = 65536
_PLAIN_TIMEOUT = 2.0


class ConnectError(Exception):
    """A server cannot be used.

    :param code: `unreachable`, `wrong-credentials`, `mechanism-missing`,
        `vhost-missing`, `tls-failed`, `protocol-error` or `unfit-server`
    :param cure: what to do about it
    """

    def __init__(self, code: str, message: str, cure: str) -> None:
        super().__init__(message)
        self.code = code
        self.cure = cure


def connect(
    url: urls.TransportURL, host: urls.Host, options: Any, timeout: float
) -> str:
    """Connect, authenticate, open the virtual host, and disconnect.

    :param url: the transport
    :param host: the one of its servers to connect to
    :param options: the options of the transport's driver
    :param timeout: seconds for each step
    :returns: what the server says it is, '' if it does not
    :raises ConnectError: it did not work
    """
    connector = _CONNECTORS.get(url.scheme.partition("+")[0], _tcp)
    try:
        return connector(url, host, options, timeout)
    except UnicodeError as error:
        # of a name with an empty part, or one that is too long
        name = ":".join(map(str, address(url, host)))
        raise _unreachable(name, "this is no name of a host") from error


def is_encrypted(url: urls.TransportURL, options: Any) -> bool:
    """Whether a driver speaks TLS with the servers of a URL.

    :param options: those of the driver
    """
    tls = _TLS.get(url.scheme.partition("+")[0])
    return tls is not None and tls.wanted(options)


def takes_plain(
    url: urls.TransportURL, host: urls.Host, options: Any, timeout: float
) -> bool:
    """Whether a server with which drivers speak TLS can be used without it.

    :param url: the transport; `is_encrypted`
    :param host: one of its servers, which can be used with TLS
    :param options: those of the driver
    :param timeout: seconds for each step
    """
    tls = _TLS[url.scheme.partition("+")[0]]
    plain = SimpleNamespace(**{**vars(options), **tls.off})
    # some servers wait for the rest of what they take for TLS
    timeout = min(timeout, _PLAIN_TIMEOUT)
    try:
        (tls.attempt or connect)(url, host, plain, timeout)
    except ConnectError as error:
        # who objects to the user has heard the password
        return error.code in ("wrong-credentials", "vhost-missing")
    return True


def address(url: urls.TransportURL, host: urls.Host) -> tuple[str, int]:
    """Name and port of a server, with the defaults of the driver."""
    return host.host or "localhost", host.port or kind(url).port


@contextlib.contextmanager
def rabbit_connection(
    url: urls.TransportURL, host: urls.Host, options: Any, timeout: float
) -> Iterator[amqp.Connection]:
    """An open connection to RabbitMQ, with the settings of oslo.messaging's driver.

    :raises ConnectError: there is none
    """
    name, port = address(url, host)
    server = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    connection = amqp.Connection(
        host=server,
        # as kombu fills them in for the driver
        userid=host.username or "guest",
        password=host.password or "guest",
        login_method=options.rabbit_login_method,
        virtual_host=url.vhost or "/",
        ssl=_rabbit_tls(options, name),
        connect_timeout=timeout,
        read_timeout=timeout,
        write_timeout=timeout,
        client_properties={
            "product": _CLIENT,
            "capabilities": {"authentication_failure_close": True},
        },
    )
    with _explained(server, host.username or "guest", url.vhost or "/"):
        try:
            connection.connect()
            yield connection
        finally:
            with contextlib.suppress(OSError, amqp.AMQPError):
                connection.close()


def _rabbit(
    url: urls.TransportURL, host: urls.Host, options: Any, timeout: float
) -> str:
    with rabbit_connection(url, host, options, timeout) as connection:
        server = connection.server_properties
        return f"{server.get('product', '')} {server.get('version', '')}".strip()


def _rabbit_tls(options: Any, name: str) -> dict[str, Any] | bool:
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


def lacks_durability(
    connection: amqp.Connection, exchange: str, queues: list[str], quorum: bool
) -> list[str]:
    """Which of an exchange and its queues exist, but are not as durable as they should.

    RabbitMQ has no way to ask: declaring something that exists changes nothing
    and fails if it is not as declared.

    :param quorum: queues have to be quorum queues
    :returns: `exchange NAME`, `queue NAME`
    """
    arguments = {"x-queue-type": "quorum"} if quorum else {}
    declarations: list[tuple[str, Callable[..., Any]]] = [
        (
            f"exchange {exchange}",
            lambda channel, **how: channel.exchange_declare(
                exchange, "topic", auto_delete=False, **how
            ),
        )
    ]
    declarations += [
        (
            f"queue {queue}",
            lambda channel, queue=queue, **how: channel.queue_declare(
                queue, auto_delete=False, arguments=arguments, **how
            ),
        )
        for queue in queues
    ]
    return [
        name for name, declare in declarations if _exists_otherwise(connection, declare)
    ]


def _exists_otherwise(connection: amqp.Connection, declare: Callable[..., Any]) -> bool:
    try:
        channel = connection.channel()
        declare(channel, passive=True)
        declare(channel, durable=True)
        channel.close()
    except amqp.PreconditionFailed as error:
        return any(name in str(error) for name in ("'durable'", "'x-queue-type'"))
    except (amqp.NotFound, amqp.AccessRefused, amqp.ResourceLocked):
        # not there, or not to be declared by this user
        pass
    return False


@contextlib.contextmanager
def _explained(server: str, user: str, vhost: str) -> Iterator[None]:
    """Tell the ways apart in which a connection to RabbitMQ can fail."""
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
            f"{server} does not let user {user} use virtual host {vhost!r}",
            f"allow it: rabbitmqctl set_permissions -p '{vhost}' {user} '.*' '.*' '.*'",
        ) from error
    except ssl.SSLError as error:
        raise _tls_failed(server, error) from error
    except TimeoutError as error:
        raise _unreachable(server, "no answer in time") from error
    except amqp.AMQPError as error:
        raise _protocol_error(server, "RabbitMQ", error) from error
    except OSError as error:
        if error.errno is None:
            # py-amqp's own, about bytes that are no AMQP 0-9-1
            raise _protocol_error(server, "RabbitMQ", error) from error
        raise _unreachable(server, error.strerror or str(error)) from error


def _amqp(url: urls.TransportURL, host: urls.Host, options: Any, timeout: float) -> str:
    """Connect with TLS, SASL and virtual host as the driver does; open a session."""
    name, port = address(url, host)
    server = f"{name}:{port}"
    vhost = url.vhost
    known = Host(name, port, host.username, host.password)
    terms = security.Security(options, vhost)
    try:
        endpoint = Endpoint(
            _Deaf(),  # type: ignore[abstract]
            f"{_CLIENT} {uuid.uuid4()}",
            setup=functools.partial(terms.setup, known),
        )
        terms.verify(known, lambda: _connected(name, port, timeout))
    except ConfigurationError as error:
        raise ConnectError(
            "tls-failed", str(error), "correct the option that it names"
        ) from error
    except OSError as error:
        raise _tls_failed(server, error.strerror or error) from error
    lost = ""
    with _connected(name, port, timeout) as sock:
        try:
            _open_session(
                endpoint,
                sock,
                time.monotonic() + timeout,
                lambda: terms.accepts(known, endpoint.transport) is not False,
            )
        except TimeoutError as error:
            raise _unreachable(server, "no answer in time") from error
        except OSError as error:
            lost = error.strerror or str(error)
    if lost or endpoint.closed:
        reason = endpoint.failure or lost or "it closed the connection"
        raise _amqp_error(endpoint, server, host.username, vhost, reason)
    try:
        product = endpoint.remote_product
    except Excessive as error:
        raise _protocol_error(server, "AMQP 1.0", error) from error
    why = objection(options, product)
    if why is not None:
        raise ConnectError("unfit-server", f"{server} cannot be used: {why}", ADVICE)
    return product or ""


def _open_session(
    endpoint: Endpoint,
    sock: socket.socket,
    deadline: float,
    accepts: Callable[[], bool],
) -> None:
    """Exchange bytes until the peer has opened a session, or it is over.

    A broker that lacks the virtual host opens the connection only to close it,
    so an open connection proves nothing.

    :param accepts: whether anything may be sent to the peer
    :raises OSError: the connection is lost, or the peer is not accepted
    """
    endpoint.open()
    session = endpoint.session
    while not session.state & proton.Endpoint.REMOTE_ACTIVE:
        while view := endpoint.output():
            endpoint.written(sock.send(view))
        # what is wrong on our side, as with SASL mechanisms, shows only here
        endpoint.tick(time.monotonic())
        if endpoint.closed:
            return
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        data = sock.recv(_CHUNK)
        if data:
            endpoint.receive(data)
        else:
            endpoint.end_of_input()
        if not accepts():
            raise OSError("it shows one certificate now and another then")
    endpoint.close()
    with contextlib.suppress(OSError):
        sock.send(endpoint.output())


def _amqp_error(
    endpoint: Endpoint, server: str, user: str | None, vhost: str | None, reason: str
) -> ConnectError:
    if endpoint.authentication_failed and security.offers_nothing(endpoint.transport):
        return ConnectError(
            "mechanism-missing",
            f"{server} does not log user {user or '(anonymous)'} in: it offers no SASL"
            " mechanism that fits",
            "set the ssl options of the driver, if it takes passwords over TLS only;"
            " or correct sasl_mechanisms, or the user of the URL",
        )
    if endpoint.authentication_failed:
        return ConnectError(
            "wrong-credentials",
            f"{server} refuses user {user or '(anonymous)'}: {reason}",
            "correct user name and password of the URL",
        )
    if "amqp:not-found" in reason:
        return ConnectError(
            "vhost-missing",
            f"{server} has no virtual host {vhost!r}: {reason}",
            "create the virtual host, or correct the URL",
        )
    if "SSL" in reason or "certificate" in reason:
        return _tls_failed(server, reason)
    return _protocol_error(server, "AMQP 1.0", reason)


class _Deaf(Handler):
    """Takes no interest in what the peer does; the endpoint remembers enough."""


def kafka_settings(
    url: urls.TransportURL, hosts: Iterable[urls.Host], options: Any
) -> dict[str, Any]:
    """What oslo.messaging's driver tells the client library of a connection.

    (`impl_kafka.ProducerConnection._ensure_producer`)
    """
    first = next(iter(url.hosts), urls.Host("localhost"))
    return {
        "bootstrap.servers": ",".join(
            str(urls.Host(*address(url, host))) for host in hosts
        ),
        "security.protocol": options.security_protocol,
        "sasl.mechanism": options.sasl_mechanism,
        "sasl.username": first.username,
        "sasl.password": first.password,
        "ssl.ca.location": options.ssl_cafile,
        "ssl.certificate.location": options.ssl_client_cert_file,
        "ssl.key.location": options.ssl_client_key_file,
        "ssl.key.password": options.ssl_client_key_password,
        # whatever matters comes back as an exception
        "log_level": 0,
    }


def _kafka(
    url: urls.TransportURL, host: urls.Host, options: Any, timeout: float
) -> str:
    """Ask for the cluster's nodes where the client library is installed."""
    _tcp(url, host, options, timeout)
    try:
        from confluent_kafka import KafkaException, Producer
    except ImportError:
        return ""
    server = ":".join(map(str, address(url, host)))
    failures: list[str] = []
    settings = {
        **kafka_settings(url, [host], options),
        # a library that was built without it refuses
        "compression.codec": options.compression_codec,
        "error_cb": lambda error: failures.append(f"{error.name()}: {error.str()}"),
    }
    try:
        client = Producer(settings)
        try:
            found = client.list_topics(timeout=timeout)
        finally:
            client.poll(0)  # brings the reasons of a failure
    except KafkaException as error:
        reasons = "; ".join([*dict.fromkeys(failures), str(error.args[0].str())])
        raise _kafka_error(server, reasons, options) from error
    for broker in found.brokers.values():
        try:
            _connected(broker.host, broker.port, timeout).close()
        except ConnectError as error:
            raise ConnectError(
                "unreachable",
                f"{server} sends its clients on to {broker.host}:{broker.port}: "
                f"{error}",
                "correct advertised.listeners in the broker's configuration",
            ) from error
    return "Kafka"


def _kafka_greeting(
    url: urls.TransportURL, host: urls.Host, options: Any, timeout: float
) -> str:
    """Ask which requests the broker knows, as any client begins, with SASL or without.

    ApiVersions, version 0 (https://kafka.apache.org/protocol#The_Messages_ApiVersions).
    The client library would try again and again where nobody understands it.
    """
    server = ":".join(map(str, address(url, host)))
    client, number = _CLIENT.encode(), 1
    request = struct.pack(">hhih", 18, 0, number, len(client)) + client
    with _connected(*address(url, host), timeout) as sock:
        try:
            sock.sendall(struct.pack(">i", len(request)) + request)
            answer = sock.recv(8, socket.MSG_WAITALL)
        except OSError as error:
            raise _unreachable(server, error.strerror or str(error)) from error
    if answer[4:] != struct.pack(">i", number):
        raise _protocol_error(server, "Kafka", "it does not answer")
    return "Kafka"


def kafka_limits(
    url: urls.TransportURL, options: Any, topics: Iterable[str], timeout: float
) -> dict[str, int]:
    """How large the messages of topics may be, in bytes.

    :param topics: those that are not there are passed over
    :param timeout: seconds for each answer
    :returns: nothing if the client library is not installed, or we may not ask
    """
    try:
        from confluent_kafka import KafkaException, admin
    except ImportError:
        return {}
    topic = admin.ConfigResource.Type.TOPIC
    try:
        client = admin.AdminClient(kafka_settings(url, url.hosts, options))
        existing = client.list_topics(timeout=timeout).topics
        asked = [
            admin.ConfigResource(topic, name) for name in topics if name in existing
        ]
        answers = client.describe_configs(asked) if asked else {}
        return {
            resource.name: int(answer.result(timeout)["max.message.bytes"].value)
            for resource, answer in answers.items()
        }
    except KafkaException:
        return {}


def _kafka_error(server: str, reasons: str, options: Any) -> ConnectError:
    if "_AUTHENTICATION" in reasons:
        return ConnectError(
            "wrong-credentials",
            f"{server}: {reasons}",
            "correct user name, password and sasl_mechanism",
        )
    if "_SSL" in reasons or "SSL" in reasons:
        return _tls_failed(server, reasons)
    problem = _protocol_error(server, "Kafka", reasons)
    problem.cure += (
        ", and whether it wants another [oslo_messaging_kafka] security_protocol than "
        + options.security_protocol
    )
    return problem


@contextlib.contextmanager
def zmq_matchmaker(
    url: urls.TransportURL,
    hosts: Iterable[urls.Host],
    options: Any,
    timeout: float,
) -> Iterator[Matchmaker]:
    """The matchmaker of a transport, as the driver makes it.

    :param hosts: those of its servers to ask
    :param timeout: seconds that Redis may take to answer
    :raises ConnectError: it cannot be asked
    """
    names = [
        oslo_messaging.TransportHost(
            *address(url, host), username=host.username, password=host.password
        )
        for host in hosts
    ]
    target = oslo_messaging.TransportURL(cfg.ConfigOpts(), url.scheme, url.vhost, names)
    options = SimpleNamespace(
        **{**vars(options), "socket_timeout": int(timeout * 1000)}
    )
    try:
        found = matchmaker.make(target, options, options)
        with contextlib.closing(found):
            yield found
    except (ConfigurationError, matchmaker.MatchmakerAway) as error:
        encrypted = bool(options.ssl or options.ssl_ca_file or options.ssl_cert_file)
        raise _zmq_error(names, error, encrypted) from error


def _zmq(url: urls.TransportURL, host: urls.Host, options: Any, timeout: float) -> str:
    """Ask the matchmaker what the driver asks it, and write its one lasting word."""
    if url.hosts:
        _tcp(url, host, options, timeout)
    with zmq_matchmaker(url, [host], options, timeout) as found:
        found.write([], 1, new=False)
        found.read([_CLIENT])
    return ""


def _zmq_error(hosts: Iterable[Any], error: Exception, encrypted: bool) -> ConnectError:
    server = ", ".join(f"{host.hostname}:{host.port}" for host in hosts)
    reason = error.__cause__
    if not isinstance(reason, redis.RedisError):
        return ConnectError("unreachable", str(error), "correct what it names")
    if isinstance(reason, NoPermissionError):
        return ConnectError(
            "wrong-credentials",
            f"{server}: {reason}",
            "give the user the rights that the documentation of the zmq driver lists",
        )
    if isinstance(reason, redis.AuthenticationError):
        return ConnectError(
            "wrong-credentials",
            f"{server}: {reason}",
            "correct user name and password of the URL",
        )
    # Redis without TLS waits for more of what it takes for a long command
    silent = encrypted and isinstance(reason, redis.TimeoutError)
    if silent or "SSL" in str(error):
        return _tls_failed(server, reason)
    if isinstance(reason, MasterNotFoundError):
        return ConnectError(
            "unreachable",
            f"{server}: {reason}",
            "correct [matchmaker_redis] sentinel_group_name, or start the master",
        )
    if isinstance(reason, (redis.ConnectionError, redis.TimeoutError)):
        return _unreachable(server, reason)
    return _protocol_error(server, "Redis", reason)


def _tcp(url: urls.TransportURL, host: urls.Host, options: Any, timeout: float) -> str:
    """All that can be said of a server whose language we do not speak."""
    name, port = address(url, host)
    if port:
        _connected(name, port, timeout).close()
    return ""


def _connected(name: str, port: int, timeout: float) -> socket.socket:
    try:
        return socket.create_connection((name, port), timeout)
    except OSError as error:
        raise _unreachable(f"{name}:{port}", error.strerror or str(error)) from error


def _unreachable(server: str, reason: object) -> ConnectError:
    return ConnectError(
        "unreachable",
        f"{server} cannot be reached: {reason}",
        "start the server, correct host and port, or open the firewall",
    )


def _tls_failed(server: str, reason: object) -> ConnectError:
    return ConnectError(
        "tls-failed",
        f"{server}: TLS failed: {reason}",
        "check the ssl options of the driver, and whether this port speaks TLS",
    )


def _protocol_error(server: str, protocol: str, reason: object) -> ConnectError:
    return ConnectError(
        "protocol-error",
        f"{server} does not answer as {protocol} does: {reason}",
        "check that host and port are those of this transport's server",
    )


_Connector = Callable[[urls.TransportURL, urls.Host, Any, float], str]


class _Tls(NamedTuple):
    """TLS of a driver.

    :param wanted: whether its options ask for it
    :param off: the options that turn it off
    :param attempt: talks to a server without it; None: connect as drivers do
    """

    wanted: Callable[[Any], bool]
    off: dict[str, Any]
    attempt: _Connector | None = None


_RABBIT_TLS = _Tls(lambda options: options.ssl, {"ssl": False})
_TLS = {
    "amqp": _Tls(
        security.wants_tls,
        {"ssl": False, "ssl_ca_file": "", "ssl_cert_file": ""},
    ),
    "kafka": _Tls(
        lambda options: options.security_protocol.endswith("SSL"), {}, _kafka_greeting
    ),
    "kombu": _RABBIT_TLS,
    "rabbit": _RABBIT_TLS,
    "zmq": _Tls(
        lambda options: matchmaker.wants_tls(
            options, options.zmq_redis_ca_file or options.ssl_ca_file
        ),
        {
            "ssl": False,
            "ssl_ca_file": "",
            "ssl_cert_file": "",
            "zmq_redis_ca_file": "",
        },
    ),
}

_CONNECTORS: dict[str, _Connector] = {
    "amqp": _amqp,
    "kafka": _kafka,
    "kombu": _rabbit,
    "rabbit": _rabbit,
    "zmq": _zmq,
}
