# SPDX-License-Identifier: Apache-2.0
"""Who the driver lets in and who lets it in: TLS, certificates, SASL."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import re
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from oslo_config import cfg
from oslo_messaging import MessageDeliveryFailure
from tests.functional import fakes, tls_versions
from tests.functional.conftest import MakeRouter
from tests.functional.peer import Peer
from tests.functional.routers import HOST, Settings, Tls
from tests.functional.rpc import Rpc
from tests.functional.waiting import Stopwatch, until

from hybrid_messaging import urls
from hybrid_messaging.drivers import errors
from hybrid_messaging.drivers.amqp import options as amqp_options
from hybrid_messaging.drivers.amqp import security, steps
from hybrid_messaging.drivers.amqp.hosts import Host

USERS = {"nova": "s3cret p@ss/wörd%"}
#: seconds: at once on a busy machine, and far from what callers would wait for
NOW = 20.0


@dataclasses.dataclass(frozen=True)
class Files:
    """The certificates of a bus for `localhost` and 127.0.0.1, and of clients."""

    ca: trustme.CA
    directory: Path

    @property
    def ca_file(self) -> Path:
        path = self.directory / "ca.pem"
        self.ca.cert_pem.write_to_path(path)
        return path

    def issue(self, name: str, *identities: str, **kwargs: Any) -> Tls:
        issued = self.ca.issue_cert(*identities, **kwargs)
        certificate = self.directory / f"{name}.pem"
        key = self.directory / f"{name}.key"
        for part in issued.cert_chain_pems:
            part.write_to_path(certificate, append=True)
        issued.private_key_pem.write_to_path(key)
        return Tls(certificate, key)

    def server(self, *identities: str, clients: bool = False) -> Settings:
        tls = self.issue("server", *(identities or ("localhost", "127.0.0.1")))
        if clients:
            tls = dataclasses.replace(tls, client_ca=self.ca_file)
        return Settings(tls=tls, mechanisms="EXTERNAL" if clients else "ANONYMOUS")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(trustme.CA(), tmp_path)


def works(url: str, **options: object) -> None:
    with Rpc(url) as rpc:
        rpc.server(transport=rpc.transport(**options))
        assert (
            rpc.client(rpc.transport(**options), timeout=10).call({}, "name") == "one"
        )


def fails(url: str, **options: object) -> str:
    """The reason why a call at once fails on such a bus, and the next one, too."""
    with Rpc(url) as rpc:
        client = rpc.client(rpc.transport(**options), timeout=60)
        texts = []
        for _ in range(2):
            with Stopwatch() as watch, pytest.raises(MessageDeliveryFailure) as caught:
                client.call({}, "name")
            assert isinstance(caught.value, errors.BusUnavailable)
            assert watch.seconds < NOW
            texts.append(str(caught.value))
    assert texts[0] == texts[1]
    return texts[0]


# -- SASL ------------------------------------------------------------------


def test_password(make_router: MakeRouter) -> None:
    router = make_router(Settings(users=USERS))
    works(router.url(username="nova", password=USERS["nova"]))


def test_callers_of_a_bus_that_refuses_them_do_not_spin(
    make_router: MakeRouter,
) -> None:
    """A service that starts asks again as soon as a call has failed."""
    router = make_router(Settings(users=USERS))
    with Rpc(router.url(username="nova", password="wr0ng-password")) as rpc:
        client, calls = rpc.client(timeout=60), 0
        with Stopwatch() as watch:
            while watch.elapsed() < 3:
                with pytest.raises(errors.BusUnavailable):
                    client.call({}, "name")
                calls += 1
    # with each attempt to connect, which are half a second apart
    assert calls <= 2 + 2 * watch.seconds


def test_wrong_password_is_said_at_once(
    make_router: MakeRouter, caplog: pytest.LogCaptureFixture
) -> None:
    router = make_router(Settings(users=USERS))
    with Rpc(router.url(username="nova", password="wr0ng-password")) as rpc:
        client = rpc.client(timeout=60)
        for _ in range(3):
            with Stopwatch() as watch, pytest.raises(errors.BusUnavailable) as caught:
                client.call({}, "name")
            assert "refuses user nova" in str(caught.value)
            assert watch.seconds < NOW
        # who is told first may close the transport, and then nothing is logged
        until(lambda: "refuses user nova" in caplog.text, "it is logged, too")
    assert "wr0ng-password" not in caplog.text + str(caught.value)


def test_no_password_where_one_is_wanted(make_router: MakeRouter) -> None:
    router = make_router(Settings(users=USERS))
    assert "refuses user (anonymous)" in fails(router.url())


def test_unknown_user(make_router: MakeRouter) -> None:
    router = make_router(Settings(users=USERS))
    assert "refuses user other" in fails(router.url(username="other", password="x"))


def test_password_is_put_right_in_the_meantime(make_router: MakeRouter) -> None:
    """A client that was refused goes on trying, and gets in."""
    router = make_router(Settings(users={"nova": "old"}))
    with Rpc(router.url(username="nova", password="new")) as rpc:
        client = rpc.client(timeout=20)
        with pytest.raises(errors.BusUnavailable):
            client.call({}, "name")
        router.stop()
        router.set_password("nova", "new")
        router.start()
        rpc.server()
        with Stopwatch() as watch:
            while True:
                try:
                    assert client.call({}, "name") == "one"
                    break
                except errors.BusUnavailable:
                    assert watch.elapsed() < 30


def test_realm_is_added_to_the_user(make_router: MakeRouter) -> None:
    router = make_router(Settings(users={"nova@realm": "secret"}))
    url = router.url(username="nova", password="secret")
    works(url, sasl_default_realm="realm")
    works(router.url(username="nova@realm", password="secret"))
    assert "nova@elsewhere" in fails(url, sasl_default_realm="elsewhere")


def test_mechanism_that_the_bus_does_not_have(make_router: MakeRouter) -> None:
    router = make_router(Settings(users=USERS))
    url = router.url(username="nova", password=USERS["nova"])
    works(url, sasl_mechanisms="PLAIN")
    assert "refuses user nova" in fails(url, sasl_mechanisms="EXTERNAL")


# -- TLS -------------------------------------------------------------------


def test_tls(make_router: MakeRouter, files: Files) -> None:
    router = make_router(files.server())
    works(router.url(host="localhost"), ssl_ca_file=files.ca_file)


def test_tls_with_large_messages(make_router: MakeRouter, files: Files) -> None:
    router = make_router(files.server())
    options = {"ssl_ca_file": files.ca_file}
    with Rpc(router.url(host="localhost")) as rpc:
        rpc.server(transport=rpc.transport(**options))
        client = rpc.client(rpc.transport(**options))
        text = "0123456789" * 1_000_000
        assert client.call({}, "echo", value=text) == text


def test_address_instead_of_a_name(make_router: MakeRouter, files: Files) -> None:
    router = make_router(files.server())
    works(router.url(host="127.0.0.1"), ssl_ca_file=files.ca_file)


def test_address_that_the_certificate_does_not_have(
    make_router: MakeRouter, files: Files
) -> None:
    router = make_router(files.server("localhost", "127.0.0.2"))
    text = fails(router.url(host="127.0.0.1"), ssl_ca_file=files.ca_file)
    assert "certificate" in text


def test_wrong_host_name_is_refused(make_router: MakeRouter, files: Files) -> None:
    router = make_router(files.server("other.example.org"))
    text = fails(router.url(host="localhost"), ssl_ca_file=files.ca_file)
    assert "certificate" in text


@pytest.mark.parametrize("others", [("other.example.org",), ()])
def test_a_common_name_counts_for_nothing(
    make_router: MakeRouter, files: Files, others: tuple[str, ...]
) -> None:
    tls = files.issue("server", *others, common_name="localhost")
    router = make_router(Settings(tls=tls, mechanisms="ANONYMOUS"))
    text = fails(router.url(host="localhost"), ssl_ca_file=files.ca_file)
    # from Python 3.13 on, a certificate with an empty list of names is refused as such
    assert re.search("not valid for 'localhost'|Empty Subject Alternative Name", text)


def test_hosts_behind_one_name_have_certificates_of_their_own(
    make_router: MakeRouter, files: Files
) -> None:
    servers = [files.issue(name, "localhost") for name in ("one", "two")]
    routers = [make_router(Settings(tls=each)) for each in servers]
    turns = itertools.cycle([fakes.Proxy(router.port) for router in routers])
    with (
        fakes.Fake(lambda connection: next(turns)(connection)) as balancer,
        Rpc(balancer.url.replace(HOST, "localhost")) as rpc,
    ):
        transport = rpc.transport(ssl_ca_file=files.ca_file, restart_timeout=0)
        with pytest.raises(errors.TargetUnreachable):
            rpc.client(transport, timeout=60).call({}, "name")
    assert balancer.connections > 3  # the first attempt cannot succeed


def test_another_certificate_than_the_one_that_was_verified(
    make_router: MakeRouter, files: Files
) -> None:
    """Whoever gets in between has a certificate of the same authority."""
    users = {"nova": "TOP-SECRET"}
    good = make_router(Settings(tls=files.issue("good", "localhost"), users=users))
    # qpid-proton alone would take it
    tls = files.issue("other", "other.example.org", common_name="localhost")
    other = make_router(Settings(tls=tls, mechanisms="PLAIN"))
    turns = itertools.cycle([fakes.Proxy(good.port), fakes.Proxy(other.port)])
    with fakes.Fake(lambda connection: next(turns)(connection)) as between:
        url = urls.build("amqp", [("localhost", between.port)], "nova", "TOP-SECRET")
        with Rpc(url) as rpc:
            transport = rpc.transport(ssl_ca_file=files.ca_file)
            with pytest.raises(errors.BusUnavailable, match="certificate"):
                rpc.client(transport, timeout=5).call({}, "name")
    assert "authentication failed" not in other.log()


@pytest.mark.parametrize(
    ("version", "oldest"),
    [
        ("TLSv1", "TLSv1_2"),
        ("TLSv1.1", "TLSv1_2"),
        ("TLSv1.2", "TLSv1_2"),
        ("TLSv1.3", "TLSv1_2"),
        ("TLSv1.2", "TLSv1_3"),
        ("TLSv1.3", "TLSv1_3"),
    ],
)
def test_versions_that_a_client_speaks(files: Files, version: str, oldest: str) -> None:
    tls = files.issue("server", "localhost")
    context = tls_versions.anything(ssl.PROTOCOL_TLS_SERVER, version)
    context.load_cert_chain(tls.certificate, tls.key)
    heard: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as spoken:
            if data := spoken.recv(4):
                heard.append(data)

    options = cfg.ConfigOpts()
    options.register_opts(amqp_options.OPTIONS, amqp_options.GROUP)
    group = options[amqp_options.GROUP.name]
    options.set_override("ssl_ca_file", str(files.ca_file), amqp_options.GROUP)
    options.set_override("ssl_version", oldest, amqp_options.GROUP)
    with fakes.Fake(behave) as old:
        host = Host("localhost", old.port, None, None)
        terms = security.Security(group, None)

        def dial() -> steps.Steps[socket.socket]:
            return steps.connect(socket.AF_INET, (HOST, old.port))

        spoken = version >= oldest.replace("_", ".")
        # Python's TLS, which looks at the certificate
        with contextlib.nullcontext() if spoken else pytest.raises(ssl.SSLError):
            steps.finish(terms.verify(host, dial), 60)
        # qpid-proton's, which serves
        peer = Peer(old.port, "localhost", setup=functools.partial(terms.setup, host))
        until(lambda: peer.step() or peer.ended is not None, "the server hangs up")
        peer.vanish()
        until(lambda: not spoken or heard, "the server has heard something")
    assert heard == ([b"AMQP"] if spoken else [])


def test_no_password_without_tls_where_tls_is_required(
    make_router: MakeRouter, files: Files
) -> None:
    tls = files.issue("server", "localhost")
    router = make_router(Settings(tls=tls, users=USERS))
    said: list[bytes] = []

    def record(data: bytes) -> bytes:
        said.append(data)
        return data

    with fakes.Fake(fakes.Proxy(router.port, record)) as between:
        url = urls.build("amqp", [("localhost", between.port)], "nova", USERS["nova"])
        text = fails(url)
        assert "offers no usable SASL mechanism" in text
        assert "set ssl_ca_file" in text
    whole = b"".join(said)
    assert b"AMQP" in whole
    assert USERS["nova"].encode() not in whole
    assert b"PLAIN" not in whole


def test_certificate_of_the_virtual_host(make_router: MakeRouter, files: Files) -> None:
    router = make_router(files.server("bus.example.org"))
    url = router.url(host="localhost", vhost="bus.example.org")
    works(url, ssl_ca_file=files.ca_file, ssl_verify_vhost=True)
    url = router.url(host="localhost", vhost="wrong.example.org")
    assert "certificate" in fails(url, ssl_ca_file=files.ca_file, ssl_verify_vhost=True)


def test_stranger_s_authority_is_refused(
    make_router: MakeRouter, files: Files, tmp_path: Path
) -> None:
    router = make_router(files.server())
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    text = fails(router.url(host="localhost"), ssl_ca_file=stranger)
    assert "certificate" in text


def test_system_s_authorities_do_not_know_the_bus(
    make_router: MakeRouter, files: Files
) -> None:
    router = make_router(files.server())
    assert "certificate" in fails(router.url(host="localhost"), ssl=True)


def test_plain_client_of_a_tls_bus(make_router: MakeRouter, files: Files) -> None:
    router = make_router(files.server())
    with Rpc(router.url(host="localhost")) as rpc:
        client = rpc.client(timeout=2)
        with pytest.raises(errors.BusUnavailable):
            client.call({}, "name")


def test_tls_client_of_a_plain_bus(make_router: MakeRouter, files: Files) -> None:
    router = make_router()
    with Rpc(router.url(host="localhost", ssl_ca_file=files.ca_file)) as rpc:
        client = rpc.client(timeout=2)
        with pytest.raises(errors.BusUnavailable):
            client.call({}, "name")


# -- client certificates ------------------------------------------------------


def test_client_certificate(make_router: MakeRouter, files: Files) -> None:
    router = make_router(files.server(clients=True))
    client = files.issue("client", common_name="nova")
    works(
        router.url(host="localhost"),
        ssl_ca_file=files.ca_file,
        ssl_cert_file=client.certificate,
        ssl_key_file=client.key,
    )


def test_encrypted_key(make_router: MakeRouter, files: Files) -> None:
    router = make_router(files.server(clients=True))
    client = files.issue("client", common_name="nova")
    key = load_pem_private_key(client.key.read_bytes(), None)
    client.key.write_bytes(
        key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame")
        )
    )
    options = {
        "ssl_ca_file": files.ca_file,
        "ssl_cert_file": client.certificate,
        "ssl_key_file": client.key,
    }
    works(router.url(host="localhost"), **options, ssl_key_password="open sesame")
    text = fails(router.url(host="localhost"), **options, ssl_key_password="wrong")
    assert "ssl_key_password" in text
    assert str(client.key) in text


def test_missing_client_certificate_is_refused(
    make_router: MakeRouter, files: Files
) -> None:
    router = make_router(files.server(clients=True))
    with Rpc(router.url(host="localhost", ssl_ca_file=files.ca_file)) as rpc:
        client = rpc.client(timeout=3)
        with pytest.raises(errors.BusUnavailable):
            client.call({}, "name")


@pytest.mark.parametrize("option", ["ssl_ca_file", "ssl_cert_file", "ssl_key_file"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_unusable_files_are_named_at_once(
    files: Files, tmp_path: Path, option: str, content: str | None
) -> None:
    client = files.issue("client", common_name="nova")
    broken = tmp_path / "broken.pem"
    if content is not None:
        broken.write_text(content)
    options = {
        "ssl_ca_file": files.ca_file,
        "ssl_cert_file": client.certificate,
        "ssl_key_file": client.key,
        option: broken,
    }
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        url = f"amqp://localhost:{listening.getsockname()[1]}/"
        with Stopwatch() as watch:
            text = fails(url, **options)
    assert option in text and str(broken) in text
    assert watch.seconds < NOW
