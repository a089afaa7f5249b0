# SPDX-License-Identifier: Apache-2.0
"""kafka://: Kafka, asked with its client library where that is installed."""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hybrid_messaging import urls
from hybrid_messaging.engines import EngineError
from hybrid_messaging.servers.census import Census
from hybrid_messaging.servers.insight import Insight, Look
from hybrid_messaging.servers.transport import (
    CLIENT,
    ConnectError,
    Inventory,
    Names,
    Transport,
    connected,
    protocol_error,
    tls_failed,
    unreachable,
)

#: The option that says whether user and password are sent, and how.
SECURITY = "security_protocol"
#: With user and password, without TLS; the driver's default sends neither.
AUTHENTICATED = "SASL_PLAINTEXT"
#: What librdkafka sends at the most (`message.max.bytes`); oslo.messaging leaves it so.
LARGEST = 1_000_000

#: Seconds for each answer about what is on the servers.
_TIMEOUT = 10.0


class Kafka(Transport):
    """Kafka, as oslo.messaging's driver uses it."""

    title = "Kafka"
    port = 9092
    delivery = "queued"
    group = "oslo_messaging_kafka"
    no_rpc = "oslo.messaging carries no RPC over Kafka"
    has_vhosts = False
    package = "oslo.messaging[kafka]"
    tells_traffic = True
    look_at = {
        "notify-stored": "the broker's log; [oslo_messaging_kafka] security_protocol "
        "and sasl_mechanism; message.max.bytes of the broker",
        "notify-delivered": "the broker's log, and `kafka-consumer-groups.sh "
        "--describe --all-groups`",
    }
    #: `impl_kafka.KafkaListener` polls once to have its topics made, and forgets
    #: what that has brought.
    drops_first = True
    durable = True

    _ca_files = ("ssl_cafile",)
    _own_files = ("ssl_client_cert_file", "ssl_client_key_file")

    @property
    def defect(self) -> str:
        """See `Transport`.

        The driver hands ``host:port`` on as it finds it, takes one user for all hosts,
        and publishes to topics with the virtual host in their names, which its own
        listeners do not listen on (`impl_kafka.KafkaDriver.listen_for_notifications`).
        """
        hosts, vhost = self.url.hosts, self.url.vhost
        if not hosts or any(host.port is None for host in hosts):
            return (
                "oslo.messaging's kafka driver needs a port for every host: Kafka's"
                f" usual port is {self.port}"
            )
        if vhost:
            return (
                "Kafka has no virtual hosts, and notifications that oslo.messaging"
                f" sends to {vhost!r} reach no listener: omit it"
            )
        if len({(host.username, host.password) for host in hosts}) > 1:
            return "oslo.messaging's kafka driver needs the same user for all hosts"
        return ""

    @property
    def user(self) -> str | None:
        """The first user of the URL."""
        return next((host.username for host in self.url.hosts if host.username), None)

    def trial_query(self, role: str, configured: bool) -> Mapping[str, str]:
        """See `Transport`; no service's group is disturbed."""
        # soon aware of its end, a listener leaves its group in time
        return {
            "consumer_group": f"hybrid-smoke-{secrets.token_hex(4)}",
            "kafka_consumer_timeout": "0.1",
        }

    @property
    def encrypted(self) -> bool:
        """See `Transport`."""
        return bool(self.options.security_protocol.endswith("SSL"))

    def engine_kind(self, said: str) -> str | None:
        """See `Transport`."""
        return "kafka"

    def settings(self, hosts: Iterable[urls.Host]) -> dict[str, Any]:
        """What oslo.messaging's driver tells the client library of a connection.

        (`impl_kafka.ProducerConnection._ensure_producer`)

        :param hosts: those of the servers to connect to
        """
        first, options = self.hosts[0], self.options
        return {
            "bootstrap.servers": ",".join(
                str(urls.Host(*self.address(host))) for host in hosts
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

    def limits(self, topics: Iterable[str], timeout: float) -> dict[str, int]:
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
            client = admin.AdminClient(self.settings(self.hosts))
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

    def _inspect(
        self, hosts: Sequence[urls.Host], look: Look, insight: Insight
    ) -> None:
        from hybrid_messaging.servers import kafka_state

        try:
            from confluent_kafka import KafkaException

            settings = self.settings(hosts)
            found = _admin(settings).list_topics(timeout=look.timeout)
            insight.problems += kafka_state.replicated(found, look.queues)
            insight.problems += kafka_state.unread(
                settings, found, look.queues, look.timeout
            )
        except ImportError as error:
            insight.unseen.append(f"topics of {self}: {error}")
        except KafkaException as error:
            insight.unseen.append(f"topics of {self}: {error.args[0].str()}")

    def census(self, look: Look) -> Census:
        """See `Transport`; Kafka has notifications alone."""
        from hybrid_messaging.servers import kafka_state

        with self._client() as settings:
            found = _admin(settings).list_topics(timeout=look.timeout)
            queues = kafka_state.queues(settings, found, look.timeout)
        return Census("its offsets", notifications=queues)

    def make_topics(self, topics: Collection[str]) -> None:
        """Make topics, from whose beginning the group of the options will listen.

        A group that has never listened would skip whatever has been waiting for it,
        and while it joins, what comes meanwhile.

        :raises EngineError: the broker refuses
        """
        from hybrid_messaging.engines import kafka_admin

        with self._client() as settings:
            kafka_admin.create_topics(settings, topics)
            kafka_admin.begin_at_the_start(
                settings, self.options.consumer_group, topics
            )

    def delete_topics(self, topics: Collection[str]) -> None:
        """Delete topics, with what they store.

        :raises EngineError: the broker refuses
        """
        from hybrid_messaging.engines import kafka_admin

        with self._client() as settings:
            kafka_admin.delete_topics(settings, topics)

    def _connect(self, host: urls.Host, timeout: float) -> str:
        """Ask for the cluster's nodes where the client library is installed."""
        super()._connect(host, timeout)
        try:
            from confluent_kafka import KafkaException, Producer
        except ImportError:
            return ""
        server = self.shown(host)
        failures: list[str] = []
        settings = {
            **self.settings([host]),
            # a library that was built without it refuses
            "compression.codec": self.options.compression_codec,
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
            raise _explained(server, reasons, self.options) from error
        for broker in found.brokers.values():
            try:
                connected(broker.host, broker.port, timeout).close()
            except ConnectError as error:
                raise ConnectError(
                    "unreachable",
                    f"{server} redirects its clients to"
                    f" {urls.Host(broker.host, broker.port)}: {error}",
                    "correct advertised.listeners in the broker's configuration",
                ) from error
        return "Kafka"

    def _greet(self, host: urls.Host, timeout: float) -> str:
        """Ask which requests the broker knows, as any client begins, even with SASL.

        ApiVersions, version 0
        (https://kafka.apache.org/protocol#The_Messages_ApiVersions).
        The client library would try again and again where nobody understands it.
        """
        name, port = self.address(host)
        client, number = CLIENT.encode(), 1
        request = struct.pack(">hhih", 18, 0, number, len(client)) + client
        with connected(name, port, timeout) as sock:
            try:
                sock.sendall(struct.pack(">i", len(request)) + request)
                answer = sock.recv(8, socket.MSG_WAITALL)
            except OSError as error:
                reason = error.strerror or str(error)
                raise unreachable(self.shown(host), reason) from error
        if answer[4:] != struct.pack(">i", number):
            raise protocol_error(self.shown(host), "Kafka", "it does not answer")
        return "Kafka"

    def prepare(self, names: Names) -> None:
        """See `Transport`."""
        self.make_topics([names.notify_queue])

    def waiting(self, names: Names) -> int | None:
        """See `Transport`."""
        from confluent_kafka import Consumer, TopicPartition

        with self._client() as settings:
            group = self.options.consumer_group
            consumer = Consumer({**settings, "group.id": group})
            try:
                first, end = consumer.get_watermark_offsets(
                    TopicPartition(names.notify_queue, 0), timeout=_TIMEOUT
                )
            finally:
                consumer.close()
        return int(end - first)

    def inventory(self, names: Names) -> Inventory:
        """See `Transport`."""
        with self._client() as settings:
            found = _admin(settings).list_topics(timeout=_TIMEOUT)
        # its own books are none of ours
        topics = sorted(name for name in found.topics if not name.startswith("__"))
        return Inventory("its metadata", {"topics": topics})

    def clean_up(self, names: Names) -> None:
        """See `Transport`.

        A group whose listener was killed cannot be deleted as long as it is missed.
        Without its topic it has nothing to keep, and the broker forgets it by itself.
        """
        from confluent_kafka import KafkaError

        group = self.options.consumer_group
        with self._client() as settings:
            admin = _admin(settings)
            for answer in admin.delete_topics([names.notify_queue]).values():
                _accept(answer, KafkaError.UNKNOWN_TOPIC_OR_PART)
            for answer in admin.delete_consumer_groups([group]).values():
                _accept(
                    answer, KafkaError.GROUP_ID_NOT_FOUND, KafkaError.NON_EMPTY_GROUP
                )

    @contextmanager
    def _client(self) -> Iterator[dict[str, Any]]:
        """The settings of a client, whose exceptions are turned into ours."""
        try:
            from confluent_kafka import KafkaException
        except ImportError as error:
            raise EngineError(
                f"cannot query {self}: {error}: install hybrid-messaging[kafka]"
            ) from error
        try:
            yield self.settings(self.hosts)
        except KafkaException as error:
            raise EngineError(
                f"{self} reports an error: {error.args[0].str()}"
            ) from error


def _accept(answer: Any, *codes: int) -> None:
    """Wait for an answer, which may be one of these errors."""
    from confluent_kafka import KafkaException

    try:
        answer.result(_TIMEOUT)
    except KafkaException as error:
        if error.args[0].code() not in codes:
            raise


def _admin(settings: Mapping[str, Any]) -> Any:
    from confluent_kafka import admin

    return admin.AdminClient(dict(settings))


def _explained(server: str, reasons: str, options: Any) -> ConnectError:
    if "_AUTHENTICATION" in reasons:
        return ConnectError(
            "wrong-credentials",
            f"{server}: {reasons}",
            "correct user name, password and sasl_mechanism",
        )
    if "_SSL" in reasons or "SSL" in reasons:
        return tls_failed(server, reasons)
    problem = protocol_error(server, "Kafka", reasons)
    problem.cure += (
        ", and whether it needs another [oslo_messaging_kafka] security_protocol than "
        + options.security_protocol
    )
    return problem
