# SPDX-License-Identifier: Apache-2.0
"""The private authority and the host's certificate: made, kept, renewed."""

from __future__ import annotations

import datetime
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest

from hybrid_messaging.engines import EngineError, certificates


def later(monkeypatch: pytest.MonkeyPatch, by: datetime.timedelta) -> None:
    """Move the clock of the module, on from where it is."""
    now = certificates._now()
    monkeypatch.setattr(certificates, "_now", lambda: now + by)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def handshake(directory: Path, name: str) -> None:
    """Have a client that trusts the authority meet a server with the certificate."""
    made = certificates.ensure(directory, ["192.0.2.1", "router.example"])
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(made.host)
    trusting = ssl.create_default_context(cafile=made.authority)
    one, other = socket.socketpair()

    def serve() -> None:
        # the client has its reasons to go
        try:
            serving.wrap_socket(one, server_side=True).close()
        except OSError:
            one.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        trusting.wrap_socket(other, server_hostname=name).close()
    finally:
        other.close()
        thread.join()


@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", "::1", "192.0.2.1", "router.example"]
)
def test_clients_trust_all_names_of_the_host(tmp_path: Path, name: str) -> None:
    handshake(tmp_path / "tls", name)


def test_clients_trust_no_other_name(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path / "tls", "other.example")


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    directory = tmp_path / "tls"
    certificates.ensure(directory, [])
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()
    }
    assert modes == {"ca.pem": 0o644, "ca.key": 0o600, "host.pem": 0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_what_is_good_is_kept(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, ["192.0.2.1"])
    before = contents(tmp_path)
    certificates.ensure(tmp_path, ["192.0.2.1"])
    certificates.ensure(tmp_path, [])
    assert contents(tmp_path) == before


def test_the_hosts_is_renewed_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates.ensure(tmp_path, [])
    before = contents(tmp_path)
    assert not certificates.ends_soon(tmp_path)
    later(monkeypatch, certificates.HOST_VALID - certificates.MARGIN)
    later(monkeypatch, datetime.timedelta(seconds=1))
    assert certificates.ends_soon(tmp_path)
    certificates.ensure(tmp_path, [])
    after = contents(tmp_path)
    assert after["ca.pem"] == before["ca.pem"]
    assert after["host.pem"] != before["host.pem"]
    assert not certificates.ends_soon(tmp_path)


def test_nothing_ends_where_nothing_is(tmp_path: Path) -> None:
    assert not certificates.ends_soon(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("spoil", "renewed"),
    [
        (lambda place: (place / "host.pem").write_text("half"), {"host.pem"}),
        (lambda place: (place / "host.pem").unlink(), {"host.pem"}),
        (lambda place: (place / "ca.key").write_text(""), {"ca.key", "ca.pem"}),
        (lambda place: (place / "ca.pem").unlink(), {"ca.key", "ca.pem"}),
    ],
)
def test_what_is_damaged_is_made_again(
    tmp_path: Path, spoil: object, renewed: set[str]
) -> None:
    certificates.ensure(tmp_path, [])
    before = contents(tmp_path)
    spoil(tmp_path)  # type: ignore[operator]
    certificates.ensure(tmp_path, [])
    after = contents(tmp_path)
    changed = {name for name, data in after.items() if data != before[name]}
    # the host's goes with its authority
    assert changed == renewed | {"host.pem"}
    handshake(tmp_path, "localhost")


def test_another_name_is_added(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, [])
    before = contents(tmp_path)
    handshake(tmp_path, "192.0.2.1")
    assert contents(tmp_path)["ca.pem"] == before["ca.pem"]


def test_a_place_that_takes_nothing_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "tls").touch()
    with pytest.raises(EngineError, match=r"cannot write certificates to .*tls: "):
        certificates.ensure(tmp_path / "tls", [])
